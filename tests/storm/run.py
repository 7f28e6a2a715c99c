"""One seed from its launch to the last invariant: the storm, the recovery after each step, the calm after it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from waiting import wait_for
from whole import age

from org.errors import OrgError
from org.home import Home
from org.lab import dispatch, ledger
from org.world import process
from storm import faults, invariants, schedule
from storm.disk import Disk, may_mount
from storm.place import PERSON, SENDERS, Place, command_of, missing
from storm.watch import Watch

RECOVER_S = 30.0
ALONE_S = 4.0  # so long the office may bring things back by itself before somebody types `org launch`
LAST_RUN_S = 180.0
CALM_S = 120.0


class Violation(Exception):
    """Something is not as it must be, and going on would only hide it."""


class Run:
    """`all` does everything and returns the row that is kept of it."""

    def __init__(
        self, seed: int, seconds: float, folder: Path, kinds: Sequence[str], recover_s: float, mounts: bool
    ) -> None:
        self.seed, self.seconds, self.folder, self.recover_s = seed, seconds, folder, recover_s
        self.kinds = kinds
        where = folder / "disk"
        where.mkdir(parents=True, exist_ok=True)
        self.disk = Disk(where, mounts and may_mount(), lambda: self.place.marked())
        self.place = Place(folder, where, seed)
        self.home: Home = self.place.home
        self.watch = Watch(self.place)
        self.senders: dict[str, subprocess.Popen[bytes]] = {}
        self.storm = faults.Storm(self.place, self.disk, self.senders, [], [])
        self.dice = random.Random(f"plant {seed}")
        self.undo: list[tuple[float, str, Callable[[], None]]] = []
        self.history: list[str] = []
        self.problems: list[str] = []
        self.faults = 0
        self.slowest_s = 0.0
        self.began = time.monotonic()

    def all(self) -> dict[str, Any]:
        self.say(f"seed {self.seed}, {self.seconds / 60:g} min, home {self.home.root}; a full disk is {self.disk.kind}")
        kept = ""
        try:
            try:
                self.begin()
                self.storms()
                self.calm()
            except (Violation, AssertionError) as violation:
                self.problem(str(violation))
            except Exception as error:  # noqa: BLE001 - a bug of the storm is a result too, and what it left is kept
                self.problem(f"{type(error).__name__}: {error}\n{traceback.format_exc()[-2000:]}")
            if self.problems:
                kept = self.keep()
        finally:
            self.end()
        tried, _ = self.sent()
        book = ledger.read(self.home) if self.home.ledger.exists() else None
        row = {"seed": self.seed, "minutes": round(self.seconds / 60, 2), "problems": self.problems}
        row |= {"faults": self.faults, "letters": len(tried), "looks": self.watch.looks, "kept": kept}
        row |= {"results": len(book.results) if book else 0, "slowest_s": round(self.slowest_s, 1)}
        if self.problems:
            row["history"] = self.history
        return row

    # --- the three parts

    def begin(self) -> None:
        self.place.make()
        code, said = self.place.org(*self.place.launch_words())
        if code:
            raise Violation(f"the first launch ended with {code}: {said[-500:]}")
        code, said = self.place.org("seat", PERSON)
        if code:
            raise Violation(f"`org seat {PERSON}` ended with {code}: {said[-500:]}")
        self.say("launched")
        self.watch.start()
        self.keep_sending()

    def storms(self) -> None:
        end = time.monotonic() + self.seconds
        for step in schedule.steps(self.seed, self.kinds):
            if time.monotonic() > end:
                return
            self.pass_s(step.pause_s)
            faults.plant(self.place, self.dice)
            for fault in step.faults:
                self.faults += 1
                said, undo = self.storm.hit(fault)
                self.say(f"{step.number:3} {said}")
                if undo is not None:
                    self.undo.append((time.monotonic() + fault.for_s, str(fault), undo))
                self.pass_s(step.gap_s)
            while self.undo:
                self.pass_s(0.05)
            self.recover()
            if self.watch.problems:
                raise Violation("; ".join(self.watch.problems))

    def calm(self) -> None:
        """Everything that was begun ends; the organisation still works; then nothing runs, and all of it is looked at."""
        self.say("the storm is over")
        self.problems += faults.end_commands(self.storm)
        self.tell()
        self.end_senders()
        self.recover()
        self.last_run()
        self.watch.end()
        self.problems += self.watch.problems
        self.stop()
        for put_back in self.storm.late:
            put_back()
        age(self.home)
        self.launch_and_stop()
        self.problems += self.looked_at()

    def looked_at(self) -> list[str]:
        tick(self.home)
        home, trash = self.home, self.place.trash
        found = [f"pid {pid} lives on" for pid in self.place.marked()]
        found += invariants.whole(home)
        found += invariants.results(home)
        found += invariants.letters(home, trash, *self.sent())
        found += invariants.read_once(self.place.read, trash)
        found += invariants.planted(home, trash, self.place.planted)
        found += invariants.repositories(home.hub, home.record)
        found += invariants.documents(home)
        self.say(f"looked at: {len(self.place.planted)} pieces of unfiled work, {self.watch.looks} looks")
        return found

    # --- while it goes on

    def pass_s(self, seconds: float) -> None:
        """Let time pass; what is due to be taken back meanwhile is."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            for item in [item for item in self.undo if item[0] <= now]:
                self.undo.remove(item)
                item[2]()
            self.storm.reap()
            self.keep_sending()
            self.tell()
            if now >= end:
                return
            time.sleep(min(0.05, end - now))

    def tell(self) -> None:
        while self.storm.notes:
            text = self.storm.notes.pop(0)
            self.say(f"    {text}")
            if "Traceback" in text:
                self.problem(f"a command ended with a traceback: {text}")

    def keep_sending(self) -> None:
        for name in SENDERS:
            if name not in self.senders or self.senders[name].poll() is not None:
                self.senders[name] = self.place.sender(name)

    def recover(self) -> None:
        """Everything is back within the limit, by the office itself or by `org launch`."""
        began = time.monotonic()
        launches, said = 0, ""
        while why := missing(self.place):
            passed = time.monotonic() - began
            if passed > self.recover_s:
                raise Violation(f"not back within {self.recover_s:g} s: {why}; `org launch` said: {said[-600:]}")
            if passed < ALONE_S:
                self.pass_s(0.2)
                continue
            launches += 1
            code, said = self.place.org("launch", "--detach", limit_s=self.recover_s + 60)
            if "Traceback" in said:
                self.problem(f"`org launch` ended with {code} and a traceback: {said[-3000:]}")
            self.say(f"    {why}: `org launch` ended with {code}: {(said.splitlines() or [''])[-1][:200]}")
            self.pass_s(0.2)
        took = time.monotonic() - began
        self.slowest_s = max(self.slowest_s, took)
        if took > self.recover_s:
            raise Violation(f"back after {took:.1f} s only; `org launch` said: {said[-600:]}")
        if took > 1:
            self.say(f"    back after {took:.1f} s{f' and {launches} launches' if launches else ' by itself'}")

    def last_run(self) -> None:
        """The organisation is not only there, it works: a person's experiment gets its verdict."""
        code, said = self.place.org("seat", PERSON, "--sync")
        if code:
            raise Violation(f"`org seat {PERSON} --sync` ended with {code}: {said[-500:]}")
        path = self.home.worktree(PERSON) / "train.py"
        text = path.read_text()
        at = text.index("MATRIX_LR = ")
        value = 0.12 + self.dice.random() / 100
        path.write_text(text[:at] + f"MATRIX_LR = {value:.5f}" + text[text.index("\n", at) :])
        code, said = self.place.org("--seat", PERSON, "run", "-m", "the last one", "--no-wait")
        if code:
            raise Violation(f"after the storm `org run` ended with {code}: {said[-500:]}")
        name = said.split()[0]
        wait_for(lambda: name in ledger.read(self.home).verdicts, LAST_RUN_S, f"a verdict of {name} after the storm")
        self.say(f"after the storm {name} was filed and judged")

    def stop(self) -> None:
        for _ in range(2):
            code, said = self.place.org("stop")
            if code:
                raise Violation(f"`org stop` ended with {code}: {said[-1000:]}")
        self.say(f"stopped: {said.splitlines()[-1]}")
        if left := self.place.marked():
            raise Violation(f"`org stop` left {[command_of(pid) for pid in left]}")

    def launch_and_stop(self) -> None:
        """Days later somebody launches it again: what was left half made goes then."""
        code, said = self.place.org("launch", "--detach")
        if code:
            raise Violation(f"the launch after the stop ended with {code}: {said[-1000:]}")
        self.recover()
        self.stop()

    def end_senders(self) -> None:
        for name, sender in self.senders.items():
            sender.terminate()
            try:
                sender.wait(CALM_S)
            except subprocess.TimeoutExpired:
                raise Violation(f"the sender {name} does not end") from None
        for name in SENDERS:
            if self.place.sender(name, finish=True).wait(CALM_S):
                raise Violation(f"letters of {name} are refused after the storm: see {self.place.sent(name)}")

    # --- what is known of it

    def sent(self) -> tuple[dict[str, Any], dict[str, list[str]]]:
        return invariants.merged(self.place.sent(name) for name in SENDERS)

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.began:7.1f} s  {text}"
        self.history.append(line)
        print(line, flush=True)

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.say(f"VIOLATION: {text}")

    def keep(self) -> str:
        """Copy what a person wants to look at out of the disk that goes with this process."""
        target = self.folder / "kept"
        for _, _, undo in self.undo:
            undo()
        self.disk.free()
        try:
            self.place.keep(target)
        except OSError as error:
            self.say(f"not all of the home could be kept: {str(error)[:200]}")
        (self.folder / "history.txt").write_text("\n".join(self.history) + "\n")
        return str(target)

    def end(self) -> None:
        """Nothing of it lives on, whatever happened."""
        for sender in self.senders.values():
            sender.kill()
            sender.wait()
        for _, child in self.storm.running:
            child.kill()
        self.disk.free()
        process.kill_all(self.place.marked, limit_s=20)
        self.home_socket().unlink(missing_ok=True)
        sys.stdout.flush()

    def home_socket(self) -> Path:
        from org.world import tmux

        return tmux.Server(self.home.socket).socket


def tick(home: Home) -> None:
    """What a dispatcher does first, by which an ended run of a killed runner gets its line."""
    try:
        dispatch.Dispatcher(home).tick(allow_new=False)
    except OrgError as error:
        raise Violation(f"a dispatcher cannot begin: {error}") from None
