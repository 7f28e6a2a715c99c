"""What each fault does to the organisation. Each says in words what it hit; some are taken back after a while."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from org import files
from storm.disk import Disk
from storm.place import AGENTS, CALL_S, OFFLINE, PERSON, READERS, Place
from storm.schedule import Fault

OLD_S = 3600.0  # of a lock that a killed git left: nobody waits so long to find it
PASSING = ("runner", "guard", "trainer", "git")  # there is not always one
LOOK_S = 4.0
TRAIN_KNOB = "MATRIX_LR"


@dataclass
class Storm:
    """Does what the schedule says to `place`. `notes`: what came of commands that ended meanwhile."""

    place: Place
    disk: Disk
    senders: dict[str, subprocess.Popen[bytes]]
    running: list[tuple[str, subprocess.Popen[str]]]
    notes: list[str]
    late: list[Callable[[], None]] = field(default_factory=list)  # what is put back when the storm is over

    def hit(self, fault: Fault) -> tuple[str, Callable[[], None] | None]:
        """(what was hit, how to take it back)."""
        do = getattr(self, f"_{fault.kind}")
        said, undo = do(fault)
        return f"{fault}: {said}", undo

    def reap(self) -> None:
        """Commands that ended, or did not: each must, whatever else happens."""
        for item in list(self.running):
            name, child = item
            if child.poll() is None:
                continue
            self.running.remove(item)
            out = child.stdout.read().strip() if child.stdout else ""
            self.notes.append(f"{name} ended with {child.returncode}: {(out.splitlines() or ['no output'])[-1][:160]}")
            if "Traceback" in out:
                self.notes.append(out[-3000:])

    # --- processes

    def _kill(self, fault: Fault) -> tuple[str, None]:
        pid = self._one(fault)
        if pid is None:
            return "nobody is there", None
        if fault.target == "office":  # and not what asks it to end by itself
            os.kill(pid, signal.SIGKILL)
            return f"pid {pid}", None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return f"pid {pid}", None

    def _freeze(self, fault: Fault) -> tuple[str, Callable[[], None] | None]:
        pid = self._one(fault)
        if pid is None:
            return "nobody is there", None
        self.place.frozen.add(pid)

        def thaw() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self.place.frozen.discard(pid)

        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            self.place.frozen.discard(pid)
            return "it had ended", None
        return f"pid {pid}", thaw

    def _one(self, fault: Fault) -> int | None:
        if fault.target == "sender":
            found = [sender.pid for sender in self.senders.values() if sender.poll() is None]
        else:
            found = self.place.of_part(fault.target)
        if not found and fault.target in PASSING:
            found = _until(lambda: self.place.of_part(fault.target))
        return _pick(found, fault.pick)

    # --- disk and files

    def _full(self, fault: Fault) -> tuple[str, Callable[[], None]]:
        return self.disk.fill(), self.disk.free

    def _remove(self, fault: Fault) -> tuple[str, Callable[[], None] | None]:
        home = self.place.home
        match fault.target:
            case "worktree":
                path = _pick([home.worktree(name) for name in AGENTS], fault.pick)
            case "mailbox":
                path = _pick([home.mailbox(name) for name in (*AGENTS, "human")], fault.pick)
            case "seat":
                path = _pick([home.seat(name) for name in (*OFFLINE, *READERS)], fault.pick)
            case "running run":
                found = _until(lambda: [p for p in home.experiments.glob("E*/runs/*") if files.is_locked(p / "lock")])
                path = _pick(sorted(found), fault.pick)
            case _:
                ended = [p.parent for p in sorted(home.experiments.glob("E*/runs/*/result.json"))]
                ended = [p for p in ended if not files.is_locked(p / "lock")]
                path = _pick(ended[-20:], fault.pick)
        if path is None:
            return "there is none yet", None
        target = self.place.take(path)
        if target is None:
            return f"{path.name} was not there", None
        name = path.relative_to(home.root)
        if fault.target == "running run":
            self.late.append(lambda: self._put_back(target, path))
        if fault.target != "run":
            return str(name), None
        return f"{name}, and put back", lambda: self._put_back(target, path)

    def _put_back(self, target: Path, path: Path) -> None:
        """A run's folder is the evidence of its result: who lost it has to find it again. What its runner wrote since stays."""
        for found in target.iterdir():
            place = path / found.relative_to(target)
            if found.is_file() and not found.is_symlink() and not place.exists():
                try:
                    path.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(found, place)
                except OSError:  # the disk is full just now: who puts a folder back tries until it is back
                    place.unlink(missing_ok=True)
                    self.late.append(lambda: self._put_back(target, path))
                    return

    def _tear(self, fault: Fault) -> tuple[str, None]:
        home, name = self.place.home, AGENTS[int(fault.pick * len(AGENTS))]
        one = {"pane": home.seat_pane(name), "state": home.seat_state(name), "bell": home.bell(name)}
        one |= {"identity": home.seat_file(name), "org": home.org_file}
        one |= {"entry": home.hub / "worktrees" / name / "commondir"}  # what a git killed in `worktree add` leaves
        half = {"ledger": home.ledger, "events": home.events, "seat-events": home.seat_events(name)}
        if fault.target in half:
            path = half[fault.target]
            return f"half a line in {path.relative_to(home.root)}", _append_half(path)
        if fault.target == "status":
            found = [
                p
                for p in sorted(home.experiments.glob("E*/runs/*/status.json"))
                if files.is_locked(p.with_name("lock"))
            ]
            path = _pick(found, fault.pick) or home.office_notes
        else:
            path = one.get(fault.target, home.office_notes)
        try:
            with path.open("r+b") as file:  # the file that is there: one that went away meanwhile is not made again
                length = len(file.read())
                left = 0 if fault.target == "entry" else int(length * fault.pick)
                file.truncate(left)
        except OSError as error:
            return f"{path.name} could not be cut: {error.strerror}", None
        return f"{path.relative_to(home.root)} cut to {left} of {length} bytes", None

    def _lock(self, fault: Fault) -> tuple[str, None]:
        home, name = self.place.home, _pick(AGENTS, fault.pick)
        path = {
            "hub-index": home.hub / "worktrees" / str(name) / "index.lock",
            "hub-refs": home.hub / "packed-refs.lock",
            "hub-config": home.hub / "config.lock",
            "record-refs": home.record / "refs" / "heads" / "ledger.lock",
        }[fault.target]
        try:
            path.touch()
            past = time.time() - OLD_S
            os.utime(path, (past, past))
        except OSError as error:
            return f"{path.name} could not be made: {error.strerror}", None
        return f"{path.relative_to(home.root)}, an hour old", None

    # --- people and their commands

    def _launch(self, fault: Fault) -> tuple[str, None]:
        children = [self._command("launch", "--detach") for _ in range(3)]
        if fault.target == "killed":
            time.sleep(fault.pick * 2)
            for child in children[:2]:
                child.kill()
            return f"three at once, two of them killed after {fault.pick * 2:.1f} s", None
        return "three at once", None

    def _hold(self, fault: Fault) -> tuple[str, Callable[[], None]]:
        name = AGENTS[int(fault.pick * len(AGENTS))]
        self._command("hold", name)
        return name, lambda: self._let_go(name)

    def _let_go(self, name: str) -> None:
        self._command("hold", name, "--off")

    def _stop(self, fault: Fault) -> tuple[str, None]:
        name = AGENTS[int(fault.pick * len(AGENTS))]
        self._command("stop", name)
        return name, None

    def _run(self, fault: Fault) -> tuple[str, None]:
        """A person turns a knob, leaves a note beside it and files both, in the foreground."""
        path = self.place.home.worktree(PERSON) / "train.py"
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            return f"no worktree: {error.strerror}", None
        value = round(0.006 + 0.1 * fault.pick, 5)
        lines = [f"{TRAIN_KNOB} = {value}" if line.startswith(f"{TRAIN_KNOB} =") else line for line in lines]
        with contextlib.suppress(OSError):
            files.replace(path, "\n".join(lines) + "\n")
            self.place.plant(path, is_append=True)
        child = self._command("--seat", PERSON, "run", "-m", f"a step of {value} by hand")
        if fault.target == "person":
            return f"{TRAIN_KNOB} = {value}", None
        time.sleep(fault.pick * 3)
        child.kill()
        return f"{TRAIN_KNOB} = {value}, killed after {fault.pick * 3:.1f} s", None

    def _send(self, fault: Fault) -> tuple[str, None]:
        to = (*READERS, "human", "chief")[int(fault.pick * 4)]
        child = self._command("send", to, f"by the command {fault.pick}")
        if fault.pick < 0.5:
            time.sleep(fault.pick)
            child.kill()
        return to, None

    def _command(self, *words: str) -> subprocess.Popen[str]:
        child = self.place.start(*words)
        self.running.append((f"`org {' '.join(words)[:60]}`", child))
        return child


