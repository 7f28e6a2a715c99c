"""What became of a letter: processed, accepted, queued or refused, and why, computed from facts. Sends and rings nothing.

Deciding is pure (`decide`, `of_all`); `look` reads a few small files and asks no program, so it costs a millisecond.

- processed: it was read and acknowledged, so it left new/
- accepted: the seat's program took the line that names it, or watches its own mailbox and lives
- queued: it lies in new/, and the reason says what it waits for
- refused: it lies in no box
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from org import files
from org.home import Home
from org.records import PERSON
from org.team import arrival, boxes, roster

Word = Literal["processed", "accepted", "queued", "refused"]

WORST_FIRST: tuple[Word, ...] = ("refused", "queued", "accepted", "processed")
# backends whose program looks into its mailbox by itself; a test holds them against agents
WATCHES_ITSELF = ("offline", "anthropic", "openai")
WHY = {  # a state of a program that is rung, and what the letter waits for
    "held": "{} is held; the letter is told when that ends",
    "asking": "{} is at a question or a dialog; it is told when that is answered",
    "limited": "{} is at its rate limit; it is told when that is over",
    "starting": "{} is starting; it is told when it is ready",
    "gone": "the program of {} is gone; it is told when the office has started it again",
    "stuck": "{} makes no progress; the office rings for it all the same",
}
NOT_READING = {  # the same of a program that watches its own mailbox; in every other state it reads
    "starting": "{} is starting; it reads its mailbox when it is ready",
    "gone": "the program of {} is gone; it reads when the office has started it again",
    "stuck": "{} makes no progress; it reads its mailbox when it moves again",
    None: "{} was not seen yet; it reads its mailbox once it has started",
}
ENDED = {  # nobody starts it again but a person
    "stopped": "{} was stopped; it reads when `org launch` has started it again",
    "gave_up": "{} ended too often and is not started again; `org attach {}` shows why, `org launch` starts it",
}


@dataclass(frozen=True)
class Facts:
    """What is known of one letter in one box. `state`, `quiet` and `told` are None where nothing readable is there."""

    box: str
    place: boxes.Place | None
    has_office: bool = False
    is_member: bool = True  # of the roster now; a retired seat is none
    backend: str = ""
    state: str | None = None
    quiet: str | None = None  # why nothing is typed into the pane now, in the office's words
    told: str | None = None  # typed, or accepted
    ended: str | None = None  # one of ENDED: its program is not started again by the office
    is_process: bool = False  # no seat's box: the office reads it and asks the seats of that process


@dataclass(frozen=True)
class Delivery:
    """One box's answer, or that of all."""

    box: str
    word: Word
    reason: str

    def to_json(self) -> dict[str, str]:
        return {"to": self.box, "delivery": self.word, "reason": self.reason}


def decide(facts: Facts) -> Delivery:
    """What to say of one letter in one box. Pure."""
    word, reason = _decide(facts)
    return Delivery(facts.box, word, reason)


def of_all(rows: Sequence[Delivery]) -> Delivery:
    """One answer for all boxes: the least of them, and its reason where it is one box's. Pure."""
    if not rows:
        return Delivery("", "refused", "nobody else is there")
    if len(rows) == 1:
        return rows[0]
    worst = min((row.word for row in rows), key=WORST_FIRST.index)
    first = next(row for row in rows if row.word == worst)
    counts = [(word, sum(row.word == word for row in rows)) for word in reversed(WORST_FIRST)]
    said = ", ".join(f"{count} {word}" for word, count in counts if count)
    return Delivery("", worst, f"{said}; {first.reason}")


