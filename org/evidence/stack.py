"""Which tentative wins are verified together, what follows when the stack fails, and what each member is worth when it
passed. Pure; merges nothing, starts nothing.

    members -> stack judged -> passed: the head moves, each member owes a credit -> its removal is judged on the stack's seeds
                            -> failed: halves, once                                helps: credited; does not: dropped
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from org.evidence import ladder, stats
from org.records import KEPT, Contract, Record, Rules, RunResult, Verdict

STACK_OF = 4  # tentative wins that are verified together
# A removal's harm in standard errors, by the number of looks that are left: two of the stack's own seeds, all of them, as
# many again. Most are decided before the last. Of the nulls that a passed stack carries 1 in 50 is credited, of members
# of 2 sigma 14 in 15 (`org bench stats`); one threshold of 1.64 on four seeds: 1 in 15, and 5 in 6.
HELPS_Z = (2.33, 2.58, 2.58)  # at or above: credited
INERT_Z = (2.33, 0.7, 0.0)  # below: it leaves; between the two it is looked at again


@dataclass(frozen=True)
class Credit(Record):
    """What one member adds to the head `commit`: the head less the head without it, seed by seed on the stack's seeds.

    `helps`: its removal was measured to hurt. `inert`: it was not, so the member leaves the head. `unknown`: the removal
    could not be measured, and the member stays without a credit.
    """

    program: str
    experiment: str  # the stack whose seeds and runs this rests on
    commit: str
    member: str
    tree: str  # the head without the member
    outcome: Literal["helps", "inert", "unknown"]
    effect: float | None
    se: float | None
    z: float | None  # positive when the member helps
    without: str = ""  # the commit of that tree, what the head becomes when the member leaves
    runs: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Owing:
    """A program's head and what is known of its members: `due` have no credit on this head yet, `inert` are to leave it."""

    program: str
    experiment: str
    commit: str
    tree: str
    due: tuple[str, ...]  # the smallest first: the likeliest to leave, and what follows is measured without it
    inert: tuple[Credit, ...] = ()
    removed: tuple[str, ...] = ()  # taken out since that stack
    seeds: tuple[int, ...] = ()  # fresh ones: for the head's bank, and for a second look

    @property
    def leaves(self) -> Credit | None:
        """The member to take out next. At once and one at a time: of two that undo each other each alone looks inert, and
        what is measured after this one stands on the head without it."""
        return self.inert[0] if self.inert else None


def members(
    contracts: Mapping[str, Contract],
    verdicts: Mapping[str, Verdict],
    heads: Mapping[str, Mapping[str, Any]],
    program: str | Collection[str],
    head: str | Collection[str] = "",
    limit: int = STACK_OF,
    out: Mapping[str, str] | None = None,
    scale: str = "",
) -> list[str]:
    """Tentative wins of `program`, or of several that share one head, measured against that head and not yet in a decided
    stack, largest effect first, at most `limit`. Of two that moved one knob the better goes in. head: the commit, or the
    commits that count as it (see `same_head`), else the one in `heads`. out: what is not stacked, see `ladder.out`. scale: the one that heads
    move at, "" for any."""
    programs = _named(program)
    head = head or str((heads.get(programs[0]) or {}).get("commit") or "")
    here = {head} - {""} if isinstance(head, str) else set(head)
    known = standing(contracts, verdicts, programs, here, out, scale)
    wins = [(abs(verdicts[name].effect or 0.0), name) for name, why in known.items() if not why]
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


