"""A control: the same change with its budget cut, or stretched, until both arms spend the same FLOPs. Pure.

A refutation cuts by what the org counted itself, `cpu_s`, where the code prints no more FLOPs and yet works longer.

    FLOPs of one run of either arm -> the candidate's budget -> its runs there -> the judge, as for any other pair

The budget rests on the first run of each tree, in the ledger's order, that printed its FLOPs, so it never changes once it
is known; a mean would move with every further run. Changes no record and starts nothing; a setting's digest is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from org.evidence import judge, matching
from org.evidence.judge import Budget, More
from org.records import KEPT, Charter, Contract, Outcome, RunResult, Scale, Verdict

PROBE = "probe"  # the arm of a short run that counts FLOPs: listed like any launch, an arm of no verdict
PROBE_PART = 20  # of the scale's steps
STRETCH = 4.0  # a budget never grows beyond: FLOPs are what the code printed, and seconds are real
UNSTACKED = "it joins no stack and moves no head: heads have the charter's budget"

Digest = Callable[[int, int, bool], str]  # steps, tokens, whether it is a probe -> setting


@dataclass(frozen=True)
class Plan:
    """The candidate's budget, and the two runs its FLOPs were read from."""

    budget: Budget
    share: float  # of the scale's budget: the baseline's FLOPs over the candidate's at the full one
    base: str
    cand: str
    axis: str = "flops"


@dataclass(frozen=True)
class Ended:
    """Why there is no such budget and never will be."""

    outcome: Outcome
    why: str
    run: str


def can_cut(charter: Charter, scale: str) -> bool:
    """Whether the command takes a budget from the org."""
    return "{steps}" in charter.command or ("{tokens}" in charter.command and charter.scales[scale].tokens > 0)


def next_step(contract: Contract, results: Iterable[RunResult], charter: Charter, digest: Digest) -> More | Verdict:
    """As `judge.next_step`, with the baseline at the scale's budget and the candidate at its own. `results`: all there are,
    in the ledger's order. The candidate's runs at the full budget are no part of it."""
    results = [r for r in results if r.scale == contract.scale]
    found = plan(contract, results, charter, digest)
    if isinstance(found, More):
        return found
    if isinstance(found, Ended):
        return judge.unmeasured(contract, found.outcome, found.why, charter, (found.run,))
    full = digest(0, 0, False)
    arms = [r for r in results if r.setting == (found.budget.setting if r.tree == contract.tree else full)]
    step = judge.next_step(contract, arms, charter)
    if isinstance(step, More):
        return More(step.runs, {"candidate": found.budget})
    return _explained(step, found, charter.scales[contract.scale])


def plan(contract: Contract, results: Iterable[RunResult], charter: Charter, digest: Digest) -> Plan | More | Ended:
    """The candidate's budget; the runs that have to count FLOPs first; or why there can be none."""
    scale = charter.scales[contract.scale]
    short = _short(scale, digest)
    full = digest(0, 0, False)
    results = list(results)
    base = [r for r in results if r.tree == contract.baseline_tree and r.setting == full and r.status != "lost"]
    cand = [r for r in results if r.tree == contract.tree and r.setting in (full, short.setting) and r.status != "lost"]
    axis = contract.control
    counted = [next((r for r in arm if _spent(r, axis) and r.steps), None) for arm in (base, cand)]
    ended = _silent("baseline", base, counted[0], axis) or _silent("candidate", cand, counted[1], axis)
    if ended:
        return ended
    asked = [("baseline", contract.seeds[0])] if counted[0] is None else []
    asked += [(PROBE, contract.seeds[0])] if counted[1] is None else []
    if asked:
        return More(tuple(asked), {PROBE: short})
    ours, theirs = counted
    assert ours is not None and theirs is not None
    share = _spent(ours, axis) / _at_full_budget(theirs, axis, scale, charter, theirs.setting == short.setting)
    if share > STRETCH:
        why = f"{theirs.run} spent {1 / share:.2g}x of the baseline's {_WORDS[axis]}, and a budget is stretched {STRETCH:g} times at most"
        return Ended("invalid", why, theirs.run)
    steps, tokens = max(1, round(scale.steps * share)), max(min(1, scale.tokens), round(scale.tokens * share))
    return Plan(Budget(digest(steps, tokens, False), steps, tokens), share, ours.run, theirs.run, axis)


