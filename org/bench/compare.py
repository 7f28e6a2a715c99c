"""Two or more homes side by side, from their ledgers alone: what each org verified, claimed and spent.

Says nothing about which org is better: two orgs one standard deviation apart need 17 repeats each to tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from org import charter as charters
from org.errors import BadInput
from org.evidence import progress, stats
from org.home import Home
from org.lab import ledger
from org.records import RunResult


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
    """Verified and claimed gain, runs, device hours and where they went, of one home."""
    charter = charters.load(home)
    book = ledger.read(home)
    results = list(book.results.values())
    baseline = baseline_of(results, charter.scale)
    course = progress.series(book.verdicts, results, baseline, charter.metric, book.experiments, book.retracted)
    kinds = [point.kind for point in course.points]
    judged = [v for v in book.verdicts.values() if book.experiments[v.experiment].stage == "search"]
    kept = sum(1 for v in judged if v.outcome in ("win", "holds"))
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
        "crashes": kinds.count("crash"),
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
