"""The judge's own error rates: planted nulls and planted effects put through the rules as they are. Trains nothing.

Every number is a count of verdicts that `judge.next_step` gave; the effect sizes are in units of the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from org.bench.surrogate import BASELINE, Surrogate
from org.evidence import judge, stats
from org.records import Charter, Contract, Metric, RunResult, Scale, Stage, Verdict

SEARCH_SEED, VERIFY_SEED = 1, 101
MAX_ROUNDS = 100


@dataclass(frozen=True)
class Row:
    """Rates of one rule on one effect size. `share` columns need nulls and effects together, so they stand in `table`."""

    rule: str
    effect_sigma: float
    tried: int
    kept: int
    runs: int  # candidate and baseline runs beyond the bank
    claimed_over_true: float | None  # mean claimed effect of the kept ones over the true one

    @property
    def keep_rate(self) -> float:
        return self.kept / self.tried if self.tried else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "keep_rate": self.keep_rate}


def charter_for(bank: int = 8, **rules: float) -> Charter:
    """The smallest charter the judge needs, with the default rules but for `rules`."""
    plain = Charter(
        task="surrogate",
        code=".",
        command="true",
        metric=Metric(),
        editable=("*",),
        frozen=(),
        scales={"surrogate": Scale("surrogate", steps=300, bank=bank)},
        scale="surrogate",
    )
    return replace(plain, rules=replace(plain.rules, **rules))  # type: ignore[arg-type]


def contract_for(experiment: str, tree: str, seeds: Sequence[int], stage: Stage, claim: str = "better") -> Contract:
    return Contract(
        experiment=experiment,
        why="planted",
        claim=claim,
        expect=None,
        seat="bench",
        program="main",
        commit=tree,
        tree=tree,
        baseline_commit=BASELINE,
        baseline_tree=BASELINE,
        scale="surrogate",
        stage=stage,
        matched="tokens",
        seeds=tuple(seeds),
    )


def settle(task: Surrogate, contract: Contract, charter: Charter) -> Verdict:
    """Run what the judge asks for until it gives a verdict. Raises RuntimeError if it does not stop asking."""
    for _ in range(MAX_ROUNDS):
        step = judge.next_step(contract, task.results, charter)
        if isinstance(step, Verdict):
            return step
        for arm, seed in step.runs:
            tree = contract.baseline_tree if arm == "baseline" else contract.tree
            task.run(contract.experiment, arm, tree, seed, contract.stage)
    raise RuntimeError(f"no verdict on {contract.experiment} after {MAX_ROUNDS} rounds")


def bank(task: Surrogate, charter: Charter) -> list[int]:
    """Measure the baseline; returns the seeds."""
    seeds = list(range(SEARCH_SEED, SEARCH_SEED + charter.home_scale.bank))
    for seed in seeds:
        task.run("E0000", "baseline", BASELINE, seed, "bank")
    return seeds


def search_rule(task: Surrogate, charter: Charter, seeds: Sequence[int], tree: str, number: int) -> Verdict:
    """Screen, then tentative; seeds turn from experiment to experiment, as the gate deals them."""
    turn = number % len(seeds)
    order = [*seeds[turn:], *seeds[:turn]]
    return settle(task, contract_for(f"E{number:04d}", tree, order, "search"), charter)


def verify_rule(task: Surrogate, charter: Charter, seeds: Sequence[int], tree: str, number: int) -> Verdict:
    """A tentative win alone, on fresh seeds of both arms and the hidden split; what search refuses is not verified."""
    found = search_rule(task, charter, seeds, tree, number)
    return confirm(task, charter, tree, number) if found.outcome == "win" else found


def confirm(task: Surrogate, charter: Charter, tree: str, number: int) -> Verdict:
    """Verification by itself, whatever the search said."""
    runs = charter.rules.verify_single_runs
    first = VERIFY_SEED + number * runs
    return settle(task, contract_for(f"E{number:04d}v", tree, range(first, first + runs), "verify"), charter)


def greedy_rule(task: Surrogate, charter: Charter, seeds: Sequence[int], tree: str, number: int) -> Verdict:
    """The control: one run against the baseline's run on that seed, kept if it is lower."""
    first = search_rule(task, charter, seeds, tree, number)
    run = next(r for r in task.results if r.tree == tree)
    base = next(r for r in task.results if r.tree == BASELINE and r.seed == run.seed)
    assert run.metric is not None and base.metric is not None
    effect = run.metric - base.metric
    return replace(first, outcome="win" if effect < 0 else "null", effect=effect)