def standing(
    contracts: Mapping[str, Contract],
    verdicts: Mapping[str, Verdict],
    program: str | Collection[str],
    here: Collection[str],
    out: Mapping[str, str] | None = None,
    scale: str = "",
) -> dict[str, str]:
    """The tentative wins of `program` that no passed stack holds -> why each is not stacked, to follow its name; "" for
    those that can be. here: the commits that count as the head, none for any."""
    decided = {
        name: experiment
        for experiment, contract in contracts.items()
        if contract.stage == "verify" and experiment in verdicts and verdicts[experiment].outcome != "lost"
        for name in contract.members
    }
    programs = _named(program)
    found = {}
    for name, verdict in verdicts.items():
        contract = contracts.get(name)
        if contract is None or contract.program not in programs or contract.stage != "search":
            continue
        if verdict.outcome != "win" or verdict.tier != "tentative" or verdict.effect is None:
            continue
        if name in decided and verdicts[decided[name]].outcome in KEPT:
            continue
        found[name] = ""
        if name in decided:
            found[name] = f"did not hold in {decided[name]}"
        elif contract.control:
            found[name] = f"has another budget than the head; `org verify {name}` measures it alone"
        elif out and name in out:
            found[name] = out[name]
        elif scale and contract.scale != scale:
            found[name] = f"was measured at {contract.scale}, and heads move at {scale}; file it there"
        elif here and contract.baseline_commit not in here:
            found[name] = f"was measured on an earlier head; `org verify {name}`, or file it again on this one"
    return found


def verification_runs(rules: Rules, members: Sequence[str], verdicts: Mapping[str, Verdict] | None = None) -> int:
    """Fresh seeds an arm: a claim that stands alone needs more than a stack, whoever put it there, unless the search
    showed it at twice the z that it has to show again. verdicts: of the searches, where they are known."""
    if len(members) > 1:
        return rules.verify_runs
    shown = [(verdicts or {}).get(name) for name in members]
    if shown and all(v is not None and v.claim == "better" and (v.z or 0.0) >= 2 * rules.verified_z for v in shown):
        return (
            rules.verify_runs
        )  # what is left of it after its luck passes as surely on these as a weak one on twice as many
    return rules.verify_single_runs


def _named(program: str | Collection[str]) -> tuple[str, ...]:
    return (program,) if isinstance(program, str) else tuple(program)


def bank_due(head: Mapping[str, Any], measured: Collection[int], bank: int) -> list[int]:
    """Seeds on which a head is to be measured besides those that made it, until it has `bank` runs: the runs that moved
    it are lucky ones, and every search compares with them."""
    missing = [int(seed) for seed in head.get("seeds") or () if seed not in measured]
    return missing[: max(0, bank - len(measured))]


def halves(members: Sequence[str]) -> tuple[list[str], list[str]]:
    """The stack dealt into two, so that the strongest members do not meet in one half."""
    return list(members[::2]), list(members[1::2])


def after_failure(members: Sequence[str], is_half: bool = False) -> list[list[str]]:
    """What to verify next when a stack failed: its halves, once. A single claim or a half that failed is dropped."""
    if is_half or len(members) < 2:
        return []
    return [half for half in halves(members) if half]


def half_due(
    contracts: Mapping[str, Contract],
    verdicts: Mapping[str, Verdict],
    program: str | Collection[str],
    heads: Collection[str],
    out: Collection[str] = (),
    scale: str = "",
) -> list[str]:
    """A half of a stack that failed on one of `heads` and was not tried alone yet, those in `out` left out of it; [] when
    there is none. scale: the one that heads move at, "" for any."""
    programs = _named(program)
    filed = [
        c
        for c in contracts.values()
        if c.stage == "verify" and c.members and not c.control and c.program in programs and c.baseline_commit in heads
        if not scale or c.scale == scale
    ]
    tried = {frozenset(c.members) for c in filed}
    for contract in filed:
        verdict = verdicts.get(contract.experiment)
        if verdict is None or verdict.outcome in (*KEPT, "lost"):
            continue
        is_half = any(set(contract.members) < set(other.members) for other in filed)
        for whole in after_failure(contract.members, is_half):
            half = [member for member in whole if member not in out]
            if half and not any(past <= frozenset(half) for past in tried):
                return half
    return []


# --- credit ------------------------------------------------------------------------------------------------------


