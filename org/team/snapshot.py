"""What a person sees of the organisation at one moment, as one plain dictionary: what the board and the borders show.

Made from the ledger, locks, seats' events and one look at tmux. Decides and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from org import files
from org.evidence import progress
from org.home import Home
from org.records import Charter

if TYPE_CHECKING:
    from org.lab.book import Book

LATEST = 8  # verdicts on the board


def snapshot(
    home: Home,
    work: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]],
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    known: Mapping[str, Any],
    flags: Sequence[str] = (),
    phase: str = "open",
) -> dict[str, Any]:
    """org, seats, devices, queue and best as in `status --json`; then what `of_ledger` says, and the flags.
    work: `follow.device_table` and `follow.queue`; rows: `states.states`; facts: org.json; known: `of_ledger`."""
    return {
        "org": {
            "home": str(home.root),
            "name": facts.get("org"),
            "since": facts.get("since"),
            "budget": facts.get("budget"),
            "phase": phase,
        },
        "seats": list(rows),
        "devices": list(work[0]),
        "queue": list(work[1]),
        **known,
        "flags": [files.printable(flag, 200) for flag in flags],
    }


def of_ledger(book: Book, charter: Charter) -> dict[str, Any]:
    """metric, best, runs, verdicts (latest first) and progress: what changes only when the ledger grows. Pure."""
    runs, start = book.results.values(), _baseline(book, charter)
    steps = progress.series(book.verdicts, runs, start, charter.metric, book.experiments, book.retracted, charter.scale)
    return {
        "metric": {"name": charter.metric.name, "direction": charter.metric.direction},
        "best": progress.best(book.verdicts, book.experiments, book.retracted, book.wins),
        "runs": len(book.results),
        "verdicts": [_verdict(book, name) for name in reversed(list(book.verdicts)[-LATEST:])],
        "progress": {
            "points": [(p.device_s, p.value, p.kind) for p in steps.points if p.value is not None],
            "verified": steps.best_steps,
            "claimed": steps.claimed_steps,
        },
    }


def _baseline(book: Book, charter: Charter) -> float | None:
    """Mean of the bank at the charter's scale; other rungs of the ladder have banks of their own."""
    bank = [r for r in book.results.values() if r.stage == "bank" and r.scale == charter.scale]
    values = [r.metric for r in bank if r.metric is not None]
    return sum(values) / len(values) if values else None


def _verdict(book: Book, name: str) -> dict[str, Any]:
    verdict, contract = book.verdicts[name], book.experiments.get(name)
    return {
        "experiment": name,
        "seat": contract.seat if contract else "?",
        "program": contract.program if contract else "?",
        "outcome": verdict.outcome,
        "tier": "retracted" if name in book.retracted else verdict.tier,
        "effect": verdict.effect,
        "se": verdict.se,
        "z": verdict.z,
        "trust": verdict.trust,
        "description": files.printable(contract.description, 200) if contract else "",
    }
