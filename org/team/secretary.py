"""Runs the pages of `processes/` for the office: looks when one is due, asks, collects round after round, writes up, tells.

The morning page is the one that facts join: its answers are handed to `write`. Everything it knows lies in files, so an
office that is killed anywhere is followed by one that goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from org import times
from org.failpoint import failpoint
from org.home import Home
from org.team import handed, mail, minutes, occasions, processes
from org.team.occasions import Occasion
from org.team.pages import STANDUP, Process
from org.team.processes import Ask
from org.team.prose import Reader

if TYPE_CHECKING:
    from org.lab.book import Book

YOUNG_NS = 100_000_000  # a stamp so young may hide a later change within one tick of the file system's clock
MAX_OPEN = 4  # runs of one page at once; what else happened waits for its turn, or lapses

Note = Callable[[str, str], None]
Write = Callable[[dict[str, str]], None]


@dataclass(frozen=True)
class Term:
    """What of the launch a step needs. since: when it began; ended: when its budget did; is_over: its last page is written,
    so that only clocks and questions are left."""

    since: str | None
    ended: str | None = None
    is_over: bool = False


class Secretary:
    """write: makes the morning page with these answers; reader: holds words against the ledger, made when needed."""

    def __init__(self, home: Home, note: Note, write: Write, reader: Callable[[], Reader]) -> None:
        self.home, self.note, self.write, self._reader = home, note, write, reader
        self._told: set[str] = set()  # what could not be delivered, said once
        self._files: tuple[int, dict[str, list[Ask]]] = (-1, {})  # the runs by page, by the folder's time
        self._book: tuple[int, dict[str, list[Occasion]]] = (-1, {})  # occasions by page, by the ledger's length
        self._box: tuple[Any, dict[str, dict[str, str]]] = (None, {})  # answers by run, by the box's time

    def step(self, pages: Sequence[Process], book: Book, now: str, term: Term) -> bool:
        """One look at every page; whether one that the end of the budget waits for is still being answered. now: UTC."""
        is_busy = False
        for page in pages:
            self._begin(page, book, now, term)
            for asked in [row for row in self._runs(page.name) if row.closed is None]:
                self._undelivered(processes.deliver(self.home, asked))
                is_busy = self._hear(page, asked, now, term) or is_busy
        return is_busy

    # --- beginning

    def _begin(self, page: Process, book: Book, now: str, term: Term) -> None:
        runs = self._runs(page.name)
        by_clock = max((row.asked_at for row in runs if not row.occasion), default=None)
        last = max(filter(None, (by_clock, term.since)), default=None)
        if term.since and not (term.is_over and page.when == ("end",)) and occasions.due(page, now, last, term.ended):
            self._ask(page, book, now, Occasion())
        done = {row.occasion for row in runs}
        for occasion in self._occasions(page, book, term):
            if sum(row.closed is None for row in self._runs(page.name)) >= MAX_OPEN:
                return
            if occasion.key not in done:
                self._ask(page, book, now, occasion)
        if page.is_asked:
            self._questions(page, book, now, done)

    def _ask(self, page: Process, book: Book, now: str, occasion: Occasion) -> None:
        facts = handed.facts(self.home, book, page.input, occasion)
        asked = processes.ask(self.home, page, now, occasion, facts)
        about = f" about {occasion.subject}" if occasion.subject else ""
        self.note("process", f"{page.name}: asked {', '.join(asked.seats) or 'nobody'}{about}")
        self._files = (-1, {})

    def _occasions(self, page: Process, book: Book, term: Term) -> list[Occasion]:
        if term.since is None or term.ended is not None or not any(part.startswith("on ") for part in page.when):
            return []
        if self._book[0] != len(book.rows):
            self._book = len(book.rows), {}
        known = self._book[1]
        if page.name not in known:
            found = occasions.of_book(page, book, times.utc(term.since))
            # a roster without anybody to ask has no such process
            known[page.name] = [each for each in found if processes.seats(self.home, page.who, each)]
        return known[page.name]

    def _questions(self, page: Process, book: Book, now: str, done: set[str]) -> None:
        """Letters to the page. One whose signature is wrong is nobody's question."""
        for letter in mail.peek(self.home, page.name, is_tidy=True):
            if sum(row.closed is None for row in self._runs(page.name)) >= MAX_OPEN:
                return
            key = f"asked:{letter.id}"
            if key not in done and letter.verified:
                self._ask(page, book, now, Occasion(key, "", "", letter.sender, letter.id, letter.body))
                failpoint("processes.taken")
            elif not letter.verified:
                self.note("trouble", f"{page.name}: the letter {letter.id} is not signed by {letter.sender}; not asked")
            mail.acknowledge(self.home, page.name, letter.id)

    # --- going on

    def _hear(self, page: Process, asked: Ask, now: str, term: Term) -> bool:
        """Whether the end of the budget has to wait for it."""
        answers = self._answers(page, asked)
        # what was begun before the end is not waited for
        is_cut = term.ended is not None and asked.asked_at < term.ended
        if not processes.is_over(asked, answers, now) and not is_cut:
            return "end" in page.when
        self._files = (-1, {})
        following = None if is_cut else processes.go_on(self.home, asked, answers, now)
        if following is not None:
            self.note("process", f"{asked.about}: round {len(following.past) + 1}, asked {', '.join(following.seats)}")
            return "end" in page.when
        self._write_up(asked, answers, now)
        return False

    def _write_up(self, asked: Ask, answers: Mapping[str, str], now: str) -> None:
        done = processes.finished(asked, answers)
        if asked.process == STANDUP:
            self.write(done.past[0].answers if done.past[1:] else dict(answers))
        else:
            reader = self._reader()
            path = minutes.write(self.home, done, reader)
            failpoint("processes.written")
            told = minutes.letter(self.home, done, reader)
            self._undelivered(minutes.tell(self.home, told) if told else [])
            failpoint("processes.told")
            self.note("process", f"{done.about}: {path or 'letters'} with {len(done.past[0].answers)} answers")
        processes.close(self.home, done, now)
        self._acknowledge(done)

    def _acknowledge(self, done: Ask) -> None:
        """Answers that were written up are no news for the person any more; a question to them is."""
        for letter in mail.received(self.home, "human", since=times.utc(done.asked_at)):
            if letter.about == done.about and letter.kind != "question" and letter.sender in done.first:
                mail.acknowledge(self.home, "human", letter.id)

    # --- looking

    def _runs(self, name: str) -> list[Ask]:
        """The runs of a page, read again when the folder has changed: every write into it is a rename."""
        try:
            at = self.home.processes.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if at != self._files[0]:
            self._files = at, {}
        known = self._files[1]
        if name not in known:
            known[name] = processes.asks(self.home, name)
        return known[name]

    def _answers(self, page: Process, asked: Ask) -> dict[str, str]:
        box = self.home.mailbox("human")
        times_of = tuple(path.stat().st_mtime_ns for path in (box / "new", box / "cur") if path.is_dir())
        is_young = time.time_ns() - max(times_of, default=0) < YOUNG_NS
        if times_of != self._box[0] or is_young:
            self._box = None if is_young else times_of, {}
        known = self._box[1]
        if asked.letter not in known:
            known[asked.letter] = processes.collect(self.home, page, asked.asked_at)
        return known[asked.letter]

    def _undelivered(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self._told:
                self.note("trouble", problem)
                self._told.add(problem)
