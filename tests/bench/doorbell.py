"""What a doorbell costs and what it never does: rung once each, no byte under a person's hand, nothing of a body typed.

scripts/bench doorbell [--doorbells 1000] [--attempts 500] [--latencies 100] [--kills 20] [--only storm,…] [--json]

A tiny home, a real office and fake terminal agents for each measure; some 20 minutes with these counts. A row's `faults`
are sentences about what the agents' own files say.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ["PYTHONPATH"] = str(ROOT)  # the office and what it starts
    for name in [n for n in os.environ if n.startswith("ORG_")]:
        del os.environ[name]

from agents.hostile import bodies
from agents.person import Person
from agents.stage import CALM, STORM, Stage, shuffled
from agents.terminal import tell
from waiting import wait_for
from whole import kill_office

from org.team import mail, states

DELIVERED_S = 10.0  # after a person has let go
PERSONS = ("typing", "draft", "erased", "copy mode", "prefix", "detached")
DIALOGS = CALM + " --swallow 0.25 --busy 0.1 --dialog 0.15 --limit 0.05 --longest 1.2"  # a stalled program opens none
OTHERS = ("hold", "hold verb", "scrolled", "dialog")
Row = dict[str, Any]


def rows(**counts: int) -> list[Row]:
    """Every measure after the other, each in a home of its own. counts: the options of the command, by name."""
    options = arguments([word for name, value in counts.items() for word in (f"--{name}", str(value))])
    return [row for measure in measures(options).values() for row in in_a_folder(measure)]


def measures(options: argparse.Namespace) -> dict[str, Callable[[Path], list[Row]]]:
    return {
        "latency": lambda root: [latency(root, options.latencies)],
        "storm": lambda root: [storm(root, options.doorbells, options.seed)],
        "dialogs": lambda root: [storm(root, options.doorbells // 4, options.seed, options=DIALOGS)],
        "killed": lambda root: [killed(root, max(40, options.doorbells // 4), options.kills, options.seed)],
        "hostile": lambda root: [hostile(root)],
        "spells": lambda root: spells(root, options.attempts, options.seed),
        "collisions": lambda root: [collisions(root, max(5, options.attempts // 25), options.seed)],
    }


def in_a_folder(measure: Callable[[Path], list[Row]]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="org-bell-") as folder:
        return measure(Path(folder))


# --- many letters ------------------------------------------------------------------------------------------------


def storm(root: Path, letters: int, seed: int = 1, seats: int = 8, senders: int = 4, options: str = STORM) -> Row:
    """Letters of several senders to agents that stall and lose Enters: each in exactly one line, and no two merged."""
    with Stage(root, seats, options.format(seed=seed)) as stage:
        began = time.monotonic()
        sent = stage.sent_by(stage.send_all(senders, letters, seed, pause_s=0.15))
        unread = stage.wait_read(60 + letters / 5)
        wall_s = time.monotonic() - began
        time.sleep(3)  # whatever would be rung once more
        return heard("dialogs" if "dialog" in options else "storm", stage, sent, unread) | {"wall_s": round(wall_s, 1)}


def killed(root: Path, letters: int, kills: int, seed: int = 1, seats: int = 4) -> Row:
    """The same while the office is killed at random moments and launched again."""
    chance = random.Random(f"kills {seed}")
    with Stage(root, seats, STORM.format(seed=seed)) as stage:
        senders = stage.send_all(4, letters, seed, pause_s=max(0.2, kills * 8 / letters))
        done = 0
        for _ in range(kills):
            time.sleep(chance.uniform(0.05, 2.5))
            done += kill_office(stage.home) is not None
            time.sleep(chance.uniform(0, 0.5))
            stage.launch()
        sent = stage.sent_by(senders)
        unread = stage.wait_read(60 + letters / 5)
        time.sleep(3)
        return heard("killed", stage, sent, unread) | {"kills": done}


def heard(name: str, stage: Stage, sent: dict[str, set[str]], unread: list[str]) -> Row:
    faults = _of_unread(unread)
    enters = lines = 0
    for seat in stage.seats:
        it = stage.heard(seat)
        faults += it.faults(sent.get(seat, set()))
        lines += len(it.lines)
        enters += it.bytes.count(b"\r")
    total = sum(map(len, sent.values()))
    return {"measure": name, "letters": total, "lines": lines, "enters": enters, "faults": faults}


def _of_unread(letters: list[str]) -> list[str]:
    return [f"{len(letters)} letters are still unread"] if letters else []


def latency(root: Path, letters: int) -> Row:
    """Seconds from just before a letter is sent to an idle pane until its line was submitted there."""
    chance, found = random.Random("latency"), []
    with Stage(root, 1, "--burst") as stage:
        it = stage.heard("j1")
        for number in range(letters + 1):
            time.sleep(chance.uniform(0.2, 0.7))
            began = time.monotonic()
            [letter] = mail.send(stage.home, "human", "j1", f"number {number}")
            wait_for(lambda one=letter: it.named()[one.id], 90, "the line to be submitted")
            found += [row["mono"] - began for row in it.lines if letter.id in row["text"]][:1]
            wait_for(lambda: not stage.unread(), 60, "the letter to be read")
    found = found[1:]  # the first waits for the launch to be over
    p95 = quantiles(found, n=20)[-1] if len(found) > 1 else found[0]
    return {"measure": "latency", "letters": len(found), "p50_s": round(median(found), 4), "p95_s": round(p95, 4),
            "max_s": round(max(found), 4), "faults": []}  # fmt: skip


def hostile(root: Path) -> Row:
    """Bodies that could hurt a terminal or a shell: rung for, byte-equal in the mailbox, and not a byte of them typed."""
    mark = root / "executed"
    with Stage(root, 2, "--burst") as stage:
        faults, sent = [], {}
        for body in bodies(mark):
            [letter] = mail.send(stage.home, "human", "j1", body)
            sent[letter.id] = body
        faults += _of_unread(stage.wait_read())
        time.sleep(1)
        for letter_id, body in sent.items():
            kept = next(stage.home.mailbox("j1").glob(f"*/{letter_id}.md")).read_bytes()
            if not kept.endswith(b"\n---\n" + body.encode()):
                faults.append(f"the file has changed {body[:60]!r}")
            read = mail.find(stage.home, "j1", letter_id)
            if read is None or read.body != body:
                faults.append(f"the reader was given something else than {body[:60]!r}")
        faults += stage.heard("j1").faults(set(sent)) + stage.heard("j2").faults(set())
        faults += ["a command of a body was executed"] if mark.exists() else []
        return {"measure": "hostile", "letters": len(sent), "lines": len(stage.heard("j1").lines), "faults": faults}


# --- a person's panes --------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of the attempts of one kind."""

    attempts: int = 0
    strays: int = 0
    delays: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Spells:
    """Letters are sent while a pane is somebody's; not one byte may come until it is free, and then they do soon."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.chance = stage, random.Random(f"spells {seed}")
        self.tallies: dict[str, Tally] = {kind: Tally() for kind in (*PERSONS, *OTHERS)}
        self.sent: dict[str, set[str]] = {seat: set() for seat in stage.seats}
        self.typed: dict[str, bytes] = dict.fromkeys(stage.seats, b"")
        self.lines: dict[str, list[str]] = {seat: [] for seat in stage.seats}
        self.person = Person(stage.home.socket, seed=seed, pause_s=(0.03, 0.2))

    def round(self, kind: str, others: list[str], letters: int) -> int:
        """One spell of the person and, at the same time, one in every other pane; the number of letters."""
        mine, *rest = shuffled(self.stage.seats, self.chance.random())
        plans = [(seat, what, letters, self.chance.uniform(1, 6)) for seat, what in zip(rest, others, strict=False)]
        seconds = self.chance.choice([self.chance.uniform(1.5, 5), states.HUMAN_S + 3])
        with ThreadPoolExecutor(max(1, len(plans))) as pool:
            work = [pool.submit(self.other, *plan) for plan in plans]
            self.own(mine, kind, 2 * letters, seconds)
            for one in work:
                one.result()
        return letters * (2 + len(plans))

    def own(self, seat: str, kind: str, letters: int, seconds: float) -> None:
        """The person's: they come to the pane, do something there, and let go of it."""
        person, it = self.person, self.stage.heard(seat)
        if person.client is None:
            person.attach()
        person.select(self.stage.pane(seat))
        before, keys, lines = len(it.bytes), len(person.keys), len(person.lines)

        def typed() -> bytes:
            return b"".join(key.data for key in person.keys[keys:] if not key.is_for_tmux)

        def has_all() -> bool:
            return len(it.bytes) - before >= len(typed())

        if kind == "copy mode":
            person.copy_mode()
        elif kind == "prefix":
            person.hold_prefix()
        else:
            person.type("I ")
            wait_for(has_all, 60, "the first keys to be read")
        poster = self.post(seat, letters, seconds)
        if kind in ("copy mode", "prefix"):
            person.stand_still(seconds)
        else:
            person.write_a_draft(min(seconds, 5.0))
        poster.join()
        if kind == "draft":  # they walk away from it, and come back
            person.stand_still(states.HUMAN_S + 3)
        wait_for(has_all, 60, "the draft to be read")
        self.count(kind, letters, it.bytes[before:], typed())
        if kind == "copy mode":
            person.leave_copy_mode()
        elif kind == "prefix":
            person.release_prefix()
        elif kind == "erased":
            person.backspace(len(person.draft))
        else:
            person.submit()
        if kind == "detached":
            person.detach()
        self.typed[seat] += typed()
        self.lines[seat] += person.lines[lines:]
        self.wait(seat, kind, person.last_key.mono)

    def other(self, seat: str, kind: str, letters: int, seconds: float) -> None:
        """A pane that is held, scrolled by somebody who is not looking at it any more, or at a dialog."""
        stage, it = self.stage, self.stage.heard(seat)
        held, pane = stage.home.held(seat), stage.pane(seat)
        before = len(it.bytes)
        if kind == "scrolled":
            stage.tmux("copy-mode", "-t", pane)
        elif kind == "hold verb":
            stage.hold(seat, True)
        elif kind == "dialog":
            tell(it.folder, "dialog")
            wait_for(lambda: it.rows("events.jsonl")[-1]["event"] == "asking", 60, "the dialog")
            time.sleep(1.0)  # the office hears of it when it can; what comes at the very moment is no promise
        else:
            held.touch()
        poster = self.post(seat, letters, seconds)
        time.sleep(seconds)
        poster.join()
        self.count(kind, letters, it.bytes[before:], b"")
        released = time.monotonic()
        if kind == "scrolled":
            stage.tmux("send-keys", "-t", pane, "-X", "cancel")
        elif kind == "hold verb":
            stage.hold(seat, False)
        elif kind == "dialog":
            tell(it.folder, "clear")
        else:
            held.unlink()
        self.wait(seat, kind, released)

    def post(self, seat: str, letters: int, seconds: float) -> threading.Thread:
        """Send the letters at random moments of the next `seconds`; in a thread, which has ended once they are sent."""
        moments = sorted(random.Random(str(self.chance.random())).uniform(0, seconds * 0.9) for _ in range(letters))

        def send() -> None:
            began = time.monotonic()
            for moment in moments:
                time.sleep(max(0.0, began + moment - time.monotonic()))
                self.sent[seat].add(mail.send(self.stage.home, "human", seat, "when you are free")[0].id)

        thread = threading.Thread(target=send)
        thread.start()
        return thread

    def count(self, kind: str, letters: int, got: bytes, typed: bytes) -> None:
        tally = self.tallies[kind]
        tally.attempts += letters
        if got != typed:
            tally.strays += max(1, len(got) - len(typed))
            tally.faults.append(f"{kind}: the pane got {got[-300:]!r} while {typed[-300:]!r} was typed")

    def wait(self, seat: str, kind: str, released: float) -> None:
        """Until every letter of the seat stands in a submitted line, and was read."""
        it, tally = self.stage.heard(seat), self.tallies[kind]
        try:
            wait_for(lambda: not self.sent[seat] - it.named().keys(), 60, "delivery", 0.1)
            wait_for(lambda: not self.stage.unread([seat]), 60, "reading", 0.05)
        except AssertionError:
            tally.faults.append(f"{kind}: {seat} was not told of its letters within 60 s of the release")
            return
        delay = max(row["mono"] for row in it.lines) - released
        tally.delays.append(delay)
        if delay > DELIVERED_S:
            tally.faults.append(f"{kind}: {seat} was told {delay:.1f} s after the release")