def same_head(rows: Iterable[Mapping[str, Any]], program: str, head: str) -> tuple[str, ...]:
    """`head` and the heads it came from by taking members out: what was measured on one of these counts on the others,
    since the member that left made no difference."""
    known = {str(row.get("commit")): row for row in ladder.in_force(rows, program)}
    found = [head]
    while (row := known.get(found[-1])) is not None and row.get("removed") and row.get("was") not in found:
        found.append(str(row["was"]))
    return tuple(found)


def owing(rows: Iterable[Mapping[str, Any]], program: str) -> Owing | None:
    """Who in the program's present head still owes a credit; None when nobody does. `rows`: the ledger's, in order.

    A stack of two or more owes for every member; one of a single member was that member's own test. What a head still
    owed when the next stack moved it is owed on the new head."""
    head: Mapping[str, Any] | None = None
    unproven: dict[str, Mapping[str, Any] | None] = {}  # member -> the line that says it is inert on this head
    removed: list[str] = []
    rows = list(rows)
    stands = {str(row.get("commit")) for row in ladder.in_force(rows, program)}
    for row in rows:
        if row.get("program") != program or row.get("retracts"):
            continue
        if row.get("kind") == "head":
            if row.get("commit") not in stands:
                continue  # made by a stack that was retracted
            head = row
            removed = [*removed, *row["removed"]] if row.get("removed") else []
            # what another program's stack brought is that program's to prove
            is_own = not row.get("removed") and not row.get("follows")
            new = [str(m) for m in row.get("members") or ()] if is_own else []
            kept = [m for m in unproven if m not in (row.get("removed") or ())]
            unproven = dict.fromkeys([*kept, *(new if len(new) > 1 else [])])  # measured anew on this head
        elif row.get("kind") == "credit" and row.get("member") in unproven:
            if row.get("outcome") != "inert":
                del unproven[str(row["member"])]
            elif head is not None and row.get("commit") == head.get("commit"):
                unproven[str(row["member"])] = row
    if head is None or not unproven:
        return None
    return Owing(
        program=program,
        experiment=str(head["experiment"]),
        commit=str(head["commit"]),
        tree=str(head["tree"]),
        due=tuple(reversed([name for name, row in unproven.items() if row is None])),
        inert=tuple(_credit(row) for row in unproven.values() if row is not None),
        removed=tuple(removed),
        seeds=tuple(head.get("seeds") or ()),
    )


@dataclass(frozen=True)
class Step:
    """A verified stack as the present head holds it. `tree` and `commit` are those of the last head it made, after
    `removed` had left."""

    experiment: str
    commit: str
    tree: str
    members: tuple[str, ...]
    removed: tuple[str, ...]
    effect: float | None  # to report: less what passing selects
    moment: str


def history(rows: Iterable[Mapping[str, Any]], program: str, base_tree: str) -> list[Step]:
    """The verified stacks that made the present head, oldest first. A head that returns to an earlier tree takes back
    what came between; one that a member left stands for its stack."""
    steps: list[Step] = []
    for row in rows:
        if row.get("kind") != "head" or row.get("program") != program:
            continue
        trees = [base_tree, *(step.tree for step in steps)]
        removed = tuple(str(member) for member in row.get("removed") or ())
        if row.get("tree") in trees:
            steps = steps[: trees.index(str(row["tree"]))]
            continue
        if removed and steps and steps[-1].experiment == row.get("experiment"):
            removed = (*steps.pop().removed, *removed)
        steps.append(
            Step(
                experiment=str(row["experiment"]),
                commit=str(row["commit"]),
                tree=str(row["tree"]),
                members=tuple(str(member) for member in row.get("members") or ()),
                removed=removed,
                effect=row.get("effect"),
                moment=str(row["t"]),
            )
        )
    return steps


def credits(rows: Iterable[Mapping[str, Any]]) -> dict[str, Credit]:
    """The last credit of every member that has one."""
    return {str(row["member"]): _credit(row) for row in rows if row.get("kind") == "credit"}


def _credit(row: Mapping[str, Any]) -> Credit:
    return Credit.from_dict({**row, "runs": tuple(row.get("runs") or ())})


