"""Every `--expect` held against what was measured: whose predictions have the right sign, and how far off they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from org.records import Contract, Record, Verdict

By = Literal["seat", "backend", "idea source"]
NO_PAGE = "no page"  # of an idea that was named and is not there


@dataclass(frozen=True)
class Score(Record):
    """Predictions of one seat, one backend or one source of ideas, over the whole ledger."""

    by: By
    who: str
    n: int
    right: int  # with the sign of what was measured
    signed: int  # of `n`, those that predict a change: 0 has no sign to be right
    error: float  # mean |predicted - measured|, in the metric's unit


def scores(
    contracts: Mapping[str, Contract], verdicts: Mapping[str, Verdict], sources: Mapping[str, str]
) -> list[Score]:
    """One score for each seat, backend and idea source that predicted anything that was measured, each kind by name.
    Verdicts without an effect say nothing; stacks do not count, since nobody predicted them. sources: idea -> its source;
    an experiment of no idea has none."""
    found: dict[tuple[By, str], list[tuple[float, float]]] = {}
    for name, verdict in verdicts.items():
        contract = contracts.get(name)
        if contract is None or contract.members or contract.expect is None or verdict.effect is None:
            continue
        keys: list[tuple[By, str]] = [("seat", contract.seat), ("backend", contract.backend or "unknown")]
        if contract.idea:
            keys.append(("idea source", sources.get(contract.idea) or NO_PAGE))
        for key in keys:
            found.setdefault(key, []).append((contract.expect, verdict.effect))
    kinds = ("seat", "backend", "idea source")
    return [_score(*key, found[key]) for key in sorted(found, key=lambda key: (kinds.index(key[0]), key[1]))]


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
