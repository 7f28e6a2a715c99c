"""One experiment and every result so far: which runs to start next, or the verdict. Pure; the rules of evidence live here.

A function of the ledger alone, so that any process may ask it at any time and get the same answer. Starts nothing and
counts no attempts: a run that the org lost is asked for again, and the caller decides when to give up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from org.evidence import matching, printed, refute, stats
from org.records import Charter, Contract, Outcome, RunResult, Tier, Verdict

ENOUGH_DF = 3  # below this many degrees of freedom the noise is not known: more baseline runs first
ONE_SIDED_95 = 1.645
POWER_80 = 0.842
CLEARLY = 3.09  # standard errors beyond the margin that end a no-worse claim after one run
GAIN_PCT = 1.0  # a gain in seconds or memory below this is no gain


@dataclass(frozen=True)
class Budget:
    """What the runs of an arm are given when it is not what the scale says. Runs of another setting are not its runs."""

    setting: str
    steps: int
    tokens: int


@dataclass(frozen=True)
class More:
    """Runs to start next, each (arm, seed) with arm `baseline` or `candidate`; none of them has a result yet. A control
    asks for arm `probe` too, and says in `budgets`, by arm, what it gives."""

    runs: tuple[tuple[str, int], ...]
    budgets: Mapping[str, Budget] = field(default_factory=dict)


def next_step(contract: Contract, results: Sequence[RunResult], charter: Charter) -> More | Verdict:
    """More runs, or the verdict. `results`: every result at contract.scale on one kind of device, in ledger order,
    whichever experiment it was made for: arms are cached by (tree, seed)."""
    case = _Case(contract, results, charter)
    if contract.stage == "bank":
        return case.bank()
    early = case.broken()
    if early:
        return early
    if contract.stage == "verify":
        return case.verify()
    if contract.stage == "promote":
        return case.promote()
    if contract.stage == "refute":
        return case.refute()
    if contract.claim == "better":
        return case.search()
    return case.no_worse(len(contract.seeds))


def unmeasured(contract: Contract, outcome: Outcome, why: str, charter: Charter, runs: tuple[str, ...] = ()) -> Verdict:
    """The verdict on an experiment whose arms cannot be compared, for a reason that is not in their numbers."""
    return Verdict(
        experiment=contract.experiment,
        outcome=outcome,
        tier=None,
        claim=contract.claim,
        effect=None,
        se=None,
        z=None,
        n=0,
        matched_on=contract.matched,
        trust="referee" if charter.referee else "reported",
        reasons=(why,),
        runs=runs,
        expect=contract.expect,
    )


class _Case:
    """The arms of one contract, sorted out of all results."""

    def __init__(self, contract: Contract, results: Sequence[RunResult], charter: Charter) -> None:
        self.contract, self.charter, self.rules = contract, charter, charter.rules
        self.sign = charter.metric.sign
        results = [r for r in results if r.scale == contract.scale and refute.counts(contract, r)]
        self.trees: dict[str, dict[int, RunResult]] = {}
        for result in results:
            if result.status != "lost":
                # The first result of a seed stands: a second one would be a silent rerun.
                self.trees.setdefault(result.tree, {}).setdefault(result.seed, result)
        self.base = self.trees.get(contract.baseline_tree, {})
        self.cand = self.trees.get(contract.tree, {})
        verifying = contract.stage in ("verify", "promote")
        is_apart = verifying or contract.stage == "refute"
        self.base_used = {s: r for s, r in self.base.items() if s in contract.seeds} if is_apart else self.base
        self.cand_used = {s: r for s, r in self.cand.items() if s in contract.seeds}
        both = [*self.base_used.values(), *self.cand_used.values()]
        self.split = "hidden" if verifying and both and all(_finite(r.hidden) for r in both) else "val"
        self.looked: frozenset[int] = frozenset()  # seeds of the last look: what a verdict rests on
        self.measure()

    def measure(self) -> None:
        """Noise, pooled over every replicated arm, and how far pairing by seed helps."""
        values = {tree: self.numbers(arm) for tree, arm in self.trees.items()}
        base = values.get(self.contract.baseline_tree, {})
        pairs = [
            {s: (base[s], arm[s]) for s in base.keys() & arm.keys()}
            for tree, arm in values.items()
            if tree != self.contract.baseline_tree
        ]
        self.paired = stats.paired_sigma(pairs)
        # Arms share seeds; before their correlation is known it is taken as full.
        rho = 1.0 if self.paired.rho is None else max(0.0, self.paired.rho)
        self.sigma = stats.pooled_sigma(values.values(), rho)

    def numbers(self, arm: Mapping[int, RunResult]) -> dict[int, float]:
        """{seed: metric} of the usable runs of an arm, on the split that is judged."""
        found = {s: (r.hidden if self.split == "hidden" else r.metric) for s, r in arm.items() if r.status == "ok"}
        return {s: v for s, v in found.items() if v is not None and math.isfinite(v)}

    # --- stages

    def bank(self) -> More | Verdict:
        missing = self.missing("baseline", self.contract.seeds)
        if missing:
            return More(missing)
        values = self.numbers(self.base)
        if len(values) < 2:
            return self.verdict("lost", None, [f"only {len(values)} baseline runs ended with a number; see their logs"])
        middle, sigma = stats.mean(values.values()), stats.pooled_sigma([values]).value
        return self.verdict("null", None, [f"baseline bank: {len(values)} runs, mean {middle:.4f}, sigma {sigma:.4f}"])

    def broken(self) -> Verdict | None:
        """A verdict that no further run can change: a crash, an invalid run, an unfair pair, a broken baseline."""
        for seed, run in self.base.items():
            if seed in self.contract.seeds and _problem(run):
                if refute.is_control_of_trees(self.contract.attack):
                    why = f"{run.run} ended as {_problem(run)}: what does not run is no rival of the claim"
                    return self.verdict("win", None, [why])
                why = f"the baseline's run {run.run} ended as {_problem(run)}; nothing can be compared with it"
                return self.verdict("lost", None, [why])
        for run in self.cand_used.values():
            if run.status == "invalid":
                return self.verdict(
                    "invalid", None, [f"{run.run} is invalid: {run.reason or 'the referee refused it'}"]
                )
            if _problem(run):
                why = f"{run.run} ended as {_problem(run)}; a crash of the candidate counts as a loss"
                return self.verdict("crash", None, [why])
        return self.unfair()

    def unfair(self) -> Verdict | None:
        if not self.base_used or not self.cand_used:
            return None
        arms = ({r.data_hash for r in arm.values() if r.data_hash} for arm in (self.base_used, self.cand_used))
        ours, theirs = arms
        if ours and theirs and ours != theirs:
            why = "the arms read different data (data_hash differs): run the baseline again on the present data"
            return self.verdict("invalid", None, [why])
        arms_used = list(self.base_used.values()), list(self.cand_used.values())
        why_not = self.repeated() or printed.why_not(self.contract, self.charter, *arms_used)
        is_measured = any(r.status == "ok" for r in self.cand_used.values())
        is_asked = self.contract.stage != "refute" or self.contract.control == "flops"
        if not why_not and is_measured and is_asked:
            less_is_fair = self.contract.claim != "better"
            why_not = matching.mismatch(self.table(), self.contract.matched, less_is_fair)
        return self.verdict("invalid", None, [why_not]) if why_not else None

    def repeated(self) -> str | None:
        """Two seeds that end in the same number to the last digit, where the baseline's do not: the seed is ignored."""
        cand, base = self.numbers(self.cand_used), self.numbers(self.base_used)
        if len(set(cand.values())) == len(cand) or len(set(base.values())) < len(base):
            return None
        return "two seeds ended in the same number: the run does not use its seed, so its runs are one run"

    def search(self) -> More | Verdict:
        """Screen on one run, tentative on a few; every look has its own threshold."""
        seeds = self.contract.seeds
        runs = min(self.rules.tentative_runs, len(seeds))
        asked = self.ask(seeds[:1])
        if asked:
            return asked
        first = self.effect(seeds[:1])
        if first is None:
            return self.unknown_noise()
        if first.z < self.rules.screen_z:
            outcome: Outcome = "loss" if first.z <= -self.rules.tentative_z else "null"
            return self.verdict(
                outcome, None, [f"screen: z {first.z:.2f} < {self.rules.screen_z:g} after one run"], first
            )
        asked = self.ask(seeds[:runs])
        if asked:
            return asked
        found = self.effect(seeds[:runs])
        if found is None:
            return self.unknown_noise()
        if runs < 2:
            return self.verdict("null", None, [f"{runs} seed is not enough: a tentative win needs two runs"], found)
        return self.threshold(found, self.rules.tentative_z, "tentative")

    def verify(self) -> More | Verdict:
        """Both arms at all of the contract's seeds, fresh ones, then one look."""
        seeds = self.contract.seeds
        missing = self.both(seeds)
        if missing:
            return More(_alternated(missing))
        if self.contract.claim != "better":
            return self.no_worse(len(seeds), runs=len(seeds))
        found = self.effect(seeds)
        if found is None:
            return self.unknown_noise()
        if len(self.numbers(self.cand_used)) < 2:
            return self.verdict("null", None, ["verification on fewer than two fresh seeds shows nothing"], found)
        return self.threshold(found, self.rules.verified_z, "verified")

    def promote(self) -> More | Verdict:
        """Both arms at all of the contract's seeds, fresh ones, then one look at the tentative threshold.

        One claim, shown before and named before this run, looked at once: nothing is selected here, so z >= 1.64 is a 5 %
        risk of carrying a null, not the best of many. An effect that just passed z 3.09 and carries whole passes 1.64 on
        as many runs 93 times in 100, and 3.09 every second time: that would retract as many true wins as it kept.
        """
        seeds = self.contract.seeds
        missing = self.both(seeds)
        if missing:
            return More(_alternated(missing))
        if self.contract.claim != "better":
            return self.no_worse(len(seeds), runs=len(seeds))
        found = self.effect(seeds)
        return self.unknown_noise() if found is None else self.threshold(found, self.rules.tentative_z, None)

    def refute(self) -> More | Verdict:
        """Both arms on the refutations' own seeds, look by look, until the claim or its rival is as good as excluded: `win`
        where it stood, `loss` where it is broken, `null` where the runs ended first."""
        seeds = self.contract.seeds
        base, cand = self.numbers(self.base_used), self.numbers(self.cand_used)
        done = min(len(base), len(cand))
        if done < refute.LOOKS[0]:
            return More(_alternated(self.both(seeds[: refute.LOOKS[0]])))
        found = self.effect(seeds)
        if found is None:
            return self.unknown_noise()
        shows = refute.asked(self.contract.shows, self.sigma.value or 0.0)
        state = refute.decide(-self.sign * found.effect, found.se, shows, self.contract.risk)
        if state is None and (look := refute.next_look(done)):
            return More(_alternated(self.both(seeds[:look])))
        outcome, said = refute.ANSWERS[state or "undecided"]
        why = f"{self.contract.attack}: {said} after {found.n} runs; a gain of {shows:.4g} was to be shown"
        return self.verdict(outcome, None, [why], found)

    def both(self, seeds: Sequence[int]) -> tuple[tuple[str, int], ...]:
        return self.missing("candidate", seeds) + self.missing("baseline", seeds)

    def threshold(self, found: stats.Effect, limit: float, tier: Tier | None) -> Verdict:
        if found.z >= limit:
            return self.verdict("win", tier, [f"z {found.z:.2f} >= {limit:g} after {found.n} runs"], found)
        worse = found.z <= -self.rules.tentative_z
        why = f"z {found.z:.2f} < {limit:g} after {found.n} runs" + (": it is worse" if worse else "")
        return self.verdict("loss" if worse else "null", None, [why], found)

    def no_worse(self, most: int, runs: int | None = None) -> More | Verdict:
        """The harm is shown to be below the margin, in one look at a number of runs fixed by the noise, and the axis
        named in the claim gained. Looking again and again until it holds would be another claim."""
        seeds = self.contract.seeds
        asked = self.ask(seeds[:1])
        if asked:
            return asked
        first = self.effect(seeds[:1])
        if first is None:
            return self.unknown_noise()
        margin = self.charter.margin
        harm = self.sign * first.effect
        if runs is None and harm - CLEARLY * first.se > margin:
            return self.verdict("loss", None, [f"harm {harm:+.4f} after one run is far above {margin:g}"], first)
        runs = runs or self.planned_runs(most)
        missing = self.both(seeds[:runs])
        if missing:
            return More(_alternated(missing))
        found = self.effect(seeds[:runs])
        if found is None:
            return self.unknown_noise()
        return self.harm(found, runs)

    def harm(self, found: stats.Effect, runs: int) -> Verdict:
        margin, harm = self.charter.margin, self.sign * found.effect
        upper, lower = harm + ONE_SIDED_95 * found.se, harm - ONE_SIDED_95 * found.se
        tiers: dict[str, Tier] = {"verify": "verified", "search": "tentative"}
        tier = tiers.get(self.contract.stage)
        gained, how = self.gain()
        limits = f"harm {harm:+.4f}, one-sided 95 % limit {upper:+.4f}, margin {margin:g}, {runs} runs"
        if lower > margin:
            return self.verdict("loss", None, [f"{limits}: clearly worse"], found)
        if upper >= margin:
            need = self.runs_needed()
            more = f"about {need} runs an arm would show it" if need else "no number of runs shows a margin of 0"
            return self.verdict("null", None, [f"{limits}: underpowered, not shown; {more}"], found)
        if not gained:
            return self.verdict("null", None, [limits, how], found)
        return self.verdict("holds", tier, [limits, how], found)

    def planned_runs(self, most: int) -> int:
        need = self.runs_needed() or most
        return max(min(self.rules.tentative_runs, most), min(need, most))

    def runs_needed(self) -> int:
        """Runs an arm that show no harm with power 0.8 when there is none; 0 when nothing can."""
        if self.charter.margin <= 0 or self.sigma.upper is None:
            return 0
        one = self.paired.sd_diff if self.paired.helps else self.sigma.upper * math.sqrt(2)
        return math.ceil(((ONE_SIDED_95 + POWER_80) * (one or 0.0) / self.charter.margin) ** 2) or 1

    def gain(self) -> tuple[bool, str]:
        """Whether the axis of a `no-worse:AXIS` claim gained, and the sentence that says so."""
        axis = self.contract.claim.partition(":")[2]
        if axis == "lines":
            added, removed = self.contract.lines_added, self.contract.lines_removed
            return removed > added, f"lines: {added} added, {removed} removed"
        old = matching.axis_values(list(self.base_used.values()), axis)
        new = matching.axis_values(list(self.cand_used.values()), axis)
        if not old or not new:
            return False, f"{axis} is not reported by both arms, so no gain is shown"
        before, after = stats.mean(old), stats.mean(new)
        spread = stats.pooled_sigma([old, new]).upper or 0.0
        least = max(ONE_SIDED_95 * spread * math.sqrt(1 / len(old) + 1 / len(new)), GAIN_PCT / 100 * abs(before))
        says = f"{axis}: {before:.4g} -> {after:.4g}"
        if before - after <= least:
            return False, f"{says}, no gain beyond its own noise"
        return self.seen_by_the_clock(axis, before - after, says)

    def seen_by_the_clock(self, axis: str, saved: float, says: str) -> tuple[bool, str]:
        """Seconds that the code says it saved have to be missing from what the org's clock saw, by half at least."""
        if axis not in ("step_s", "train_s", "first_step_s", "compile_s"):
            return True, says
        arms = [[r for r in arm.values() if r.status == "ok"] for arm in (self.base_used, self.cand_used)]
        old, new = (matching.axis_values(arm, "total_s") for arm in arms)
        if not old or not new:
            return True, says
        steps = stats.mean(matching.axis_values(arms[0], "steps") or [1.0]) if axis == "step_s" else 1.0
        seen = stats.mean(old) - stats.mean(new)
        if seen >= saved * steps / 2:
            return True, says
        return (
            False,
            f"{says}, and the whole run took {seen:+.3g} s less by the org's clock: the saving is not seen there",
        )

    # --- runs

    def missing(self, arm: str, seeds: Iterable[int]) -> tuple[tuple[str, int], ...]:
        have = self.base if arm == "baseline" else self.cand
        return tuple((arm, seed) for seed in seeds if seed not in have)

    def ask(self, seeds: Sequence[int]) -> More | None:
        """Candidate runs on `seeds`, their baseline partners, and what the noise estimate still lacks."""
        runs = self.missing("candidate", seeds) + self.missing("baseline", seeds)
        runs += tuple(r for r in self.noise_runs() if r not in runs)
        return More(runs) if runs else None

    def noise_runs(self) -> tuple[tuple[str, int], ...]:
        """Baseline runs until the noise rests on enough of them; nothing when the seeds are used up."""
        bank = self.charter.scales[self.contract.scale].bank if self.contract.scale in self.charter.scales else 0
        seeds = list(dict.fromkeys([*self.contract.seeds, *range(1, bank + 1)]))
        short = min(ENOUGH_DF, max(len(seeds) - 1, 1)) - self.sigma.df
        if short <= 1e-9:
            return ()
        return self.missing("baseline", seeds)[: math.ceil(short) + (0 if self.numbers(self.base) else 1)]

    # --- verdicts

    def effect(self, seeds: Sequence[int]) -> stats.Effect | None:
        """The candidate's runs on `seeds` against the baseline; None while the noise is unknown."""
        self.looked = frozenset(seeds)
        base = self.numbers(self.base_used)
        cand = {s: v for s, v in self.numbers(self.cand_used).items() if s in seeds}
        if self.sigma.upper is None or not base or not cand:
            return None
        return stats.effect(base, cand, self.sigma, self.paired, self.sign)

    def unknown_noise(self) -> Verdict:
        return self.verdict(
            "lost", None, ["no arm has two runs with a number, so the noise is unknown; start the bank"]
        )

    def table(self) -> matching.Table:
        used = (list(self.base_used.values()), list(self.cand_used.values()))
        return matching.table(*([r for r in arm if r.status == "ok"] for arm in used))

    def verdict(
        self, outcome: Outcome, tier: Tier | None, reasons: list[str], found: stats.Effect | None = None
    ) -> Verdict:
        table = self.table()
        cand = [r for s, r in self.cand_used.items() if found is None or s in self.looked]
        used = [*self.base_used.values(), *cand]
        reported = any(r.trust == "reported" for r in used)
        if found:
            how = "seed by seed" if found.paired else f"against {len(self.numbers(self.base_used))} baseline runs"
            noise = f"sigma {self.sigma.value:.4g} (80 % upper limit {self.sigma.upper:.4g}, df {self.sigma.df:.0f})"
            split = ", on the hidden split" if self.split == "hidden" else ""
            reasons = [*reasons, f"effect {found.effect:+.5f} ± {found.se:.5f}, {how}{split}; {noise}"]
        if reported:
            reasons = [*reasons, "the numbers are what the code printed (trust: reported)"]
        known = {r.software for r in used if r.software}
        if len(known) > 1:
            reasons = [*reasons, f"the arms ran on {len(known)} software versions"]
        return Verdict(
            experiment=self.contract.experiment,
            outcome=outcome,
            tier=tier,
            claim=self.contract.claim,
            effect=found.effect if found else None,
            se=found.se if found else None,
            z=found.z if found else None,
            n=found.n if found else len(self.cand_used),
            matched_on=self.contract.matched,
            trust="reported" if reported else "referee",
            reasons=tuple(reasons),
            runs=tuple(r.run for r in used),
            matching=table,
            sigma=self.sigma.value,
            sigma_df=int(self.sigma.df),
            paired=bool(found and found.paired),
            split="hidden" if self.split == "hidden" else "val",
            expect=self.contract.expect,
            net=matching.net(found.effect, table, self.charter.exchange, self.sign) if found else None,
        )


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _problem(run: RunResult) -> str:
    """Why a run has no usable number, or "". A NaN is a crash: it compares with nothing."""
    if run.status != "ok":
        return run.status + (f" ({run.reason})" if run.reason else "")
    return "" if _finite(run.metric) else "not a finite number"


def _alternated(runs: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Seed by seed, the arms in turn, so that a drifting machine touches both alike."""
    return tuple(sorted(runs, key=lambda run: (run[1], (run[0] == "candidate") == bool(run[1] % 2))))
