"""The breaker scored by planted faults found: 40 spurious wins and 40 true ones a world, through the org's own rules. Trains
nothing.

A claim is what the search rule kept: a planted change is drawn with new luck until it wins, so that every claim is as
lucky as claims are. Then `evidence.refute` names the attacks, `evidence.judge` and `evidence.control` decide each. Gains
are in sigmas of one run, positive when better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from org.bench import orgbench
from org.bench.surrogate import BASELINE, Surrogate
from org.evidence import control, judge, refute, standing
from org.records import Charter, Contract, Knob, KnobChange, RunResult, Verdict

EACH = 40  # spurious claims, and as many true ones, in one world
TRIES = 4000  # draws of luck until a planted change wins; a null does one time in ten or twenty
RATE, AT = "MATRIX_LR", 0.02
SIGMA = 0.0125


@dataclass(frozen=True)
class Plant:
    """A change as it truly is. gains: of its parts. rated: what the baseline gains at the other level of its learning rate,
    and `spends`: the part of that which the change takes away there. bound: it gains on the seeds of the search alone.
    work: what it costs, and `paid`: the gain that is left at equal work. is_counted: whether it prints its FLOPs."""

    family: str
    gains: tuple[float, ...]
    rated: float = -1.0
    spends: float = 0.0
    bound: bool = False
    work: float = 1.0
    paid: float = 0.0
    prints: bool = True

    @property
    def is_true(self) -> bool:
        return self.family.startswith("true")


# What a spurious win is made of, each with the attack that it should fall to.
SPURIOUS: tuple[Plant, ...] = (
    Plant("lucky seeds", (0.0,)),
    Plant("lucky seeds, two parts", (0.0, 0.0)),
    Plant("a part that does nothing", (3.0, 0.0)),
    Plant("a part that does harm", (3.5, -0.5)),
    Plant("a bigger model, silent about its FLOPs", (2.5,), work=1.6, paid=0.0, prints=False),
    Plant("extra compute behind equal FLOPs", (3.0,), work=1.8, paid=-0.5),
    Plant("an untuned baseline", (2.5,), rated=2.5, spends=2.5),
    Plant("an untuned baseline, half of it", (2.0,), rated=3.0, spends=2.0),
    Plant("a warm start on the search's seeds", (3.0,), bound=True),
    Plant("a small harm that was lucky", (-0.5,)),
)
TRUE: tuple[Plant, ...] = (
    Plant("true, 1.25 sigma", (1.25,)),
    Plant("true, 1.5 sigma", (1.5,)),
    Plant("true, 2 sigma", (2.0,)),
    Plant("true, 3 sigma", (3.0,)),
    Plant("true, two parts", (2.0, 2.0)),
    Plant("true, two unequal parts", (3.0, 1.5)),
    Plant("true, three parts", (1.5, 1.5, 1.5)),
    Plant("true, beside an untuned baseline", (2.0,), rated=2.5),
    Plant("true, larger and better at equal work", (3.0,), work=1.6, paid=2.0, prints=False),
    Plant("true, and cheaper", (2.0,), work=0.7, paid=2.0),
)


@dataclass
class Planted(Surrogate):
    """A surrogate whose trees are `part+part@LEVEL`, and whose gains are a plant's."""

    plant: Plant = field(default_factory=lambda: SPURIOUS[0])

    def measure(self, experiment: str, arm: str, tree: str, seed: int, stage: str, budget: judge.Budget) -> RunResult:
        """One finished run at a budget of its own, or at the scale's."""
        made = self.run(experiment, arm, tree, seed, stage)
        work = self._work(tree)
        steps = budget.steps or 300
        cut = steps / 300
        gain = self._gain(tree, seed, cut * work <= 1.05 and work > 1.0)
        result = replace(
            made,
            metric=self.metric(f"{tree}/{budget.setting}", seed) - self.sigma * gain,
            setting=budget.setting,
            steps=steps,
            flops=1e12 * cut * (work if self.plant.prints and self.plant.work < 1 else 1.0)
            if self.plant.prints
            else None,
            params=None,
            cpu_s=self.run_s * work * cut,
        )
        self.results[-1] = result
        return result

    def _parts(self, tree: str) -> tuple[list[int], bool]:
        parts, _, level = tree.partition("@")
        return [int(p) for p in parts.split("+") if p.isdigit()], bool(level)

    def _work(self, tree: str) -> float:
        return self.plant.work if self._parts(tree)[0] else 1.0

    def _gain(self, tree: str, seed: int, is_cut: bool) -> float:
        plant = self.plant
        parts, is_rated = self._parts(tree)
        gain = plant.paid if is_cut and parts else sum(plant.gains[p] for p in parts)
        if plant.bound and refute.is_fresh(seed):
            gain = 0.0
        if is_rated:
            gain += plant.rated - (plant.spends if parts else 0.0)
        return gain


