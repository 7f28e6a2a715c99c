"""Letters to a real program at rest, at work, and with a person's half-typed line in its box; what is wrong with what the
model heard. Says nothing of screens: the model server's own record is the truth. Works for any program with a doorbell.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from agents.model_dialogue import REMINDER
from agents.real.stage import RealOrg, bell
from waiting import wait_for

LETTER = re.compile(r"l-\d{6}-\d{6}-[0-9a-z]+")
WORK_S = 3.0  # how long the model is busy: a tool call, or a stream
STALL_S = 2.5  # how long the program hardly runs at all, so that text and Enter may reach it in one piece
KINDS = ("idle", "tool", "stream", "draft", "stalled")
HEARD_S = 90.0


@dataclass
class Seat:
    """One seat's part of a measure: what was sent there, and what a person typed."""

    name: str
    letters: list[str] = field(default_factory=list)
    typed: list[str] = field(default_factory=list)
    delays: dict[str, list[float]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def measure(stage: RealOrg, seats: Sequence[str], kinds: Sequence[str]) -> list[Seat]:
    """One delivery for each of `kinds`, dealt to the seats, who work side by side."""
    found = [Seat(name) for name in seats]
    with ThreadPoolExecutor(len(found)) as pool:
        list(pool.map(lambda at: _all(stage, found[at], kinds[at :: len(found)]), range(len(found))))
    for seat in found:
        seat.faults += faults(stage, seat)
    return found


def _all(stage: RealOrg, seat: Seat, kinds: Sequence[str]) -> None:
    for number, kind in enumerate(kinds):
        try:
            deliver(stage, seat, kind, number)
        except AssertionError as error:
            seat.faults.append(f"{seat.name}, {kind} {number}: {error}\n{stage.screen(seat.name)[-1500:]}")
            return  # what comes after it would only say the same


def deliver(stage: RealOrg, seat: Seat, kind: str, number: int) -> None:
    """Until the model has heard of one letter and the program is at rest again."""
    name = seat.name
    turns = stage.ended(name)
    if kind == "tool":
        mark = stage.home.root.parent / f"{name}-{number}.mark"  # within the home the hook denies it
        command = f"python3 -c \"import time; open('{mark}', 'w'); time.sleep({WORK_S})\""
        _type(stage, seat, f"number {number} [[bash: {command}]] [[say: done]]")
        wait_for(mark.exists, 30, "the tool call to begin")
    elif kind == "stream":
        before = len(stage.server.turns(name))
        _type(stage, seat, f"number {number} [[slow: {WORK_S}]] [[say: {'a long answer ' * 20}]]")
        wait_for(lambda: len(stage.server.turns(name)) > before, 30, "the answer to begin")
    draft = f"half a thought, number {number}"
    if kind == "draft":
        stage.tmux("send-keys", "-t", stage.pane(name), "-l", "--", draft)
        wait_for(lambda: draft in stage.screen(name), 10, "the draft to stand there")
    sent = time.time()
    pid = stage.pid(name)
    letter = stage.letter(name).id
    seat.letters.append(letter)
    while kind == "stalled" and time.time() < sent + STALL_S:
        os.kill(pid, signal.SIGSTOP)  # again and again: tmux lets a stopped program go on
        time.sleep(0.002)
    if kind == "stalled":
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: stage.heard(name, letter), HEARD_S, f"the model to hear of {letter}")
    heard = next(row.at for row in stage.server.turns(name) if any(letter in text for _, text in row.texts))
    seat.delays.setdefault(kind, []).append(heard - sent)
    stage.acknowledge(name, letter)
    wait_for(lambda: stage.ended(name) > turns, 60, "the turn to end")
    stage.wait_state(name, "ready", 30)
    if kind == "draft":
        wait_for(lambda: draft in stage.screen(name), 10, "the draft to stand there again")
        turns = stage.ended(name)
        stage.keys(name, "Enter")
        seat.typed.append(draft)
        wait_for(lambda: stage.heard(name, draft), 30, "the model to hear the draft")
        wait_for(lambda: stage.ended(name) > turns, 60, "the turn to end")


def _type(stage: RealOrg, seat: Seat, text: str) -> None:
    """As a person does, who presses Enter again where it got lost: this is not what is measured."""
    seat.typed.append(text)
    before = len(stage.server.turns(seat.name))
    stage.order(seat.name, text)
    for _ in range(10):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            if len(stage.server.turns(seat.name)) > before:
                return
            time.sleep(0.05)
        stage.keys(seat.name, "Enter")
    raise AssertionError("the person's own line was not taken")


def faults(stage: RealOrg, seat: Seat) -> list[str]:
    """Each letter once and in the exact words, each of the person's lines once, and nothing else."""
    told = [text for text in (REMINDER.sub("", text).strip() for text in told_by_people(stage, seat.name)) if text]
    whole = "\n".join(stage.told(seat.name))
    count = Counter(LETTER.findall(whole))
    found = [f"{letter} stands there {count[letter]} times" for letter in seat.letters if count[letter] != 1]
    found += [f"{letter} was never sent" for letter in count.keys() - set(seat.letters)]
    found += [f"no exact line for {letter}" for letter in seat.letters if bell(letter) not in whole]
    known = Counter([*seat.typed, *map(bell, seat.letters)])
    begun = next((at for at, text in enumerate(told) if text.startswith(f"You are {seat.name}. ")), 0)
    for text in told[begun + 1 :]:  # up to the line that began the session a program says where it is
        if known[text]:
            known[text] -= 1
        elif not any(bell(letter) in text for letter in seat.letters):
            found.append(f"it was told {text[:200]!r}")
    found += [f"the person's {text[:60]!r} did not come" for text in seat.typed if known[text]]
    return [f"{seat.name}: {fault}" for fault in found]


def told_by_people(stage: RealOrg, seat: str) -> list[str]:
    turns = stage.server.turns(seat)
    return [text for who, text in turns[-1].texts if who == "user"] if turns else []


def summary(seats: Sequence[Seat]) -> dict[str, Any]:
    """Letters, delays in seconds by kind, and faults."""
    delays: dict[str, list[float]] = {}
    for seat in seats:
        for kind, values in seat.delays.items():
            delays.setdefault(kind, []).extend(values)
    row: dict[str, Any] = {}
    for kind, values in delays.items():
        ordered = sorted(values)
        row[kind] = {
            "letters": len(ordered),
            "p50_s": round(ordered[len(ordered) // 2], 2),
            "max_s": round(ordered[-1], 2),
        }
    row["faults"] = [fault for seat in seats for fault in seat.faults]
    return row