def sentence(found: Plan | More | Ended, scale: Scale) -> str:
    """What the control will do, as far as it is known when it is filed."""
    if isinstance(found, Ended):
        return found.why
    if isinstance(found, More):
        return (
            f"control: a probe of {_probe_steps(scale)} steps counts what it spends first; the budget follows from that"
        )
    if found.budget.steps == scale.steps and abs(found.share - 1) <= matching.COUNTED:
        return f"control: {_WORDS[found.axis]} equal the baseline's in {found.cand}, so this is what a run without it would measure"
    return f"control at equal {_WORDS[found.axis]}: {found.budget.steps} of {scale.steps} steps, {found.share:.3g} of the budget, by {found.cand}"


def _explained(verdict: Verdict, found: Plan, scale: Scale) -> Verdict:
    """The verdict, and what was held equal how."""
    reasons = verdict.reasons
    table = verdict.matching
    unequal = matching.mismatch(table, "flops") if verdict.outcome == "invalid" else None
    if unequal and unequal in reasons and unequal.startswith("flops "):
        said = unequal.partition(" of the baseline's")[0]
        why = f"{said} of the baseline's at {found.budget.steps} steps: FLOPs do not follow the budget that finely; use a larger --scale"
        reasons = (why, *(r for r in reasons if r != unequal))
    reasons = (*reasons, sentence(found, scale))
    return replace(verdict, reasons=(*reasons, UNSTACKED) if verdict.outcome in KEPT else reasons)


def _silent(arm: str, runs: list[RunResult], counted: RunResult | None, axis: str) -> Ended | None:
    """Runs that could have shown what they spent and did not: no further one will."""
    if counted is not None or not runs:
        return None
    for run in runs:
        if run.status in ("ok", "invalid"):
            said = f" ({run.reason})" if run.reason else ""
            what = "flops_total:` and `steps:" if axis == "flops" else "steps:"
            why = f"{run.run} of the {arm} printed no {_WORDS[axis] if axis == 'flops' else 'steps'}{said}; print `{what}` after the line `---`"
            return Ended("invalid", why, run.run)
    broken = next((run for run in runs if arm == "baseline" or run.arm == PROBE), None)
    if broken is None:
        return None  # it ended without a summary at the full budget; a probe is shorter
    why = f"{broken.run} ended as {broken.status}" + (f" ({broken.reason})" if broken.reason else "")
    if arm == "baseline":
        return Ended("lost", f"the baseline's run {why}; nothing can be compared with it", broken.run)
    return Ended("crash", f"{why}; a crash of the candidate counts as a loss", broken.run)


_WORDS = {"flops": "FLOPs", "cpu_s": "processor seconds"}


def _spent(run: RunResult, axis: str) -> float:
    return float(getattr(run, axis) or 0.0)


def _at_full_budget(run: RunResult, axis: str, scale: Scale, charter: Charter, is_probe: bool) -> float:
    """What a run of this tree spends at the scale's budget. A probe's are scaled by what it says it spent, since a
    trainer rounds a budget of tokens to whole steps."""
    assert run.steps
    spent = _spent(run, axis)
    if not is_probe:
        return spent
    if "{steps}" not in charter.command and run.tokens:
        return spent * scale.tokens / run.tokens
    return spent * scale.steps / run.steps


def _short(scale: Scale, digest: Digest) -> Budget:
    steps = _probe_steps(scale)
    tokens = max(min(1, scale.tokens), round(scale.tokens * steps / scale.steps))
    return Budget(digest(steps, tokens, True), steps, tokens)


def _probe_steps(scale: Scale) -> int:
    return min(scale.steps, max(2, scale.steps // PROBE_PART))