def collisions(root: Path, times: int, seed: int = 1) -> Row:
    """A person begins to type in an idle pane at the very moment at which a letter comes. `glued`: of so many times the
    person's line and the office's went in as one."""
    chance = random.Random(f"collisions {seed}")
    sent: set[str] = set()
    with Stage(root, 1, "--burst") as stage, Person(stage.home.socket, seed=seed, pause_s=(0.03, 0.1)) as person:
        it = stage.heard("j1")
        person.select(stage.pane("j1"))
        glued = 0
        for _ in range(times):
            time.sleep(states.HUMAN_S + 1.5)
            begins = chance.uniform(-0.05, 0.25)  # after the letter
            lines, count, before = len(person.lines), len(it.lines), len(it.bytes)
            sender = threading.Timer(
                max(0.0, -begins), lambda: sent.add(mail.send(stage.home, "human", "j1", "one moment")[0].id)
            )
            sender.start()
            time.sleep(max(0.0, begins))
            person.type("a word of mine")
            sender.join()
            person.submit()
            wait_for(lambda: not sent - it.named().keys() and not stage.unread(), 60, "delivery", 0.1)
            wait_for(lambda at=before: it.bytes.count(b"mine\r", at), 60, "the person's line")
            time.sleep(0.3)
            got = [row["text"] for row in it.lines[count:]]
            glued += person.lines[lines] not in got
        return {"measure": "collisions", "times": times, "glued": glued,
                "faults": it.faults(sent, person.typed, person.lines)}  # fmt: skip


