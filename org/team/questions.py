"""Questions of seats to the person, and the ideas that wait for an answer. Computed from letters; nothing is stored twice.

A question blocks nothing: a seat holds no device, its experiments run on, and the idea it asks about is parked until the
person answers by `--reply-to` or writes to that seat about the idea. Sends nothing and judges no answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from org.errors import BadInput
from org.home import Home
from org.records import Letter
from org.team import boxes
from org.team.ideapage import IDEA

PERSON = "human"


def unanswered(home: Home) -> list[Letter]:
    """Questions to the person that no letter of theirs has answered, oldest first. What is unverified asks nothing: a
    letter dropped into the box must not park somebody's idea."""
    return Asked(home).unanswered()


def parked(home: Home) -> dict[str, Letter]:
    """Idea -> the first question about it that waits for an answer."""
    found: dict[str, Letter] = {}
    for question in unanswered(home):
        if question.about and IDEA.fullmatch(question.about):
            found.setdefault(question.about, question)
    return found


class Asked:
    """The questions of one home, for who looks again and again: each letter's file is read once. limit_s: so long a look
    reads what is new to it in one box; the rest is for the next look."""

    def __init__(self, home: Home, limit_s: float | None = None) -> None:
        self.home, self.limit_s = home, limit_s
        self._asked = _Sieve(home, PERSON, lambda q: q.kind == "question" and q.verified and q.sender != PERSON)
        self._answers: dict[str, _Sieve] = {}

    def unanswered(self) -> list[Letter]:
        asked = self._asked.letters(self.limit_s)
        senders = {question.sender for question in asked}
        self._answers = {name: self._answers.get(name) or _Sieve(self.home, name, _is_persons) for name in senders}
        answers = {name: box.letters(self.limit_s) for name, box in self._answers.items()}
        return [question for question in asked if not _is_answered(question, answers[question.sender])]

    def waiting(self) -> list[Letter]:
        """What the person should look at: questions not answered that are unread, or that keep an idea parked."""
        return [q for q in self.unanswered() if (q.about and IDEA.fullmatch(q.about)) or self._is_unread(q)]

    def _is_unread(self, question: Letter) -> bool:
        there = boxes.place(self.home, PERSON, question.id)
        return there is not None and there[0] == "new"


class _Sieve:
    """The letters of one box that `keep` says to, oldest first."""

    def __init__(self, home: Home, box: str, keep: Callable[[Letter], bool]) -> None:
        self.home, self.box, self.keep = home, box, keep
        self._known: dict[str, Letter | None] = {}  # file name -> the letter, None for one that is not kept

    def letters(self, limit_s: float | None) -> list[Letter]:
        end = time.monotonic() + limit_s if limit_s is not None else None
        there = set()
        for path in boxes.all_of(self.home, self.box):
            there.add(path.name)
            if path.name not in self._known and (end is None or time.monotonic() < end):
                self._read(path)
        self._known = {name: letter for name, letter in self._known.items() if name in there}
        return sorted((letter for letter in self._known.values() if letter), key=lambda one: (one.created, one.id))

    def _read(self, path: Path) -> None:
        try:
            letter = boxes.read(self.home, self.box, path)
        except FileNotFoundError:
            return  # moved on, and seen again there
        except (OSError, BadInput):
            self._known[path.name] = None
            return
        self._known[path.name] = letter if self.keep(letter) else None


def _is_persons(letter: Letter) -> bool:
    return letter.sender == PERSON and letter.verified


def _is_answered(question: Letter, letters: Iterable[Letter]) -> bool:
    is_idea = bool(question.about and IDEA.fullmatch(question.about))
    return any(
        letter.created >= question.created
        and (letter.reply_to == question.id or (is_idea and letter.about == question.about))
        for letter in letters
    )