RULES: dict[str, Callable[[Surrogate, Charter, Sequence[int], str, int], Verdict]] = {
    "greedy single run": greedy_rule,
    "tentative": search_rule,
    "tentative, then verified": verify_rule,
}


def measure(rule: str, effect_sigma: float, tried: int, rho: float = 0.0, bank_runs: int = 8, world: int = 0) -> Row:
    """Put `tried` candidates of one true effect through a rule, ten to an org, so that orgs differ in their bank's luck."""
    charter, sigma = charter_for(bank_runs), 0.0125
    kept, runs, claimed = 0, 0, 0.0
    for org in range((tried + 9) // 10):
        count = min(10, tried - 10 * org)
        effects = {f"c{k}": -effect_sigma * sigma for k in range(count)}
        task = Surrogate(effects, sigma, rho, world=world * 1_000_003 + org)
        seeds = bank(task, charter)
        for k in range(count):
            verdict = RULES[rule](task, charter, seeds, f"c{k}", k + 1)
            if verdict.outcome == "win":
                kept += 1
                claimed += verdict.effect or 0.0
        runs += len(task.results) - len(seeds)
    inflation = claimed / kept / (-effect_sigma * sigma) if kept and effect_sigma else None
    return Row(rule, effect_sigma, tried, kept, runs, inflation)


def table(
    tried: int = 200, sizes: Sequence[float] = (1.0, 2.0, 4.0), good: float = 0.2, rho: float = 0.0, world: int = 0
) -> list[dict[str, Any]]:
    """One row a rule and effect size. null_keep_rate = nulls kept / nulls tried; false_share = false keeps / keeps when
    a share `good` of the ideas has this effect and the rest none."""
    rows = []
    for rule in RULES:
        null = measure(rule, 0.0, tried, rho, world=world)
        for size in sizes:
            true = measure(rule, size, tried, rho, world=world + 1)
            false_keeps, true_keeps = (1 - good) * null.keep_rate, good * true.keep_rate
            kept = false_keeps + true_keeps
            rows.append(
                {
                    "rule": rule,
                    "effect_sigma": size,
                    "tried": tried,
                    "rho": rho,
                    "world": world,
                    "null_keep_rate": null.keep_rate,
                    "true_keep_rate": true.keep_rate,
                    "false_share": false_keeps / kept if kept else None,
                    "runs_per_idea": true.runs / tried,
                    "claimed_over_true": true.claimed_over_true,
                }
            )
    return rows


def result_of(
    name: str, seed: int, stage: str, value: float | None, hidden: float | None, is_caught: bool = False
) -> RunResult:
    """The line that a run of the tree `name` leaves for the judge."""
    return RunResult(
        run=f"{name}/s{seed}",
        experiment="E0000",
        arm="candidate",
        seed=seed,
        stage=stage,
        status="invalid" if is_caught else "crash" if value is None else "ok",
        commit=name,
        tree=name,
        scale="surrogate",
        device="virtual0",
        device_kind="virtual",
        metric=value,
        hidden=hidden,
    )


def verdict_of(contract: Contract, outcome: str, found: stats.Effect | None) -> Verdict:
    """A search's verdict as `evidence.stack` reads it."""
    return Verdict(
        experiment=contract.experiment,
        outcome=outcome,  # type: ignore[arg-type]
        tier="tentative" if outcome == "win" else None,
        claim=contract.claim,
        effect=found.effect if found else None,
        se=found.se if found else None,
        z=found.z if found else None,
        n=found.n if found else 0,
        matched_on=contract.matched,
        trust="referee",
        reasons=(),
        runs=(),
    )
