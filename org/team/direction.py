"""What a chief should see without reading every verdict: dry programs, double work, wins in each other's way, unread papers.

Computed from the ledger by the rules that the chief without a network decides by. Moves nobody and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from org.agents import decisions
from org.agents.search import Trial
from org.evidence import ladder
from org.home import Home
from org.lab.book import Book

MOST = 3  # of a kind; the newest


def trials(book: Book) -> list[Trial]:
    """The experiments as a decision needs them, oldest first; the bank, controls, attacks and re-tests at another scale left
    out."""
    retests = ladder.retests(book.experiments, book.verdicts)
    found = []
    for name, contract in book.experiments.items():
        if contract.stage == "bank" or contract.control or contract.promotes or contract.refutes:
            continue
        verdict = book.verdicts.get(name)
        found.append(
            Trial(
                name,
                contract.program,
                contract.seat,
                tuple((knob.name.lower(), knob.old, knob.new) for knob in contract.knobs),
                contract.expect,
                verdict.outcome if verdict else None,
                verdict.tier if verdict else None,
                verdict.effect if verdict else None,
                verdict.se if verdict else None,
                contract.members,
                stage=contract.stage,
                is_out=name in book.retracted or bool(ladder.owes(contract, verdict, retests.get(name, ()))),
                idea=contract.idea or "",
                baseline=contract.baseline_commit,
                commit=contract.commit,
            )
        )
    return found


def clashes(done: list[Trial]) -> Iterator[str]:
    """Sentences without a full stop: wins that cannot both be kept, knobs that two turn at this moment."""
    for found in decisions.conflicts(done)[-MOST:]:
        yield f"conflicting wins in {found.program}: {found.why}; ablate or keep one"
    for found in decisions.double_work(done)[-MOST:]:
        yield f"double work in {found.program}: {found.why}"


def unread(home: Home, ideas: Iterable[Mapping[str, Any]]) -> list[str]:
    """Papers in prompts/papers that no idea names as its source, by name."""
    there = sorted(path.name for path in home.papers.glob("*.md")) if home.papers.is_dir() else []
    read = {str(row["source"]) for row in ideas} if there else set()
    return [name for name in there if f"{home.papers.name}/{name}" not in read]
