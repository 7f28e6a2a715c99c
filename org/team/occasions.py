"""When a process runs: by the clock, and on what happened. Pure: works on the book, on texts and on a time that is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from org import times
from org.lab.tally import Standing, is_change
from org.team.pages import DAYS, Process, clock

if TYPE_CHECKING:
    from org.lab.book import Book


@dataclass(frozen=True)
class Occasion:
    """What made a process run. `key` tells it from every other one; "" is the clock. subject: an experiment or a program;
    author: whose it is; asker: who wrote `question`, in the letter `letter`."""

    key: str = ""
    subject: str = ""
    author: str = ""
    asker: str = ""
    letter: str = ""
    question: str = ""


def due(process: Process, now: str, last_run: str | None, budget_ended: str | None) -> bool:
    """Whether the clock says that `process` should run at `now`. Times are ISO-8601 with a zone; `daily` and `weekly` are read
    on the clock of `now`'s zone.

    last_run: when it last ran, or when the org was launched if it never did; None makes a periodic process due at once.
    budget_ended: when the launch's budget ended, None while it lasts; `end` is due once after that.
    """
    moment = times.moment(now)
    last = times.moment(last_run) if last_run else None
    for part in process.when:
        kind, _, rest = part.partition(" ")
        if kind == "on":
            is_due = False
        elif kind == "end":
            is_due = budget_ended is not None and (last is None or last < times.moment(budget_ended))
        elif kind == "every":
            is_due = last is None or moment - last >= timedelta(seconds=times.length(rest.strip()) or 0)
        else:
            day, _, at = rest.rpartition(" ")
            hour, minute = clock(at) or (0, 0)
            slot = moment.replace(hour=hour, minute=minute, second=0, microsecond=0)
            back = (moment.weekday() - DAYS.index(day)) % 7 if kind == "weekly" else 0
            slot -= timedelta(days=back)
            slot -= timedelta(days=7 if kind == "weekly" else 1) if slot > moment else timedelta()
            is_due = last is None or last < slot
        if is_due:
            return True
    return False


def of_book(process: Process, book: Book, since: str) -> list[Occasion]:
    """What the ledger says since then (UTC ISO-8601) that `process` waits for, oldest first."""
    found = []
    if "on tentative" in process.when:
        found += tentative(book, since)
    if (count := process.dry_after) is not None:
        found += stalemates(book, count, since)
    return found


def tentative(book: Book, since: str) -> list[Occasion]:
    """Wins judged tentative that still stand as that: no stack has taken them up or let them fall."""
    standing = Standing(book.moves)
    found = []
    for name, verdict in book.verdicts.items():
        contract = book.experiments.get(name)
        is_new = book.verdict_times.get(name, "") >= since
        if not is_new or contract is None or not is_change(contract):
            continue
        is_tentative = verdict.outcome == "win" and verdict.tier == "tentative"
        if is_tentative and standing.is_kept(verdict) and name not in standing.stack_of:
            found.append(Occasion(f"tentative:{name}", name, contract.seat))
    return found


def stalemates(book: Book, count: int, since: str) -> list[Occasion]:
    """Programs whose last `count` verdicts kept nothing; again after as many more."""
    standing = Standing(book.moves)
    dry: dict[str, int] = {}
    kept: dict[str, str] = {}
    last: dict[str, str] = {}
    for name, verdict in book.verdicts.items():
        contract = book.experiments.get(name)
        if contract is None or not is_change(contract):
            continue
        program = contract.program
        last[program] = book.verdict_times.get(name, "")
        if standing.is_kept(verdict):
            kept[program], dry[program] = name, 0
        else:
            dry[program] = dry.get(program, 0) + 1
    found = []
    for program, times_dry in dry.items():
        if times_dry < count or last[program] < since:
            continue
        after = f" since {kept[program]}" if program in kept else ""
        said = f"The program {program} is dry: its last {times_dry} experiments kept nothing{after}. What should be tried, or stopped?"
        key = f"stalemate:{program}:{kept.get(program, '')}:{times_dry // count}"
        found.append(Occasion(key, program, question=said))
    return found
