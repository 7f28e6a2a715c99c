"""What two arms cost beside the metric: the table that stands next to every verdict, and the unfair comparisons in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from org.records import RunResult

AXES = ("params", "flops", "tokens", "steps", "train_s", "total_s", "first_step_s", "compile_s", "cpu_s", "vram_mb")
COUNTED = 0.02  # counted axes differ by more than this: another experiment
TIMED = 0.10  # seconds are noisy
WORK = 1.0  # more work by the org's own count than this share of the baseline's: it is not what the summary says
NOISE_S = 0.25  # processor seconds by which two runs differ for the start of their processes alone, on a busy machine
TINY = 1e-12

Table = dict[str, dict[str, float | None]]


def table(base: Sequence[RunResult], cand: Sequence[RunResult]) -> Table:
    """Mean of every axis over the runs of each arm; None where no run reported it."""
    return {a: {"baseline": _mean_of(base, a), "candidate": _mean_of(cand, a)} for a in AXES}


def axis_values(results: Sequence[RunResult], axis: str) -> list[float]:
    """One number a run that reported it. `step_s` and `wall_s` are derived: training seconds a step, and in all."""
    values = []
    for result in results:
        value = _value(result, axis)
        if value is not None and math.isfinite(value):
            values.append(float(value))
    return values


def mismatch(table: Mapping[str, Mapping[str, float | None]], matched: str, less_is_fair: bool = False) -> str | None:
    """Why the two arms are no fair pair, naming the control to run; None when they are one.

    Beside the matched axis, compute is watched: more FLOPs at equal tokens is a bigger model, whatever else is equal;
    and so is what the org counted itself, since the other axes are what the code printed. An axis that only the
    candidate keeps to itself is no equal one. `less_is_fair`: less of the matched axis is, as in a no-worse claim.
    """
    axis = "train_s" if matched == "wall_s" else matched
    silent = [a for a in dict.fromkeys((axis, "flops", "tokens")) if _is_silent(table, a)]
    if silent:
        return f"{silent[0]} is printed by the baseline and not by the candidate; print it as the baseline does"
    excess = _excess(table, axis)
    limit = TIMED if axis == "train_s" else COUNTED
    if excess is not None and (excess > limit or (excess < -limit and not less_is_fair)):
        return (
            f"{matched} {_change(excess)} of the baseline's, and this claim holds {matched} equal; {_control(matched)}"
        )
    if works_longer(table, WORK):
        return (
            f"the run took {_change(_excess(table, 'cpu_s') or 0.0)} of the baseline's processor seconds by the org's count, and its summary says equal "
            f"{matched}; count all of the work in its summary"
        )
    if matched in ("flops", "wall_s"):
        return None
    flops, params = _excess(table, "flops"), _excess(table, "params")
    if flops is not None and flops > COUNTED:
        return f"flops {_change(flops)} of the baseline's: a bigger model, or more work a token, is compared {_EQUAL_FLOPS}"
    if flops is None and params is not None and params > COUNTED:
        return (
            f"params {_change(params)} of the baseline's and no FLOPs are reported: it is compared at equal FLOPs, once base and "
            "candidate print `flops_total:`"
        )
    return None


def works_longer(table: Mapping[str, Mapping[str, float | None]], share: float) -> bool:
    """Whether the candidate took more processor seconds, by the org's own count, than the baseline and this share of it;
    a difference that starting a process makes is none."""
    excess, row = _excess(table, "cpu_s"), table.get("cpu_s", {})
    return excess is not None and excess > share and (row["candidate"] or 0.0) - (row["baseline"] or 0.0) > NOISE_S


def net(
    effect: float, table: Mapping[str, Mapping[str, float | None]], exchange: Mapping[str, float], sign: int
) -> float:
    """The effect after the charter's exchange rates: `step_pct: 0.0005` charges 0.0005 metric units for each percent of
    step time, and pays as much for each percent saved. `<axis>_pct` works for every axis of the table."""
    total = effect
    for name, rate in exchange.items():
        axis = {"step": "step_s", "vram": "vram_mb", "wall": "train_s"}.get(
            name.removesuffix("_pct"), name.removesuffix("_pct")
        )
        excess = _excess(table, axis)
        if excess is not None:
            total += sign * rate * 100 * excess
    return total


CONTROL = "run `org run -m … --control flops`"
_EQUAL_FLOPS = f"at equal FLOPs, never at equal steps alone; {CONTROL}"


def _is_silent(table: Mapping[str, Mapping[str, float | None]], axis: str) -> bool:
    row = table.get(axis, {})
    return row.get("baseline") is not None and "candidate" in row and row["candidate"] is None


def _control(matched: str) -> str:
    return CONTROL if matched == "flops" else f"make it equal, or {CONTROL}"


def _change(excess: float) -> str:
    return f"{1 + excess:.2f}x" if abs(excess) >= 0.1 else f"{100 * (1 + excess):.1f} %"


def _excess(table: Mapping[str, Mapping[str, float | None]], axis: str) -> float | None:
    """(candidate - baseline) / baseline; None where one of them is not known."""
    if axis == "step_s":
        train, steps = table.get("train_s", {}), table.get("steps", {})
        row: Mapping[str, float | None] = {
            arm: t / s if (t := train.get(arm)) is not None and (s := steps.get(arm)) else None
            for arm in ("baseline", "candidate")
        }
    else:
        row = table.get(axis, {})
    old, new = row.get("baseline"), row.get("candidate")
    if old is None or new is None or abs(old) < TINY:
        return None
    return (new - old) / old


def _value(result: RunResult, axis: str) -> float | None:
    if axis == "step_s":
        return result.train_s / result.steps if result.train_s is not None and result.steps else None
    value = getattr(result, "train_s" if axis == "wall_s" else axis, None)
    return float(value) if value is not None else None


def _mean_of(results: Sequence[RunResult], axis: str) -> float | None:
    values = axis_values(results, axis)
    return math.fsum(values) / len(values) if values else None
