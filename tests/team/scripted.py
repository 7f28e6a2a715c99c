"""Seats that answer letters by a script, and a secretary who is stepped by hand: a process without panes or models."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from org import files, times
from org.home import Home
from org.lab.book import Book
from org.records import Letter, Seat
from org.team import mail, pages, roster, secretary
from org.team.prose import Reader

ROOT = Path(__file__).parents[2]
COUNCIL = """---
when: on asked
who: [chief, councillor]
input: [question, ledger]
writes: comms/council/{id}.md
answers_within: 10m
---
## Round 1: everyone

Which answer do you believe, and why?

## Round 2: everyone

Rank the answers of the others, `Ranking: B > A`.

## Round 3: chair

Write the synthesis; behind `Dissent:` keep the strongest counter-argument.
"""

Script = Callable[[str, str], str | None]  # seat, letter -> answer


def make_home(root: Path, org: str = "small", **seats: str) -> Home:
    """seats: name=role."""
    home = Home(root.resolve())
    for name, role in seats.items():
        seat = Seat(name, role, "offline", "main", f"program/main/{name}", "", None, files.utc_now())
        files.replace_json(home.seat_file(name), seat.to_dict())
    rows = [{"name": name, "role": role, "backend": "offline"} for name, role in seats.items()]
    roster.update(home, org=org, roster=rows)
    return home


def put(home: Home, name: str, text: str, org: str = "small") -> None:
    files.replace(home.org_folder(org) / "processes" / f"{name}.md", text)


class Office:
    """What the office does about processes, on a clock of its own."""

    def __init__(self, home: Home, book: Book | None = None, launched_ago_s: float = 60.0) -> None:
        self.home, self.book = home, book or Book()
        self.notes: list[str] = []
        self.morning: list[dict[str, str]] = []
        self.now = datetime.fromisoformat(files.utc_now())
        self.term = secretary.Term(times.utc(self.now.timestamp() - launched_ago_s))
        self.at_work = secretary.Secretary(
            home, lambda event, text: self.notes.append(text), self.morning.append, lambda: Reader(self.book, "val_bpb")
        )

    def step(self, later_s: float = 0.0) -> bool:
        self.now += timedelta(seconds=later_s)
        found = pages.load(self.home.org_folder(roster.facts(self.home)["org"]))
        return self.at_work.step(found, self.book, times.utc(self.now.timestamp()), self.term)


def questions(home: Home, seat: str) -> list[Letter]:
    return [letter for letter in mail.received(home, seat, "2020-01-01T00:00:00Z") if letter.kind == "question"]


def answer(home: Home, script: Script) -> None:
    """Every seat answers what it has not answered yet."""
    for seat in roster.members(home):
        for letter in mail.peek(home, seat):
            if letter.kind != "question":
                continue
            if (said := script(seat, letter.body)) is not None:
                mail.send(home, seat, "human", said, kind="report", about=letter.about, reply_to=letter.id)
            mail.acknowledge(home, seat, letter.id)


def handed(body: str) -> dict[str, str]:
    """Label -> the answer that a letter of a later round has under it."""
    parts = re.split(r"^### Answer ([A-Z]+).*$", body, flags=re.MULTILINE)
    return {
        label: "\n".join(line[2:] for line in text.split("\n###")[0].splitlines() if line.startswith("> "))
        for label, text in zip(parts[1::2], parts[2::2], strict=True)
    }
