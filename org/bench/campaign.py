"""One research campaign with planted truth: a stream of ideas, a budget of runs, and a rule that says what is kept.

The rules that verify decide by the org's own functions: searches by `bench.quick`, held against the judge; verifications and
removals by `judge.next_step`; what is stacked, halved, credited and taken out by `evidence.stack`. Every launch is charged.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

from org.bench import orgbench, quick
from org.evidence import judge, stack, stats
from org.records import Charter, Contract, RunResult, Verdict

BUDGET = 650  # runs
PAST_RUNS = 400  # of an older arm, when sigma is known: its 80 % upper limit is then 1.03 times sigma
PAST = "past"

Tree = frozenset[int]  # the ideas that are in it
BASE: Tree = frozenset()


class Spent(Exception):
    """The budget is used up; what is in the head by now counts."""


@dataclass(frozen=True)
class Scenario:
    """What the ideas are like. Effects in sigmas; `good` the share of ideas that have one; `conflicting` the share of
    good ideas that undo, and are undone by, the good idea before them."""

    good: float
    effect: float
    conflicting: float = 0.0
    is_sigma_known: bool = False
    rho: float = 0.0

    @property
    def name(self) -> str:
        if not self.good:
            return "nulls only"
        return f"{self.good:.0%} good of {self.effect:g} sigma" + (", conflicts" if self.conflicting else "")


@dataclass
class Tally:
    """What came of one campaign under one rule. Gains in sigmas, positive when better."""

    runs: int = 0
    tried: int = 0
    nulls: int = 0
    null_keeps: int = 0  # in the head at the end
    true_keeps: int = 0
    gain: float = 0.0  # true gain of the head at the end over the start
    claimed: float = 0.0  # sum of what was reported of each move of the head
    moved: float = 0.0  # sum of what these moves truly were
    heads: int = 0
    unproven: int = 0  # members of the last head without a credit


@dataclass
class World:
    """Ideas and noise. The ideas are the same under every rule; luck is drawn afresh for each (tree, seed)."""

    scenario: Scenario
    seed: str
    ideas: list[float] = field(default_factory=list)
    rivals: dict[int, int] = field(default_factory=dict)  # a good idea and the one it undoes

    def __post_init__(self) -> None:
        self._stream, self._luck = random.Random(f"{self.seed}/ideas"), random.Random(f"{self.seed}/luck")
        self._shared: dict[int, float] = {}
        self._last_good: int | None = None

    def idea(self) -> int:
        """The next idea of the stream."""
        name = len(self.ideas)
        is_good, is_rival = (
            self._stream.random() < self.scenario.good,
            self._stream.random() < self.scenario.conflicting,
        )
        self.ideas.append(self.scenario.effect if is_good else 0.0)
        if is_good:
            if is_rival and self._last_good is not None:
                self.rivals[name] = self._last_good
                self._last_good = None  # pairs, no chains
            else:
                self._last_good = name
        return name

    def gain(self, tree: Tree) -> float:
        """True gain over the start: the sum of its ideas, two rivals together worth nothing."""
        total = sum(self.ideas[name] for name in tree)
        for one in tree:
            other = self.rivals.get(one)
            if other is not None and other in tree:
                total -= self.ideas[one] + self.ideas[other]
        return total

    def value(self, tree: Tree, seed: int) -> float:
        """The metric of a run, lower is better, in sigmas; another draw at every call."""
        rho = self.scenario.rho
        own = self._luck.gauss(0.0, 1.0)
        if not rho:
            return own - self.gain(tree)
        if seed not in self._shared:
            self._shared[seed] = self._luck.gauss(0.0, 1.0)
        return math.sqrt(rho) * self._shared[seed] + math.sqrt(1 - rho) * own - self.gain(tree)


class Campaign:
    """The org's rule. A subclass changes what is done with a tentative win."""

    def __init__(self, world: World, charter: Charter | None = None, budget: int = BUDGET, check: bool = False) -> None:
        self.world, self.budget, self.check = world, budget, check
        self.charter = charter or orgbench.charter_for(8)
        self.rules = self.charter.rules
        self.noise = quick.Noise(BASE)
        self.results: list[
            RunResult
        ] = []  # every one when checking, else of verifications only: the judge needs no other
        self.head, self.head_commit = BASE, "base"
        self.tally = Tally()
        self.contracts: dict[str, Contract] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.rows: list[dict[str, Any]] = []  # head and credit lines
        self.trees: dict[str, Tree] = {"base": BASE}
        self.ideas_of: dict[str, int] = {}
        self.kept: list[Tree] = []
        self._seed = 100
        self._waiting: tuple[tuple[int, int], list[str]] | None = None  # answers of evidence.stack, while they hold
        self._owing: tuple[int, stack.Owing | None] | None = None
        self.reported = 0.0  # of the present head against the one before the last stack
        if world.scenario.is_sigma_known:
            for seed in range(PAST_RUNS):
                self._note(PAST, -1 - seed, world.value(BASE, -1 - seed), "verify", PAST)

    def run(self) -> Tally:
        """Spend the budget."""
        try:
            for seed in range(1, self.charter.home_scale.bank + 1):
                self.launch(BASE, seed)
            while True:
                self.step()
        except Spent:
            return self.finish()

    def step(self) -> None:
        """The next thing to do: what a lab does that is never idle."""
        waiting = self.waiting()
        if half := stack.half_due(self.contracts, self.verdicts, "main", self.same()):
            self.verify(half)
        elif missing := self.bank_due():
            self.launch(self.head, missing[0], self.contract("bank", self.head, (), "verify"), self.head_commit)
        elif len(waiting) >= stack.STACK_OF or (waiting and self.left() <= self.reserve(len(waiting))):
            self.verify(waiting)
        elif (waiting or self.left() <= self.reserve(0)) and (owing := self.owing()):
            self.settle(owing)
        else:
            self.search()

    def bank_due(self) -> list[int]:
        """Seeds that a head's bank still lacks."""
        measured = self.noise.arms[self.head]
        head = next((row for row in reversed(self.rows) if row["kind"] == "head"), None)
        return stack.bank_due(head, measured, self.charter.home_scale.bank) if head else []

    def left(self) -> int:
        return self.budget - self.tally.runs

    def reserve(self, waiting: int) -> int:
        """Runs that verifying what waits, and crediting it, still needs."""
        owed = self.owing()
        runs = stack.verification_runs(self.rules, range(waiting)) if waiting else 0  # type: ignore[arg-type]
        due = (len(owed.due) if owed else 0) + (waiting if waiting > 1 else 0)
        return 2 * runs + (round(1.5 * self.rules.verify_runs * due) + 2 * self.rules.verify_runs if due else 0)

    # --- search

    def waiting(self) -> list[str]:
        now = (len(self.verdicts), len(self.rows))
        if self._waiting is None or self._waiting[0] != now:
            self._waiting = now, stack.members(self.contracts, self.verdicts, {}, "main", self.same())
        return self._waiting[1]

    def owing(self) -> stack.Owing | None:
        if self._owing is None or self._owing[0] != len(self.rows):
            self._owing = len(self.rows), stack.owing(self.rows, "main")
        return self._owing[1]

    def same(self) -> tuple[str, ...]:
        return stack.same_head(self.rows, "main", self.head_commit)

    def search(self) -> str | None:
        """One idea on the head, screened on one run and kept on two; its name if it is a tentative win."""
        idea = self.world.idea()
        self.tally.tried += 1
        self.tally.nulls += not self.world.ideas[idea]
        tree, name = self.head | {idea}, f"E{idea + 1:04d}"
        measured = sorted(self.noise.arms[self.head])
        turn = (idea + 1) % len(measured)
        seeds = (*measured[turn:], *measured[:turn])
        contract = self.contract(name, tree, seeds, "search")
        found: stats.Effect | None = None
        self.launch(tree, seeds[0], contract)
        if quick.screen(self.noise, tree, seeds, self.rules):
            self.launch(tree, seeds[1], contract)
            found = quick.tentative(self.noise, tree, seeds, self.rules)
        if self.check:
            self.compare(contract, found)
        if found is None:
            return None
        self.contracts[name], self.ideas_of[name] = contract, idea
        self.verdicts[name] = orgbench.verdict_of(contract, "win", found)
        return name

    def compare(self, contract: Contract, found: stats.Effect | None) -> None:
        """The judge, given every run, decides as the quick one did."""
        step = judge.next_step(contract, self.results, self.charter)
        assert isinstance(step, Verdict), step
        assert (step.outcome == "win") == (found is not None), (step, found)
        if found is not None:
            assert step.effect is not None and step.z is not None
            assert math.isclose(step.effect, found.effect, abs_tol=1e-9) and math.isclose(step.z, found.z, abs_tol=1e-6)

    # --- verification

    def verify(self, members: list[str]) -> bool:
        """The members together on fresh seeds; when they hold the head moves."""
        tree = self.head.union(self.ideas_of[name] for name in members)
        runs = stack.verification_runs(self.rules, members)
        seeds = range(self._seed + 1, self._seed + 1 + runs)
        self._seed += runs
        name = f"S{self._seed:04d}"
        contract = self.contract(name, tree, tuple(seeds), "verify", tuple(members))
        verdict = self.judged(contract)
        self.contracts[name], self.verdicts[name] = contract, verdict
        if verdict.outcome != "win":
            return False
        more = tuple(range(self._seed + 1, self._seed + 1 + self.rules.verify_runs))
        self._seed += self.rules.verify_runs
        row = {"experiment": name, "members": members, "seeds": more}
        self.reported = 0.0
        self.move(tree, row, stack.reported(verdict, self.rules.verified_z) or 0.0)
        return True

    def judged(self, contract: Contract) -> Verdict:
        """Launch what the judge asks for until it decides."""
        while True:
            step = judge.next_step(contract, self.results, self.charter)
            if isinstance(step, Verdict):
                return step
            for arm, seed in step.runs:
                commit = contract.commit if arm == "candidate" else contract.baseline_commit
                self.launch(self.trees[commit], seed, contract, commit)

    def move(self, tree: Tree, row: dict[str, Any], reported: float) -> None:
        """The head moves; what is reported of it since the last stack stands beside what it truly is."""
        commit, was = name_of(tree), self.head_commit
        self.trees[commit] = tree
        self.rows.append({"kind": "head", "program": "main", "commit": commit, "tree": commit, "was": was, **row})
        self.tally.heads += 1
        self.tally.claimed += self.reported - reported  # lower is better
        self.tally.moved += self.world.gain(tree) - self.world.gain(self.head)
        self.reported, self.head, self.head_commit = reported, tree, commit
        self.noise = self.noise.seen_from(tree)

    def settle(self, owing: stack.Owing) -> None:
        """One credit, or one member taken out, of a head that owes."""
        leaves = owing.leaves
        if leaves is not None:
            self.take_out(owing, leaves)
            return
        member = owing.due[0]
        tree = self.head - {self.ideas_of[member]}
        without = name_of(tree)
        self.trees[without] = tree
        made = self.contracts[owing.experiment]
        looks = stack.looks(made, owing.seeds)
        for left, seeds in zip(reversed(range(len(looks))), looks, strict=True):
            contract = stack.removal(made, (owing.commit, owing.tree), (without, without), member, seeds)
            found = stack.credit(contract, member, self.judged(contract), left)
            if found is not None:
                self.rows.append({"kind": "credit", **found.to_dict()})
                return

    def take_out(self, owing: stack.Owing, leaves: stack.Credit) -> None:
        """The head without a member that makes no difference becomes the head; both were measured."""
        tree = self.trees[leaves.without]
        row = {"experiment": owing.experiment, "removed": [leaves.member], "seeds": owing.seeds}
        self.move(tree, row, stack.reported_without(self.reported, leaves, 1))

    # --- runs

    def launch(self, tree: Tree, seed: int, contract: Contract | None = None, commit: str = "base") -> None:
        """A run, charged, unless this tree was measured on this seed."""
        if seed in self.noise.arms.get(tree, {}):
            return
        if self.tally.runs >= self.budget:
            raise Spent
        self.tally.runs += 1
        stage = contract.stage if contract else "bank"
        name = contract.commit if contract and commit == "base" and contract.stage == "search" else commit
        self._note(tree, seed, self.world.value(tree, seed), stage, name)

    def _note(self, tree: Tree | str, seed: int, value: float, stage: str, commit: str) -> None:
        self.noise.add(tree, seed, value)
        if stage == "verify" or self.check:
            hidden = value if stage == "verify" else None  # the referee scores both splits alike: a seed's luck is one
            self.results.append(orgbench.result_of(commit, seed, stage, value, hidden))

    def contract(
        self, name: str, tree: Tree, seeds: tuple[int, ...], stage: str, members: tuple[str, ...] = ()
    ) -> Contract:
        commit = name_of(tree)
        self.trees[commit] = tree
        return Contract(
            experiment=name,
            why="planted",
            claim="better",
            expect=None,
            seat="bench",
            program="main",
            commit=commit,
            tree=commit,
            baseline_commit=self.head_commit,
            baseline_tree=self.head_commit,
            scale="surrogate",
            stage=stage,  # type: ignore[arg-type]
            matched="tokens",
            seeds=seeds,
            members=members,
        )

    def finish(self) -> Tally:
        done, ideas = self.tally, self.world.ideas
        done.gain = self.world.gain(self.head)
        done.null_keeps = sum(not ideas[name] for name in self.head)
        done.true_keeps = len(self.head) - done.null_keeps
        owed = self.owing()
        done.unproven = len(owed.due) + len(owed.inert) if owed else 0
        return done


class OneByOne(Campaign):
    """The control that verifies: each tentative win alone, on 8 + 8 fresh seeds, before the next idea is searched."""

    def step(self) -> None:
        name = self.search()
        if name is not None:
            self.verify([name])


class Greedy(Campaign):
    """The control that does not: one run an idea, kept when it is lower than the incumbent's run."""

    def run(self) -> Tally:
        tree, done = BASE, self.tally
        incumbent = self.world.value(BASE, 1)
        done.runs = 1
        while done.runs < self.budget:
            idea = self.world.idea()
            done.tried += 1
            done.nulls += not self.world.ideas[idea]
            done.runs += 1
            value = self.world.value(tree | {idea}, 1)
            if value < incumbent:
                done.heads += 1
                done.claimed += incumbent - value
                done.moved += self.world.gain(tree | {idea}) - self.world.gain(tree)
                tree, incumbent = tree | {idea}, value
        self.head = tree
        return self.finish()


RULES: dict[str, type[Campaign]] = {"greedy": Greedy, "one-by-one": OneByOne, "org": Campaign}


def name_of(tree: Tree) -> str:
    """A name for a tree, as a commit's: short, and the same for the same ideas."""
    return "+".join(map(str, sorted(tree))) or "base"