def spells(root: Path, attempts: int, seed: int = 1, seats: int = 8, kinds: tuple[str, ...] = PERSONS) -> list[Row]:
    """A row for each way to be in the way of a doorbell, and one for what the panes got in all."""
    with Stage(root, seats, "--burst --turn 0.02") as stage:
        work = Spells(stage, seed)
        for seat in stage.seats:  # the office is at work, and has seen each pane at rest
            work.sent[seat].add(mail.send(stage.home, "human", seat, "good morning")[0].id)
        assert stage.wait_read() == []
        done, number, share = 0, 0, 2 if attempts > 100 else 1
        order: list[str] = []
        while done < attempts or number < len(kinds):
            order = order or shuffled(kinds, f"{seed} {number}")
            others = [work.chance.choice(OTHERS) for _ in range(seats - 1)]
            done += work.round(order.pop(), others, share)
            number += 1
            print(f"{done} of {attempts} attempts", file=sys.stderr, flush=True)
        work.person.close()
        time.sleep(2)
        found: list[Row] = []
        for kind, tally in work.tallies.items():
            if tally.attempts:
                times = sorted(tally.delays) or [float("nan")]
                found.append(
                    {"measure": "spell", "kind": kind, "attempts": tally.attempts, "strays": tally.strays,
                     "p50_s": round(median(times), 2), "max_s": round(times[-1], 2), "faults": tally.faults}
                )  # fmt: skip
        faults = []
        for seat in stage.seats:
            faults += stage.heard(seat).faults(work.sent[seat], work.typed[seat], work.lines[seat])
        total = sum(tally.attempts for tally in work.tallies.values())
        return [*found, {"measure": "spells", "attempts": total, "rounds": number, "faults": faults}]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--doorbells", type=int, default=1000)
    parser.add_argument("--attempts", type=int, default=500)
    parser.add_argument("--latencies", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", help="latency, storm, dialogs, killed, hostile, spells, collisions; several with commas"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(words)
    unknown = set((options.only or "latency").split(",")) - measures(options).keys()
    if unknown:
        parser.error(f"no measure {min(unknown)!r}; there are {', '.join(measures(options))}")
    return options


def main() -> int:
    options = arguments()
    found = []
    for name, measure in measures(options).items():
        if options.only and name not in options.only.split(","):
            continue
        for row in in_a_folder(measure):
            found.append(row)
            if not options.json:
                faults = row["faults"]
                print(
                    "  ".join(f"{k} {v}" for k, v in row.items() if k != "faults"), f" faults {len(faults)}", flush=True
                )
                for fault in faults[:20]:
                    print(f"    {fault}", flush=True)
    if options.json:
        print(json.dumps({"rows": found}, ensure_ascii=False))
    return 1 if any(row["faults"] for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
