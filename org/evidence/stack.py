"""Which tentative wins are verified together, and what follows when the stack fails. Pure; merges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from org.records import Contract, Verdict


def members(
    contracts: Mapping[str, Contract],
    verdicts: Mapping[str, Verdict],
    heads: Mapping[str, Mapping[str, Any]],
    program: str,
    head: str = "",
    limit: int = 4,
) -> list[str]:
    """Tentative wins of `program` measured against its present head and not yet in a decided stack, largest effect
    first, at most `limit`. Of two that moved one knob the better goes in. head: the commit, else the one in `heads`."""
    head = head or str((heads.get(program) or {}).get("commit") or "")
    decided = {
        name
        for experiment, contract in contracts.items()
        if contract.stage == "verify" and experiment in verdicts and verdicts[experiment].outcome != "lost"
        for name in contract.members
    }
    wins = []
    for name, verdict in verdicts.items():
        contract = contracts.get(name)
        if contract is None or contract.program != program or contract.stage != "search" or name in decided:
            continue
        if verdict.outcome != "win" or verdict.tier != "tentative" or verdict.effect is None:
            continue
        if head and contract.baseline_commit != head:
            continue
        wins.append((abs(verdict.effect), name))
    chosen: list[str] = []
    turned: set[tuple[str, str]] = set()
    trees: set[str] = set()
    for _, name in sorted(wins, key=lambda win: (-win[0], win[1])):
        knobs = {(knob.path, knob.name) for knob in contracts[name].knobs}
        if knobs & turned or contracts[name].tree in trees:
            continue
        chosen.append(name)
        turned |= knobs
        trees.add(contracts[name].tree)
    return chosen[:limit]


def halves(members: Sequence[str]) -> tuple[list[str], list[str]]:
    """The stack dealt into two, so that the strongest members do not meet in one half."""
    return list(members[::2]), list(members[1::2])


def after_failure(members: Sequence[str], is_half: bool = False) -> list[list[str]]:
    """What to verify next when a stack failed: its halves, once. A single claim or a half that failed is dropped."""
    if is_half or len(members) < 2:
        return []
    return [half for half in halves(members) if half]


def additivity(effects: Sequence[float], measured: float) -> float | None:
    """Measured effect of a stack over the sum of its members' own: 1 when they add up. None when the sum is zero."""
    total = sum(effects)
    return measured / total if total else None


def credits(whole: float, without: Mapping[str, float]) -> dict[str, float]:
    """What each member adds to a stack: the stack's effect less its effect without that member."""
    return {name: whole - effect for name, effect in without.items()}
