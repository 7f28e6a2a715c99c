"""Two or more homes side by side, from their ledgers alone: what each org verified, claimed and spent.

Which org is better is said only where intervals do not overlap: two orgs one standard deviation apart need 17 repeats each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from org import charter as charters
from org.errors import BadInput
from org.evidence import progress, stats
from org.home import Home
from org.lab import ledger
from org.records import KEPT, RunResult

# Student's t, two-sided 95 %, for 1, 2, … degrees of freedom; the normal's beyond
T95 = (
    12.71,
    4.30,
    3.18,
    2.78,
    2.57,
    2.45,
    2.36,
    2.31,
    2.26,
    2.23,
    2.20,
    2.18,
    2.16,
    2.14,
    2.13,
    2.12,
    2.11,
    2.10,
    2.09,
    2.09,
)


def compare(homes: Iterable[Home]) -> list[dict[str, Any]]:
    """One row a home. Gains are improvements in the metric's unit, positive when better, against the home's first
    baseline. Raises BadInput when two homes do not measure the same thing."""
    homes = list(homes)
    metrics = {str(home.root): charters.load(home).metric for home in homes}
    if len({(m.name, m.direction) for m in metrics.values()}) > 1:
        shown = ", ".join(f"{root}: {m.name}" for root, m in metrics.items())
        raise BadInput(f"these homes measure different metrics ({shown}); compare homes of one task")
    return [row(home) for home in homes]


def row(home: Home) -> dict[str, Any]:
    """Verified and claimed gain at the charter's scale, runs, device hours and where they went, of one home."""
    charter = charters.load(home)
    book = ledger.read(home)
    results = list(book.results.values())
    baseline = baseline_of(results, charter.scale)
    course = progress.series(
        book.verdicts, results, baseline, charter.metric, book.experiments, book.retracted, charter.scale
    )
    crashes = [
        name
        for name, verdict in book.verdicts.items()
        if progress.is_on_the_curve(book.experiments.get(name)) and progress.kind_of(verdict) == "crash"
    ]
    judged = [v for v in book.verdicts.values() if book.experiments[v.experiment].stage == "search"]
    kept = sum(1 for v in judged if v.outcome in KEPT and v.experiment not in book.retracted)
    spent = progress.device_time(results, book.verdicts)
    verified = _gain(course.best_steps, charter.metric.sign)
    claimed = _gain(course.claimed_steps, charter.metric.sign)
    return {
        "home": str(home.root),
        "org": str(book.rows[-1].get("org", "")) if book.rows else "",
        "scale": charter.scale,
        "metric": charter.metric.name,
        "data": sorted({r.data_hash for r in results if r.data_hash}),
        "baseline": baseline,
        "verified_gain": verified,
        "claimed_gain": claimed,
        "claimed_over_verified": claimed / verified if claimed is not None and verified else None,
        "experiments": len(judged),
        "kept_share": kept / len(judged) if judged else None,
        "crashes": len(crashes),
        "runs": len(results),
        "device_h": sum(spent.values()) / 3600,
        "device_s_by_cause": spent,
    }


def baseline_of(results: Iterable[RunResult], scale: str) -> float | None:
    """Mean metric of the bank at `scale`; None before its first run."""
    values = [r.metric for r in results if r.stage == "bank" and r.scale == scale and r.is_ok and r.metric is not None]
    return stats.mean(values) if values else None


def _gain(steps: list[tuple[float, float]], sign: int) -> float | None:
    return sign * (steps[0][1] - steps[-1][1]) if steps else None


@dataclass(frozen=True)
class Standing:
    """What one org gained, over all its repeats: the mean and its 95 % interval, without ends where there is one repeat."""

    name: str
    repeats: int
    gain: float
    low: float
    high: float


def standings(rows: Iterable[dict[str, Any]]) -> list[Standing]:
    """Homes launched from the same org folder are repeats of one org; those without a gain yet gained nothing."""
    gains: dict[str, list[float]] = {}
    for made in rows:
        gains.setdefault(made["org"] or made["home"], []).append(made["verified_gain"] or 0.0)
    return [Standing(name, len(values), *interval(values)) for name, values in gains.items()]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, lower, upper): 95 % for the mean by Student's t, no ends for a single value."""
    middle = stats.mean(values)
    if len(values) < 2:
        return middle, -math.inf, math.inf
    quantile = T95[min(len(values) - 1, len(T95)) - 1] if len(values) <= len(T95) else 1.96
    half = quantile * math.sqrt(stats.squares(values) / (len(values) - 1) / len(values))
    return middle, middle - half, middle + half


def ranking(found: Sequence[Standing]) -> list[str]:
    """Who gained more than whom, a sentence each neighbouring pair; that it cannot be told where the intervals overlap."""
    order = sorted(found, key=lambda one: -one.gain)
    said = []
    for one, other in itertools.pairwise(order):
        if one.low > other.high:
            said.append(f"{one.name} gains more than {other.name}: {_span(one)} against {_span(other)}")
        else:
            why = "one repeat shows no interval" if min(one.repeats, other.repeats) < 2 else "their intervals overlap"
            said.append(f"{one.name} and {other.name} are not ranked: {why} ({_span(one)}, {_span(other)})")
    return said


def _span(one: Standing) -> str:
    if one.repeats < 2:
        return f"{one.gain:+.4f}"
    return f"{one.gain:+.4f}, 95 % {one.low:+.4f} to {one.high:+.4f}"