def plant(place: Place, dice: random.Random) -> None:
    """Somebody works in a worktree, and files nothing: notes anywhere, and edits where no program of ours edits too."""
    name = dice.choice((*AGENTS, PERSON))
    place.plant(place.home.worktree(name) / "notes" / f"idea {place.count}.txt")
    place.plant(place.home.worktree(dice.choice(READERS)) / "train.py", is_append=True)


def end_commands(storm: Storm, limit_s: float = CALL_S) -> list[str]:
    """Wait for every command of the storm; those that do not end are a violation."""
    end = time.monotonic() + limit_s
    while storm.running and time.monotonic() < end:
        storm.reap()
        time.sleep(0.1)
    late = [f"{name} did not end within {limit_s:g} s" for name, _ in storm.running]
    for _, child in storm.running:
        child.kill()
    return late


def _append_half(path: Path) -> None:
    """What a writer that ran out of disk leaves: the beginning of a line."""
    with contextlib.suppress(OSError), path.open("ab") as file:
        file.write(b'{"seq": 99999, "kind": "result", "t')


def _until(look: Callable[[], list[Any]]) -> list[Any]:
    """What `look` finds, looked for a while."""
    end = time.monotonic() + LOOK_S
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def _pick(found: Sequence[Any], pick: float) -> Any:
    return found[int(pick * len(found))] if found else None