def _decide(facts: Facts) -> tuple[Word, str]:
    box = facts.box
    if facts.place in ("cur", "archive"):
        return "processed", "the office asks its members" if facts.is_process else f"{_name(box)} read it"
    if facts.place is None:
        return "refused", f"it lies in no folder of {_name(box)}: set aside as no letter, or removed by hand"
    if box == "human":
        return "queued", "it lies in your box; `org inbox` shows it"
    if facts.is_process:
        asks = "the office asks its members next" if facts.has_office else "no office runs to ask its members"
        return "queued", asks + ("" if facts.has_office else "; `org launch` starts one")
    if facts.backend == PERSON:
        return "queued", f"{box} is a seat without a program; `org --seat {box} inbox` reads it"
    if not facts.is_member:
        return "queued", f"{box} is in no roster now; it reads when `org launch` brings it back"
    if facts.ended in ENDED:
        return "queued", ENDED[facts.ended].format(box, box)
    if facts.told == "accepted" and facts.state != "gone":
        return "accepted", f"{box} took the line that names it and has not read it yet"
    watches = facts.backend.partition(":")[0] in WATCHES_ITSELF
    if not facts.has_office:
        if watches:
            return (
                "queued",
                f"{box} reads its mailbox itself, if it lives; no office runs to say; `org launch` starts one",
            )
        return "queued", f"no office runs to tell {box}; `org launch` starts one"
    if watches:
        if facts.state in NOT_READING:
            return "queued", NOT_READING[facts.state].format(box)
        return "accepted", f"{box} watches its own mailbox and lives ({files.printable(str(facts.state), 20)})"
    if facts.quiet:
        return "queued", f"nothing is typed to {box} now: {files.printable(facts.quiet, 160)}".replace("\n", " ")
    if facts.told == "typed":
        return "queued", f"the line that names it was typed to {box} and is not confirmed yet"
    if facts.state in WHY:
        return "queued", WHY[facts.state].format(box)
    return "queued", f"the office rings for {box} next"


def look(home: Home, letter_id: str, to: Sequence[str]) -> list[Delivery]:
    """What became of a letter in each of these boxes, now."""
    has_office = files.is_locked(home.office_lock)
    members = roster.members(home)
    return [decide(_facts(home, letter_id, box, has_office, members)) for box in to]


def follow(home: Home, letter_id: str, to: Sequence[str], limit_s: float) -> list[Delivery]:
    """The same once every box has read the letter or `limit_s` are over. One box after the other: whoever reads meanwhile
    is not waited for any more."""
    end = time.monotonic() + limit_s
    for box in to:
        has_left = functools.partial(_has_left, home, box, letter_id)
        with arrival.awaited(home, box, has_left, end - time.monotonic()):
            pass
    return look(home, letter_id, to)


def _has_left(home: Home, box: str, letter_id: str) -> bool:
    there = boxes.place(home, box, letter_id)
    return there is None or there[0] != "new"


def _facts(home: Home, letter_id: str, box: str, has_office: bool, members: dict[str, str]) -> Facts:
    there = boxes.place(home, box, letter_id)
    if there is None or there[0] != "new" or box == "human":
        is_process = box != "human" and not home.seat_file(box).is_file()
        return Facts(box, there[0] if there else None, is_process=is_process)
    state = _row(home.seat_state(box))
    quiet, now_is = state.get("quiet"), state.get("state")
    return Facts(
        box,
        "new",
        has_office,
        box in members,
        str(_row(home.seat_file(box)).get("backend", "")),
        now_is if isinstance(now_is, str) else None,
        quiet if isinstance(quiet, str) else None,
        told(_row(home.bell(box)), letter_id),
        next((name for name in ENDED if _row(home.seat_pane(box)).get(name)), None),
        not home.seat_file(box).is_file(),
    )


def told(bell: dict[str, Any], letter_id: str) -> str | None:
    """What the doorbell's notes say of a letter: typed, accepted or nothing. Pure; any row will do."""
    letters = bell.get("letters")
    note = letters.get(letter_id) if isinstance(letters, dict) else None
    said = note.get("told") if isinstance(note, dict) else None
    return said if said in ("typed", "accepted") else None


def _row(path: Path) -> dict[str, Any]:
    try:
        row = files.read_json(path)
    except OSError:
        return {}
    return row if isinstance(row, dict) else {}


def _name(box: str) -> str:
    return "the person" if box == "human" else box
