"""How far an org has come: points and best-so-far steps for the plot, best results, device time by cause. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from org.records import KEPT, Contract, Metric, RunResult, Verdict

Kind = Literal["baseline", "kept", "discarded", "verified", "crash"]
CAUSES = ("bank", "search kept", "search discarded", "search open", "verify", "promote", "refute", "crash", "lost")


@dataclass(frozen=True)
class Point:
    """One experiment. `value` is the mean metric of its candidate runs, None where there is none."""

    device_s: float  # seconds of device held when its verdict could be known, over all devices
    t: str  # when its last run ended, UTC
    experiment: str
    value: float | None
    kind: Kind
    label: str


@dataclass(frozen=True)
class Progress:
    """Steps are (device_s, value), best so far: `claimed` counts tentative wins, `best_steps` verified ones only."""

    points: list[Point]
    best_steps: list[tuple[float, float]]
    claimed_steps: list[tuple[float, float]]


def series(
    verdicts: Mapping[str, Verdict],
    results: Iterable[RunResult],
    baseline: float | None,
    metric: Metric,
    contracts: Mapping[str, Contract] | None = None,
    retracted: Collection[str] = (),
    scale: str | None = None,
) -> Progress:
    """The course of an org from its verdicts, in their order, and every result. baseline: mean metric of the start.
    What was measured at another budget, or at another scale than `scale`, is no point of it, and what was `retracted` is no
    step."""
    contracts = contracts or {}
    runs = list(results)
    held = _held(runs)
    by_run = {run.run: run for run in runs}
    made_for: dict[str, list[RunResult]] = {}
    for run in runs:
        made_for.setdefault(run.experiment, []).append(run)
    points: list[Point] = []
    if baseline is not None:
        bank = [run for run in runs if run.stage == "bank"]
        at = max((held[run.run] for run in bank), default=0.0)
        points.append(Point(at, _last(bank), "E0000", baseline, "baseline", "baseline"))
    for name, verdict in verdicts.items():
        if not is_on_the_curve(contracts.get(name), scale):
            continue
        own = made_for.get(name)
        rested = [by_run[r] for r in verdict.runs if r in by_run]
        seen = own or rested
        at = max((held[r.run] for r in seen), default=points[-1].device_s if points else 0.0)
        label = contracts[name].description if name in contracts else name
        value = _value(verdict, rested, contracts.get(name))
        kind = "discarded" if name in retracted else kind_of(verdict)
        points.append(Point(at, _last(seen), name, value, kind, label))
    best, claimed = _steps(points, metric, ("verified",)), _steps(points, metric, ("verified", "kept"))
    return Progress(points, best, claimed)


def is_on_the_curve(contract: Contract | None, scale: str | None = None) -> bool:
    """Whether the experiment measures at the charter's budget: a value at another one, a control's, a re-test's or an attack's, is on
    no one curve with the rest. One without a contract is taken to. scale: the charter's, where others are out too."""
    if contract is None:
        return True
    return not (contract.control or contract.promotes or contract.refutes) and scale in (None, contract.scale)


def kind_of(verdict: Verdict) -> Kind:
    if verdict.outcome in ("crash", "lost"):
        return "crash"
    if verdict.outcome not in KEPT:
        return "discarded"
    return "verified" if verdict.tier == "verified" else "kept"


def best(
    verdicts: Mapping[str, Verdict],
    contracts: Mapping[str, Contract],
    retracted: Collection[str] = (),
    wins: Mapping[str, tuple[str, float]] | None = None,
) -> dict[str, dict[str, Any] | None]:
    """The largest win of each tier that was not retracted, as `status --json` shows it; None where there is none.
    wins: name -> (tier, effect) where that is known without parsing; else the verdicts are asked."""
    if wins is None:
        wins = {n: (v.tier, v.effect) for n, v in verdicts.items() if v.outcome == "win" and v.tier and v.effect}
    found: dict[str, dict[str, Any] | None] = {"tentative": None, "verified": None}
    for name in sorted(wins, key=lambda name: -abs(wins[name][1])):
        tier = wins[name][0]
        if found.get(tier) or name in retracted or (name in contracts and contracts[name].control):
            continue
        found[tier] = {
            "experiment": name,
            "effect": verdicts[name].effect,
            "se": verdicts[name].se,
            "tier": tier,
            "description": contracts[name].description if name in contracts else "",
        }
        if all(found.values()):
            break
    return found


def device_time(results: Iterable[RunResult], verdicts: Mapping[str, Verdict]) -> dict[str, float]:
    """Seconds of device held, by what they went for. Every launched run counts, lost and crashed ones too."""
    spent = dict.fromkeys(CAUSES, 0.0)
    for run in results:
        spent[_cause(run, verdicts.get(run.experiment))] += run.held_s
    return spent


def _cause(run: RunResult, verdict: Verdict | None) -> str:
    if run.status != "ok":
        return "lost" if run.status == "lost" else "crash"
    if run.stage in ("bank", "verify", "promote", "refute"):
        return run.stage
    if verdict is None:
        return "search open"
    return "search kept" if kind_of(verdict) in ("kept", "verified") else "search discarded"


def _held(runs: list[RunResult]) -> dict[str, float]:
    """Seconds of device held by the end of each run, over all devices; runs in ledger order."""
    total, held = 0.0, {}
    for run in runs:
        total += run.held_s
        held[run.run] = total
    return held


def _last(runs: list[RunResult]) -> str:
    return max((run.ended or run.started or "" for run in runs), default="")


def _value(verdict: Verdict, rested: list[RunResult], contract: Contract | None) -> float | None:
    """Mean metric of the candidate's runs that the verdict rests on."""
    if contract is not None:
        own = [r for r in rested if r.tree == contract.tree]
    else:
        own = [r for r in rested if r.experiment == verdict.experiment and r.arm == "candidate"]
    values = [r.metric for r in own if r.metric is not None and math.isfinite(r.metric)]
    return math.fsum(values) / len(values) if values else None


def _steps(points: list[Point], metric: Metric, kinds: tuple[str, ...]) -> list[tuple[float, float]]:
    steps: list[tuple[float, float]] = []
    for point in points:
        if point.value is None or (point.kind != "baseline" and point.kind not in kinds):
            continue
        if not steps or metric.sign * (steps[-1][1] - point.value) > 0:
            steps.append((point.device_s, point.value))
    return steps
