"""How many of what: the one count of a ledger, which the standup, `org results`, the plot and the lint of numbers share.

A change is an experiment of its own. A stack, a verification and a re-test measure changes again and are counted apart,
attempts to refute one not at all but by what they retract, and so is a control: its budget is not the charter's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from org.evidence import stack, stats
from org.evidence.progress import is_on_the_curve
from org.lab.book import Book
from org.records import BANK, KEPT, Contract, Outcome, RunResult, Verdict

REFUTED: tuple[Outcome, ...] = ("null", "loss", "crash", "invalid")


@dataclass(frozen=True)
class Tally:
    """Of a span of time; `wins` and what follows them count changes that are kept."""

    runs: int
    held_s: float  # device-seconds of those runs
    filed: int  # experiments, whatever they measure
    verdicts: int
    decided: int  # changes with a verdict
    wins: int
    verified: int  # of the wins
    holds: int
    controls: int  # kept under a control
    refuted: int
    verifications: int  # stacks, verifications and re-tests with a verdict
    passed: int
    credited: int  # members that a removal showed to help
    retracted: int
    refusals: int

    def counts(self) -> dict[str, int]:
        """By the words that a text counts with, for `evidence.audit`."""
        return {
            "runs": self.runs,
            "experiments": self.filed,
            "experiments decided": self.decided,
            "verdicts": self.verdicts,
            "wins": self.wins,
            "verified": self.verified,
            "refuted": self.refuted,
            "verifications": self.verifications,
            "retracted": self.retracted,
            "refusals": self.refusals,
        }


class Standing:
    """On what ground each change stands in the heads: by itself or in a stack, credited or not. moves: `Book.moves`."""

    def __init__(self, moves: Iterable[Mapping[str, Any]]) -> None:
        moves = list(moves)
        self.retracted = {str(name) for row in moves for name in row.get("retracts") or ()}
        self.credits = stack.credits(moves)
        self.stack_of: dict[str, str] = {}  # member -> the stack that brought it into a head
        self.alone: set[str] = set()  # members that were a stack's only one: its verification was theirs
        for row in moves:
            is_made = row.get("kind") == "head" and not (row.get("removed") or row.get("retracts"))
            if is_made and row.get("experiment") not in self.retracted:
                members = [str(member) for member in row.get("members") or ()]
                self.stack_of |= dict.fromkeys(members, str(row.get("experiment")))
                self.alone |= set(members) if len(members) == 1 else set()

    def tier(self, verdict: Verdict) -> str:
        """`verified` is earned in a stack too, by the member whose removal hurts; then the stack is named."""
        of, credit = self.stack_of.get(verdict.experiment), self.credits.get(verdict.experiment)
        if verdict.tier == "verified" or of is None:
            return verdict.tier or ""
        if verdict.experiment in self.alone or (credit and credit.outcome == "helps"):
            return f"verified in {of}"
        if credit and credit.outcome == "inert":
            return f"tentative, no part of {of}"
        return f"tentative, in {of} without a credit yet"

    def is_verified(self, verdict: Verdict) -> bool:
        return self.tier(verdict).startswith("verified")

    def is_kept(self, verdict: Verdict) -> bool:
        return verdict.outcome in KEPT and verdict.experiment not in self.retracted


def worth(book: Book, row: Mapping[str, Any], sign: int) -> stats.Effect | None:
    """What the head that this line made is worth against the base by fresh runs of both; None until there are two of each."""
    base = next((r.commit for r in book.results.values() if r.experiment == BANK), "")
    return stack.worth(book.results.values(), (base, str(row.get("commit"))), row.get("seeds") or (), sign)


def is_change(contract: Contract | None) -> bool:
    """Whether the experiment is a change of its own, and does not measure earlier ones again."""
    return contract is None or not (contract.members or contract.promotes or contract.refutes)


def tally(book: Book, since: str | None = None, until: str | None = None) -> Tally:
    """What became known after `since` (None: since the launch) up to `until` (None: now), as it stood then."""

    def is_in(moment: str | None) -> bool:
        return not moment or ((since is None or moment > since) and (until is None or moment <= until))

    results = [r for r in _results(book, until) if since is None or not r.ended or r.ended > since]
    moves = [row for row in book.moves if until is None or str(row.get("t", "")) <= until]
    standing = Standing(moves)
    verdicts = [v for name, v in book.verdicts.items() if is_in(book.verdict_times.get(name))]
    changes = [v for v in verdicts if is_change(book.experiments.get(v.experiment))]
    again = [v for v in verdicts if not is_change(c := book.experiments.get(v.experiment)) and c and not c.refutes]
    kept = [v for v in changes if standing.is_kept(v)]
    plain = [v for v in kept if is_on_the_curve(book.experiments.get(v.experiment))]
    wins = [v for v in plain if v.outcome == "win"]
    return Tally(
        runs=len(results),
        held_s=sum(r.held_s for r in results),
        filed=sum(is_in(contract.created) for contract in book.experiments.values()),
        verdicts=len(verdicts),
        decided=len(changes),
        wins=len(wins),
        verified=sum(standing.is_verified(v) for v in wins),
        holds=len(plain) - len(wins),
        controls=len(kept) - len(plain),
        refuted=sum(v.outcome in REFUTED or v.experiment in standing.retracted for v in changes),
        verifications=len(again),
        passed=sum(v.outcome in KEPT for v in again),
        credited=sum(credit.outcome == "helps" for credit in standing.credits.values()),
        retracted=len({name for row in moves if is_in(row.get("t")) for name in row.get("retracts") or ()}),
        refusals=sum(is_in(row.get("t")) for row in book.refusals),
    )


def _results(book: Book, until: str | None) -> Iterable[RunResult]:
    """The last line of each run as the ledger was at `until`: one that the org lost may have been repeated since."""
    if until is None:
        return book.results.values()
    rows = (row for row in book.rows if row.get("kind") == "result" and str(row.get("t", "")) <= until)
    return [RunResult.from_dict(row) for row in {row["run"]: row for row in rows}.values()]
