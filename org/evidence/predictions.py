"""Predictions held against what was measured: whose have the right sign, and how far off they are. Pure.

Two are scored: what a seat predicted of its experiment (`--expect`), and what an idea's page predicted of the idea.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from org.records import Contract, Record, Verdict

By = Literal["seat", "backend", "idea author", "idea source"]
KINDS: tuple[By, ...] = ("seat", "backend", "idea author", "idea source")
NO_PAGE = "no page"  # of an idea that was named and is not there


@dataclass(frozen=True)
class Origin:
    """Whose an idea is."""

    source: str
    author: str = ""


@dataclass(frozen=True)
class Score(Record):
    """Predictions of one seat, one backend, one author or one source of ideas, over the whole ledger."""

    by: By
    who: str
    n: int
    right: int  # with the sign of what was measured
    signed: int  # of `n`, those that predict a change: 0 has no sign to be right
    error: float  # mean |predicted - measured|, in the metric's unit


def scores(
    contracts: Mapping[str, Contract], verdicts: Mapping[str, Verdict], origins: Mapping[str, Origin]
) -> list[Score]:
    """One score for each seat, backend, author and source that predicted anything that was measured, each kind by name.
    Verdicts without an effect say nothing; stacks do not count, since nobody predicted them. origins: of ideas by id; an
    experiment of no idea has none.

    An idea's own prediction, as it stood when it was filed, is its author's and its source's, and is held once against the first of its experiments that
    measured anything: a second value tried of it was not what was predicted. A source whose idea predicts nothing has
    what was predicted of each of its experiments; its author, who said nothing, has no score."""
    found: dict[tuple[By, str], list[tuple[float, float]]] = {}
    seen: set[str] = set()
    for name, verdict in verdicts.items():
        contract = contracts.get(name)
        if contract is None or contract.members or verdict.effect is None:
            continue
        if contract.expect is not None:
            for key in (("seat", contract.seat), ("backend", contract.backend or "unknown")):
                found.setdefault(key, []).append((contract.expect, verdict.effect))
        if contract.idea:
            origin = origins.get(contract.idea) or Origin(NO_PAGE)
            for key, expect in _of_idea(contract, origin, contract.idea in seen):
                found.setdefault(key, []).append((expect, verdict.effect))
            seen.add(contract.idea)
    return [_score(*key, found[key]) for key in sorted(found, key=lambda key: (KINDS.index(key[0]), key[1]))]


def _of_idea(contract: Contract, origin: Origin, is_again: bool) -> list[tuple[tuple[By, str], float]]:
    """What the verdict of an experiment says about the idea that it names. is_again: an earlier one measured it."""
    source = origin.source or NO_PAGE
    if contract.idea_expect is None:
        return [(("idea source", source), contract.expect)] if contract.expect is not None else []
    if is_again:
        return []
    own = contract.idea_expect
    return [(("idea author", origin.author or source), own), (("idea source", source), own)]


def _score(by: By, who: str, pairs: list[tuple[float, float]]) -> Score:
    return Score(
        by=by,
        who=who,
        n=len(pairs),
        right=sum(expect * effect > 0 for expect, effect in pairs),
        signed=sum(expect != 0 for expect, _ in pairs),
        error=sum(abs(effect - expect) for expect, effect in pairs) / len(pairs),
    )


def signs(score: Score) -> str:
    """`7/9 (78%)`; `-` where no change was predicted."""
    return f"{score.right}/{score.signed} ({score.right / score.signed:.0%})" if score.signed else "-"
