"""Where the devices' time went: a section of the standup. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from org import times
from org.evidence import progress
from org.records import RunResult, Verdict
from org.team.prose import table
from org.words import counted

CAUSES = {  # of `progress.device_time`, for people
    "bank": "baseline bank",
    "search kept": "search, kept",
    "search discarded": "search, discarded",
    "search open": "search, no verdict yet",
    "verify": "verification",
    "promote": "re-tests at another scale",
    "refute": "attempts to refute",
    "crash": "crashed, over time or invalid",
    "lost": "lost by the org",
}


def section(results: Sequence[RunResult], verdicts: Mapping[str, Verdict]) -> str:
    """Seconds that devices were held, by cause, and what they spent them on."""
    held = progress.device_time(results, verdicts)
    total = sum(held.values())
    if not total:
        return "No device was used."
    causes = sorted((cause for cause in held if held[cause]), key=lambda cause: -held[cause])
    rows = [[CAUSES[cause], f"{held[cause]:.0f}", f"{held[cause] / total:.0%}"] for cause in causes]
    inside = {
        name: sum((getattr(r, axis) or 0.0) * len(r.devices) for r in results)
        for name, axis in (("training", "train_s"), ("compilation", "compile_s"), ("evaluation", "eval_s"))
    }
    rest = max(0.0, total - sum(inside.values()))
    parts = [f"{name} {seconds / total:.0%}" for name, seconds in {**inside, "start and other": rest}.items()]
    shown = table(["cause", "seconds held", "share"], [*rows, ["all", f"{total:.0f}", "100%"]])
    return f"{shown}\n\nOf all of it: {', '.join(parts)}.{_busy(results, total)}"


def _busy(results: Sequence[RunResult], total: float) -> str:
    """Share of the time between the first start and the last end in which the devices that ran anything were held."""
    starts = [at for r in results if (at := times.seconds(r.started)) is not None]
    ends = [at for r in results if (at := times.seconds(r.ended)) is not None]
    devices = len({device for r in results for device in r.devices})
    window = (max(ends) - min(starts)) * devices if starts and ends else 0.0
    return f" {counted(devices, 'device')}, busy {min(1.0, total / window):.0%}." if window > 0 else ""
