"""Whether numbers that only the code under study printed can be the baseline's metric. Pure; asked by the judge alone.

A referee's number needs none of this. Where none is, what is left to hold a printed number against is the charter's
`range`, the baseline's own number, and the processor seconds that the org counted.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence

from org.evidence import matching, stats
from org.evidence.rules import matches_any
from org.records import Charter, Contract, Metric, RunResult

FAR = 4.0  # times the baseline's metric that one change may print, where lower is better and no range is given
SHORT = 2.0  # times fewer processor seconds than the baseline's that one change may take
START_S = 0.1  # and at least so many: below it the difference is what starting a process takes on a busy machine
PROMOTED = 4  # changes that a re-test counts as: it may be of a stack, and does not say how many that has
TIME_WORDS = {"s", "ms", "us", "ns", "sec", "secs", "second", "seconds", "time", "latency", "runtime", "throughput"}


def why_not(contract: Contract, charter: Charter, base: Sequence[RunResult], cand: Sequence[RunResult]) -> str | None:
    """Why the candidate's printed numbers are not believed, and what says otherwise if they are right; else None."""
    printed = [r for r in cand if r.status == "ok" and r.trust == "reported" and r.metric is not None]
    known = [r for r in base if r.status == "ok" and r.metric is not None]
    if not printed or not known:
        return None
    changes = PROMOTED if contract.promotes else max(1, len(contract.members))
    return _out_of_place(charter, known, printed, changes) or _too_soon(contract, charter, known, printed, changes)


def is_frozen(charter: Charter) -> bool:
    """Whether the program that the command starts, which prints the summary, is a file that no candidate may change."""
    words = shlex.split(charter.command)
    module = next((after for word, after in itertools.pairwise(words) if word == "-m"), None)
    if module is not None:
        path = module.replace(".", "/")
        programs = [f"{path}.py", f"{path}/__main__.py"]
    else:
        programs = [word.removeprefix("./") for word in words if word.endswith(".py")][:1]
    return any(matches_any(p, charter.frozen) and not matches_any(p, charter.editable) for p in programs)


def is_time(name: str) -> bool:
    """Whether a metric or an axis is seconds, by its name: `seconds`, `step_ms`, `tokens_per_s`."""
    return not TIME_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def allowed(metric: Metric) -> str:
    """The charter's range in words, as in `0 to 1` and `0 or more`."""
    low, high = metric.range or (None, None)
    if low is None:
        return f"{high:g} or less"
    return f"{low:g} or more" if high is None else f"{low:g} to {high:g}"


def _out_of_place(charter: Charter, base: Sequence[RunResult], cand: Sequence[RunResult], changes: int) -> str | None:
    """A number that the metric cannot be: outside the charter's range or, where there is none, of another sign or size
    than a loss can come to by the better."""
    metric = charter.metric
    values = [r.metric for r in cand if r.metric is not None]
    if metric.range is not None:
        low, high = metric.range
        for value in values:
            if (low is not None and value < low) or (high is not None and value > high):
                return (
                    f"the printed metric is {value:.4g}, and the charter's range of {metric.name} is {allowed(metric)}"
                )
        return None
    old, new = stats.mean([r.metric for r in base if r.metric is not None]), stats.mean(values)
    if metric.direction == "higher" or old == 0 or is_frozen(charter):
        return None  # accuracies and rewards begin anywhere, 0 below 0 too, and a frozen file prints what it measured
    if new < old and (old * new < 0 or not abs(old) / FAR**changes <= abs(new) <= abs(old) * FAR**changes):
        return (
            f"the printed metric is {new:.4g} where the baseline's is {old:.4g}: not the same quantity; if it is, say "
            "`range: [LOWEST, HIGHEST]` in the charter's metric"
        )
    return None


def _too_soon(
    contract: Contract, charter: Charter, base: Sequence[RunResult], cand: Sequence[RunResult], changes: int
) -> str | None:
    """A number made in no time. Where time is the metric it is what research is to save; where a claim gains time or
    arithmetic, the saving may be FAR, and any at all when a frozen file measures."""
    if is_time(charter.metric.name):
        return None
    axis = contract.claim.partition(":")[2]
    is_gained = is_time(axis) or axis in ("flops", "params")
    if is_gained and is_frozen(charter):
        return None
    limit = (FAR if is_gained else SHORT) ** changes
    row = matching.table(base, cand)["cpu_s"]
    before, after = row["baseline"], row["candidate"]
    if not before or after is None or after >= before / limit or before - after < START_S:
        return None
    why = f"the run took {after:.3g} processor seconds and the baseline {before:.3g}: too few to have trained as it printed"
    return f"{why}; if it did, let a frozen file measure and print it" if is_gained else why