def removal(
    stack: Contract,
    head: tuple[str, str],
    without: tuple[str, str],
    member: str,
    seeds: Sequence[int],
) -> Contract:
    """The contract under which the head without one member is judged: against the head, on seeds on which the
    head is measured already. head, without: (commit, tree). seeds: one of `looks`."""
    return replace(
        stack,
        why=f"the head without {member}",
        claim="better",
        expect=None,
        stage="verify",
        commit=without[0],
        tree=without[1],
        baseline_commit=head[0],
        baseline_tree=head[1],
        seeds=tuple(seeds),
        members=(),
        knobs=(),
    )


def looks(stack: Contract, more: Sequence[int]) -> list[tuple[int, ...]]:
    """The seeds of each look at a removal, in order. more: fresh seeds of the head."""
    own = tuple(stack.seeds)
    return list(dict.fromkeys([own[:2], own, (*own, *more)]))


def credit(contract: Contract, member: str, verdict: Verdict, left: int) -> Credit | None:
    """The member's credit from the verdict on its `removal`: the removal's effect with its sign turned. None when this
    look leaves it open. left: the looks that remain."""
    z = None if verdict.z is None else -verdict.z
    if z is not None and INERT_Z[left] <= z < HELPS_Z[left]:
        return None
    outcome: Literal["helps", "inert", "unknown"] = "unknown"
    if verdict.outcome == "crash":
        outcome = "helps"  # a head that does not run without it needs it
    elif z is not None:
        outcome = "helps" if z >= HELPS_Z[left] else "inert"
    return Credit(
        program=contract.program,
        experiment=contract.experiment,
        commit=contract.baseline_commit,
        member=member,
        tree=contract.tree,
        outcome=outcome,
        effect=None if verdict.effect is None else -verdict.effect,
        se=verdict.se,
        z=z,
        without=contract.commit,
        runs=verdict.runs,
        why="; ".join(verdict.reasons[:1]),
    )


def reported(verdict: Verdict, limit: float) -> float | None:
    """The effect to report of a head that this verdict moved: what was measured, less what passing at z >= `limit`
    selects. None when the verdict has no effect, and for a no-worse claim, which claims none."""
    if verdict.effect is None or verdict.se is None or verdict.claim != "better":
        return None
    return stats.unselected(verdict.effect, verdict.se, limit)


def reported_without(effect: float, leaving: Credit, sign: int) -> float:
    """The effect to report of a head after a member left it: what was reported before, less what the member may have
    added (its credit and one standard error: members leave where luck was against them), and never below nothing.
    sign: the metric's."""
    gain, added = -sign * effect, -sign * (leaving.effect or 0.0) + (leaving.se or 0.0)
    return -sign * max(0.0, gain - max(0.0, added))


def worth(
    results: Iterable[RunResult], commits: tuple[str, str], seeds: Collection[int], sign: int
) -> stats.Effect | None:
    """What a head is worth against the base, the one number to claim of it: its runs on `seeds`, fresh ones on which nothing
    was decided about it, against the base's verification runs, all on the hidden split where it was scored. None until
    either has two. commits: (base, head)."""
    arms: tuple[dict[int, RunResult], dict[int, RunResult]] = ({}, {})
    for result in results:
        for arm, commit in zip(arms, commits, strict=True):
            if result.commit == commit and result.stage == "verify" and result.status == "ok":
                arm.setdefault(result.seed, result)
    base, head = arms[0], {seed: run for seed, run in arms[1].items() if seed in seeds}
    is_hidden = all(run.hidden is not None for run in (*base.values(), *head.values()))
    old, new = (
        {seed: value for seed, run in arm.items() if (value := run.hidden if is_hidden else run.metric) is not None}
        for arm in (base, head)
    )
    if min(len(old), len(new)) < 2:
        return None
    return stats.effect(old, new, stats.pooled_sigma([old, new]), sign=sign)


def additivity(effects: Sequence[float], measured: float) -> float | None:
    """Measured effect of a stack over the sum of its members' own: 1 when they add up. None when the sum is zero."""
    total = sum(effects)
    return measured / total if total else None
