"""`org bench stats`: what the evidence rule keeps and what it costs, scenario by scenario, beside two other rules.

Every row is a mean over campaigns of one budget; the seeds and the versions it was made with stand in it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

from org import __version__
from org.bench.campaign import BUDGET, RULES, Campaign, Scenario, Tally, World

EFFECTS = (1.0, 2.0, 3.0, 4.0)
SHARES = (0.2, 0.05)
CONFLICTING = 0.2
MOST_NULLS, MOST_CLAIMED = 0.001, 1.1  # targets of the org's rule: null_keep_rate, claimed over true
OVER_ONE_BY_ONE = {0.2: 1.5, 0.05: 1.2}  # its gain, at least, by the share of good ideas
OVER = ("gain_over_one_by_one", "gain_over_se")


def scenarios() -> list[Scenario]:
    """Nulls alone; then every share of good ideas, effect, with and without conflicts, sigma estimated and known."""
    found = [Scenario(0.0, 0.0, 0.0, is_known) for is_known in (False, True)]
    for is_known in (False, True):
        for share in SHARES:
            for conflicting in (0.0, CONFLICTING):
                found += [Scenario(share, effect, conflicting, is_known) for effect in EFFECTS]
    return found


def table(
    campaigns: int = 20,
    seed: int = 1,
    chosen: Sequence[Scenario] | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """One row a scenario and rule, the org's last; `on_row` sees each as it is made."""
    rows = []
    for scenario in scenarios() if chosen is None else chosen:
        single: dict[str, Any] = {}
        for rule, kind in RULES.items():
            made = row(scenario, rule, kind, campaigns, seed)
            single = made if rule == "one-by-one" else single
            made |= _over(made, single) if rule == "org" else dict.fromkeys(OVER)
            rows.append(made)
            if on_row:
                on_row(made)
    return rows


def row(scenario: Scenario, rule: str, kind: type[Campaign], campaigns: int, seed: int) -> dict[str, Any]:
    """Means of `campaigns` campaigns; under every rule the same ideas come in the same order."""
    done = [kind(World(scenario, f"{seed}/{scenario.name}/{number}")).run() for number in range(campaigns)]

    def total(name: str) -> float:
        return sum(float(getattr(one, name)) for one in done)

    kept, moved = total("null_keeps") + total("true_keeps"), total("moved")
    return {
        "scenario": scenario.name,
        "good": scenario.good,
        "effect_sigma": scenario.effect,
        "conflicting": scenario.conflicting,
        "sigma": "known" if scenario.is_sigma_known else "estimated",
        "rule": rule,
        "campaigns": campaigns,
        "budget": BUDGET,
        "runs": total("runs") / campaigns,
        "tried": total("tried") / campaigns,
        "nulls_tried": int(total("nulls")),
        "null_keeps": int(total("null_keeps")),
        "null_keep_rate": total("null_keeps") / total("nulls") if total("nulls") else 0.0,
        "false_share": total("null_keeps") / kept if kept else 0.0,
        "true_keeps": total("true_keeps") / campaigns,
        "gain": total("gain") / campaigns,
        "gain_se": _standard_error(done),
        "claimed_over_true": total("claimed") / moved if moved > 0 else None,
        "heads": total("heads") / campaigns,
        "unproven": total("unproven") / campaigns,
        "seed": seed,
        "versions": {"org": __version__, "python": platform.python_version()},
    }


HEAD = (
    "scenario", "sigma", "rule", "tried", "null_keep_rate", "false_share", "true keeps", "gain/650", "x one-by-one", "claim/true",
)  # fmt: skip


def cells(made: dict[str, Any]) -> list[str]:
    """One row as it is printed under HEAD."""
    ratio, over = made["claimed_over_true"], made["gain_over_one_by_one"]
    return [
        made["scenario"],
        made["sigma"],
        made["rule"],
        f"{made['tried']:.0f}",
        f"{made['null_keep_rate']:.3%}",
        f"{made['false_share']:.1%}",
        f"{made['true_keeps']:.1f}",
        f"{made['gain']:.1f} ± {made['gain_se']:.1f}",
        "-" if over is None else f"{over:.2f}",
        "-" if ratio is None else f"{ratio:.2f}",
    ]


def missed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences about the org's rule: its null_keep_rate over all scenarios, then each target it misses somewhere, or is
    beyond by less than two standard errors: with few campaigns a rare null more or less does that."""
    ours = [made for made in rows if made["rule"] == "org"]
    kept, tried = sum(made["null_keeps"] for made in ours), sum(made["nulls_tried"] for made in ours)
    found = [f"org: {kept} of {tried} nulls kept over all scenarios, {kept / max(tried, 1):.3%}"]
    for made in ours:
        where = f"at {made['scenario']}, sigma {made['sigma']}"
        most = MOST_NULLS * made["nulls_tried"]
        if made["null_keeps"] > most:
            is_clear = made["null_keeps"] > most + 2 * most**0.5
            found.append(f"{_word(is_clear)}: null_keep_rate {made['null_keep_rate']:.3%} > {MOST_NULLS:.1%} {where}")
        if made["claimed_over_true"] is not None and made["claimed_over_true"] > MOST_CLAIMED:
            found.append(f"missed: claimed_over_true {made['claimed_over_true']:.2f} > {MOST_CLAIMED:g} {where}")
        over, least = made["gain_over_one_by_one"], OVER_ONE_BY_ONE.get(made["good"])
        if over is not None and least is not None and over < least:
            is_clear = over + 2 * made["gain_over_se"] < least
            found.append(f"{_word(is_clear)}: gain {over:.2f} x one-by-one < {least:g} {where}")
    return found


def _word(is_clear: bool) -> str:
    return "missed" if is_clear else "within two standard errors"


def _over(ours: dict[str, Any], single: dict[str, Any]) -> dict[str, float | None]:
    """The gain over the one-by-one rule's, with its standard error; None where that rule gained nothing."""
    if not single or single["gain"] <= 0 or ours["gain"] <= 0:
        return dict.fromkeys(OVER)
    over = ours["gain"] / single["gain"]
    spread = sum((made["gain_se"] / made["gain"]) ** 2 for made in (ours, single)) ** 0.5
    return dict(zip(OVER, (over, over * spread), strict=True))


def _standard_error(done: Sequence[Tally]) -> float:
    if len(done) < 2:
        return 0.0
    mean = sum(one.gain for one in done) / len(done)
    return float((sum((one.gain - mean) ** 2 for one in done) / (len(done) - 1) / len(done)) ** 0.5)
