"""Gathers the facts that flags follow from, each again only when something changed. Decides nothing: `team.flags` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from org.home import Home
from org.records import Letter
from org.team import flags, questions
from org.team.flags import Flag

if TYPE_CHECKING:
    from org.lab.book import Book

DISK_EVERY_S = 30.0
ASKED_S = 0.2  # of a look at one box: a flood of letters is read over several
ASKED_EVERY_S = 30.0  # a stamp of a folder may hide a change within one tick: then it is seen this late


class Needs:
    """What needs a person in one home. Call `step` once a second."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._began: dict[str, float] = {}
        self._repeats: dict[str, tuple[int, str]] = {}
        self._told = (0, 0)  # (which book, how many of its lines are in `_repeats`)
        self._questions_of = questions.Asked(home, ASKED_S)
        self._asked: list[Letter] = []
        self._boxes: tuple[object, ...] = ()
        self._asked_at = self._disk_at = float("-inf")
        self._free: int | None = None

    def step(
        self,
        rows: Sequence[Mapping[str, Any]],
        devices: Sequence[Mapping[str, Any]],
        queue: Sequence[Mapping[str, Any]],
        book: Book,
        now: float,
        tick: float | None = None,
        *,
        is_dispatching: bool,
    ) -> list[Flag]:
        """The flags that stand now. rows: of `team.reader`; devices, queue: as in the snapshot; is_dispatching: the budget
        lets runs start; tick: seconds that only go on, `now` where it is None."""
        at = now if tick is None else tick
        facts = flags.Facts(
            now,
            rows,
            devices,
            queue,
            self._questions(at),
            self._repeated(book),
            is_dispatching,
            self._disk(at),
            book.damage(),
        )
        found, self._began = flags.raised(facts, self._began, at)
        return found

    def _repeated(self, book: Book) -> Mapping[str, tuple[int, str]]:
        known, count = self._told
        if known != id(book) or count > len(book.rows):
            self._repeats, count = {}, 0
        if count < len(book.rows):
            self._repeats = flags.repeated(book.rows[count:], self._repeats)
        self._told = id(book), len(book.rows)
        return self._repeats

    def _questions(self, tick: float) -> list[Letter]:
        names = dict.fromkeys([questions.PERSON, *(letter.sender for letter in self._asked)])
        boxes = tuple(_changed(f"{self.home.mailbox(name)}/{part}") for name in names for part in ("new", "cur"))
        if boxes != self._boxes or tick - self._asked_at >= ASKED_EVERY_S:
            self._boxes, self._asked_at = boxes, tick
            self._asked = self._questions_of.waiting()
        return self._asked

    def _disk(self, tick: float) -> int | None:
        if tick - self._disk_at >= DISK_EVERY_S:
            self._disk_at = tick
            try:
                facts = os.statvfs(self.home.comms)
                self._free = facts.f_bavail * facts.f_frsize
            except OSError:
                self._free = None
        return self._free


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 - each second
    except OSError:
        return 0