@dataclass(frozen=True)
class Case:
    """What became of one claim."""

    family: str
    is_true: bool
    claimed: float  # in sigmas
    outcome: str
    by: str
    runs: int
    attacks: int


def charter() -> Charter:
    plain = replace(orgbench.charter_for(8), command="train --steps {steps}")
    return replace(plain, knobs={RATE.lower(): Knob(RATE.lower(), "train.py", low=0.02, high=0.08, log=True)})


def claims(plant: Plant, world: int, rules: Charter) -> tuple[Planted, Contract, Verdict]:
    """The plant's change as the search kept it. Raises RuntimeError where it never is."""
    many = len(plant.gains) > 1
    names = [f"PART_{k}" for k in range(len(plant.gains))]
    for luck in range(TRIES):
        task = Planted(sigma=SIGMA, world=world * 1_000_003 + luck, plant=plant)
        seeds = range(1, rules.home_scale.bank + 1)
        for seed in seeds:
            task.measure("E0000", "baseline", BASELINE, seed, "bank", judge.Budget("", 0, 0))
        turn = luck % len(seeds)
        plain = orgbench.contract_for(
            "E0001", "+".join(str(k) for k in range(len(names))), [*seeds[turn:], *seeds[:turn]], "search"
        )
        contract = replace(
            plain,
            knobs=tuple(KnobChange(name, "train.py", 1, 0, 1) for name in names),
            ablations_owed=tuple(f"without-{name}" for name in names) if many else (),
        )
        verdict = settle(task, contract, rules)
        if (verdict.outcome, verdict.tier) == ("win", "tentative"):
            return task, contract, verdict
    raise RuntimeError(f"{plant.family} was never kept in {TRIES} draws")


def settle(task: Planted, contract: Contract, rules: Charter) -> Verdict:
    """Run what the judge asks for until it gives a verdict."""
    usual = judge.Budget("", 0, 0)
    for _ in range(orgbench.MAX_ROUNDS):
        if contract.control:
            step = control.next_step(contract, task.results, rules, digest)
        else:
            step = judge.next_step(contract, [r for r in task.results if not r.setting], rules)
        if isinstance(step, Verdict):
            return step
        for arm, seed in step.runs:
            tree = contract.baseline_tree if arm == "baseline" else contract.tree
            task.measure(contract.experiment, arm, tree, seed, contract.stage, step.budgets.get(arm, usual))
    raise RuntimeError(f"no verdict on {contract.experiment} after {orgbench.MAX_ROUNDS} rounds")


def digest(steps: int, tokens: int, is_probe: bool) -> str:
    return f"{steps}{' probe' if is_probe else ''}" if steps else ""


def break_it(task: Planted, contract: Contract, verdict: Verdict, rules: Charter) -> Case:
    """Attack a claim until it is refuted or has stood every attack."""
    before = len(task.results)
    claim = refute.claim_of(contract, verdict, rules.metric.sign)
    planned = refute.attacks(claim, refute.levels(rules, {RATE: AT}, claim))
    contracts, verdicts = {contract.experiment: contract}, {contract.experiment: verdict}
    while True:
        trials = standing.trials(contracts, verdicts).get(contract.experiment, [])
        todo = standing.left(planned, trials, 1)
        found = standing.standing(trials, [attack.name for attack in planned])
        if found.outcome == "refuted" or not todo:
            break
        made = attack_contract(contract, claim, todo[0], planned, rules, f"E{len(contracts) + 1:04d}")
        contracts[made.experiment] = made
        verdicts[made.experiment] = settle(task, made, rules)
    return Case(
        task.plant.family, task.plant.is_true, claim.gain / SIGMA, found.outcome, found.by, len(task.results) - before, len(trials)
    )  # fmt: skip


