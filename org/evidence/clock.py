"""Wall-clock identities: what no honest ledger can say about when its runs ran. Pure; reads no clock.

    a device does one run at a time; a run ends after it began, lasts no longer than that, is recorded after it ended and
    before what rests on it

Times come from one machine's clock, which may be set right by a second now and then: SLACK_S is let through. Says nothing
of runs the org lost: who recorded them may not know when they ended, and they carry no number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from org.times import seconds

SLACK_S = 2.0  # a step of the clock by a second, at both ends
DRIFT = 0.001  # of the time that passed: a clock that is pulled right slowly, over days

Problem = tuple[int, str]  # line of the ledger from 1 on, and what is wrong with it


@dataclass(frozen=True)
class Held:
    """A run's time on one device, in Unix seconds."""

    line: int
    run: str
    start: float
    end: float
    total_s: float


def problems(rows: Sequence[Mapping[str, Any]], numbers: Sequence[int] | None = None) -> list[Problem]:
    """What cannot be true of `rows`, the ledger's lines in their order; naming lines. numbers: theirs, else 1 and on."""
    held: dict[str, list[Held]] = {}
    found: list[Problem] = []
    ended: dict[str, float] = {}
    for line, row in zip(numbers or range(1, len(rows) + 1), rows, strict=True):
        if row.get("kind") == "result":
            found += _of_a_result(line, row)
            end = seconds(row.get("ended"))
            ended[str(row.get("run"))] = math.inf if end is None else end
            for device in str(row.get("device")).split("+") if row.get("status") != "lost" else ():
                held.setdefault(device, []).extend(_held(line, row))
        elif row.get("kind") in ("verdict", "credit"):
            found += _of_a_verdict(line, row, ended)
    for device, runs in held.items():
        found += _overlaps(device, runs)
        found += _sums(device, runs)
    return sorted(found)


def unmeasured(rows: Sequence[Mapping[str, Any]], numbers: Sequence[int] | None = None) -> list[Problem]:
    """Those of `problems` that no clock explains: a verdict rests on a run that no line before it measured."""
    found: list[Problem] = []
    known: dict[str, float] = {}
    for line, row in zip(numbers or range(1, len(rows) + 1), rows, strict=True):
        if row.get("kind") == "result":
            known[str(row.get("run"))] = -math.inf
        elif row.get("kind") in ("verdict", "credit"):
            found += _of_a_verdict(line, row, known)
    return found


def _of_a_result(line: int, row: Mapping[str, Any]) -> Iterator[Problem]:
    run, is_lost = row.get("run"), row.get("status") == "lost"
    start, end, written = (seconds(row.get(name)) for name in ("started", "ended", "t"))
    if end is None or (start is None and not (is_lost and row.get("started") is None)):
        yield line, f"{run} does not say when it began and ended"
        return
    if written is not None and end > written + SLACK_S:
        yield line, f"{run} ended {end - written:.1f} s after its line was written"
    if start is None or is_lost:
        return
    if end < start - SLACK_S:
        yield line, f"{run} ended {start - end:.1f} s before it began"
    elif _number(row.get("total_s")) > end - start + SLACK_S + DRIFT * (end - start):
        yield (
            line,
            f"{run} took {_number(row.get('total_s')):.1f} s of the {end - start:.1f} s from its start to its end",
        )


def _of_a_verdict(line: int, row: Mapping[str, Any], ended: Mapping[str, float]) -> Iterator[Problem]:
    runs, written = row.get("runs"), seconds(row.get("t"))
    for run in runs if isinstance(runs, list | tuple) else ():
        if str(run) not in ended:
            yield line, f"the {row['kind']} rests on {run}, which no line before it measured"
        elif written is not None and math.inf > ended[str(run)] > written + SLACK_S:
            yield line, f"the {row['kind']} rests on {run}, which ended {ended[str(run)] - written:.1f} s after it"


def _held(line: int, row: Mapping[str, Any]) -> Iterator[Held]:
    start, end = seconds(row.get("started")), seconds(row.get("ended"))
    if start is not None and end is not None and end >= start:
        yield Held(line, str(row.get("run")), start, end, _number(row.get("total_s")))


def _overlaps(device: str, runs: Iterable[Held]) -> Iterator[Problem]:
    last: Held | None = None
    for run in sorted(runs, key=lambda run: (run.start, run.end)):
        both = min(run.end, last.end) - run.start if last else 0.0
        if last and both > SLACK_S:
            later, other = (run, last) if run.line > last.line else (last, run)
            yield later.line, f"{later.run} and {other.run} (line {other.line}) were both on {device} for {both:.1f} s"
        last = run if last is None or run.end > last.end else last


def _sums(device: str, runs: Sequence[Held]) -> Iterator[Problem]:
    """Many short overlaps are each within the slack; together they are not."""
    passed = max((run.end for run in runs), default=0.0) - min((run.start for run in runs), default=0.0)
    used = math.fsum(run.total_s for run in runs)
    if used > passed + SLACK_S + DRIFT * passed:
        line = max(run.line for run in runs)
        yield line, f"the {len(runs)} runs on {device} up to here took {used:.1f} s of the {passed:.1f} s that passed"


def _number(value: Any) -> float:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_one else 0.0