def attack_contract(
    contract: Contract,
    claim: refute.Claim,
    attack: refute.Attack,
    planned: list[refute.Attack],
    rules: Charter,
    name: str,
) -> Contract:
    """The experiment that this attack is, its trees by their names in this world."""
    base, cand = BASELINE, contract.tree
    if attack.kind == refute.WITHOUT:
        out = str(int(attack.what.removeprefix("PART_")))
        base = "+".join(p for p in cand.split("+") if p != out)
    elif attack.kind in (refute.RETUNED, refute.BOTH):
        base = f"{BASELINE}@{attack.what}"
        cand = f"{cand}@{attack.what}" if attack.kind == refute.BOTH else cand
    made = refute.designed(contract, claim, attack, [a.name for a in planned], rules)
    return replace(made, experiment=name, tree=cand, commit=cand, baseline_tree=base, baseline_commit=base)


def cases(worlds: range, each: int = EACH, on_world: Callable[[int], None] = lambda world: None) -> list[Case]:
    """Every claim of these worlds; families in turn, so that each has its share."""
    rules = charter()
    found = []
    for world in worlds:
        for plants in (SPURIOUS, TRUE):
            for at in range(each):
                task, contract, verdict = claims(plants[at % len(plants)], world * EACH + at // len(plants), rules)
                found.append(break_it(task, contract, verdict, rules))
        on_world(world)
    return found


def table(found: list[Case]) -> list[dict[str, Any]]:
    """One row a family and one of all spurious, all true ones."""
    rows = []
    names = list(dict.fromkeys(case.family for case in found))
    groups = [(name, [c for c in found if c.family == name]) for name in names]
    groups += [
        (name, [c for c in found if c.is_true is true]) for name, true in (("all spurious", False), ("all true", True))
    ]
    for name, group in groups:
        if not group:
            continue
        by = Counter(c.by.partition(" ")[0] for c in group if c.by)
        rows.append(
            {
                "family": name,
                "is_true": group[0].is_true,
                "claims": len(group),
                "refuted": sum(c.outcome == "refuted" for c in group),
                "stands": sum(c.outcome == "stands" for c in group),
                "undecided": sum(c.outcome == "undecided" for c in group),
                "claimed_sigma": sum(c.claimed for c in group) / len(group),
                "runs": sum(c.runs for c in group) / len(group),
                "by": dict(by.most_common()),
            }
        )
    return rows


HEAD = ("family", "claims", "refuted", "stand", "undecided", "claimed sigma", "runs a claim", "refuted by")
FOUND, SPARED = 0.9, 0.05  # of spurious claims at least, of true ones at most


def cells(row: dict[str, Any]) -> list[str]:
    count = row["claims"]
    shares = [f"{row[name]} ({row[name] / count:.0%})" for name in ("refuted", "stands", "undecided")]
    by = ", ".join(f"{name} {times}" for name, times in row["by"].items())
    return [row["family"], str(count), *shares, f"{row['claimed_sigma']:.1f}", f"{row['runs']:.1f}", by or "-"]


def missed(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each goal that these rows miss."""
    share = {row["family"]: row["refuted"] / row["claims"] for row in rows}
    lines = []
    if share["all spurious"] < FOUND:
        lines.append(f"{share['all spurious']:.0%} of the spurious claims were refuted; the goal is {FOUND:.0%}")
    if share["all true"] > SPARED:
        lines.append(f"{share['all true']:.0%} of the true claims were refuted; the goal is {SPARED:.0%} at most")
    return lines
