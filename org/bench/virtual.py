"""An org on virtual devices with a virtual clock: what is run, judged, stacked and credited, event by event. Trains nothing.

The decisions are the org's own: searches by `bench.quick`, which a test holds against the judge; verifications and removals by
`judge.next_step`; stacks, halves and credits by `evidence.stack`; when to stack and whom to move by `agents.decisions`. Here is
only what the dispatcher, the seats and the clock do: which run goes next on which device, and when it ends.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Any

from org.agents import decisions, search
from org.agents.decisions import Post
from org.agents.search import Trial
from org.bench import orgbench, quick
from org.bench.brains import Brain, History, Maker, Result
from org.bench.course import Course, Job, Line, Point, Roster, Run, Steps, Tried, usual_size
from org.bench.design import Value
from org.bench.world import BASE, Tree, World
from org.evidence import judge, stack, stats
from org.records import Contract, KnobChange, RunResult, Verdict

BANK, BEGUN, VERIFY, NEW, IDLE = range(5)  # ranks of runs, as `lab.wants` has them
SEARCH_SEED = 1


class Lab:
    """One org in one world until `budget_s` device-seconds are spent."""

    def __init__(
        self, world: World, roster: Roster, devices: int, budget_s: float, maker: Maker, check: bool = False
    ) -> None:
        self.world, self.roster, self.devices = world, roster, devices
        self.end, self.check = budget_s / devices, check
        self.charter = orgbench.charter_for(8)
        self.rules = self.charter.rules
        self.clock = self.busy_s = 0.0
        self.trials: list[Trial] = []
        self.results: list[RunResult] = []  # of verifications: their judge needs no other
        self.contracts: dict[str, Contract] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.rows: list[dict[str, Any]] = []  # head and credit lines
        self.names: dict[Tree, str] = {BASE: "base"}
        self.trees: dict[str, Tree] = {"base": BASE}
        self.points = [Point(0.0, 0.0, 0.0)]
        self.jobs: list[Job] = []
        self.ended: set[Run] = set()
        self.started: set[Run] = set()
        self.tried: dict[str, tuple[str, Value, float]] = {}  # experiment -> knob, value, true effect
        self.place = itertools.count()
        self.posts = self._posts()
        self.programs = tuple(dict.fromkeys(p.program for p in self.posts.values()))
        self.line = self._line(self.programs[0])
        self.brains: dict[str, Brain] = {seat: maker(f"{world.seed}/{world.luck}/{seat}") for seat in roster.proposers}
        self.offsets = {seat: 0 if roster.has_chief else n for n, seat in enumerate(roster.proposers)}
        self.dry: set[str] = set()  # who files nothing until there is news
        self.asked: dict[str, int] = dict.fromkeys(roster.proposers, 0)
        self.moved_at: dict[str, int] = {}
        self.index: dict[str, int] = {}
        self.news = 0  # changes of the record that a chief would read
        self.settled = -1  # news at which nobody was to move
        self.undue: tuple[object, ...] = ()  # what there was when no stack was due
        self.out: dict[str, str] = {}  # refuted: no stack takes it

    def run(self) -> Course:
        self._add(BANK, self._bank())
        running: list[tuple[float, int, Run]] = []
        order = itertools.count()
        while True:
            self._fill(len(running))
            for run in self._next(self.devices - len(running)):
                self.started.add(run)
                self.world.begin(*run)
                seconds = self.world.seconds(run[0])
                self.busy_s += max(0.0, min(seconds, self.end - self.clock))
                heapq.heappush(running, (self.clock + seconds, next(order), run))
            if not running or running[0][0] > self.end:
                break
            self.clock = running[0][0]
            while running and running[0][0] == self.clock:  # what ends at one moment is known before anybody is asked
                self._note(heapq.heappop(running)[2])
            self._advance()
        held, kind = self.line.head, self.world.kind
        kept = dict(held)
        tried = [Tried(kind(name), effect, kept.get(name) == value) for name, value, effect in self.tried.values()]
        device_s = self.end * self.devices
        return Course(self.points, tried, device_s, min(self.busy_s, device_s), len(self.ended), held)

    # --- the dispatcher

    def _add(self, rank: int, steps: Steps, seat: str = "", is_owed: bool = False) -> None:
        job = Job(rank, next(self.place), steps, seat=seat, is_owed=is_owed)
        if self._resume(job):
            self.jobs.append(job)

    def _resume(self, job: Job) -> bool:
        """Let a job go on until it waits for something; False when it is done."""
        while all(run in self.ended for run in job.wants):
            try:
                job.wants = next(job.steps)
            except StopIteration:
                return False
        return True

    def _advance(self) -> None:
        """Jobs whose runs have all ended go on."""
        for job in [job for job in self.jobs if all(run in self.ended for run in job.wants)]:
            if not self._resume(job):
                self.jobs.remove(job)
            elif job.rank == NEW:
                job.rank = BEGUN

    def _next(self, free: int) -> list[Run]:
        """The first wanted runs that nobody has started, as many as devices are free."""
        found: list[Run] = []
        if free <= 0:
            return found
        for job in sorted(self.jobs, key=lambda job: (job.rank, job.place)):
            for run in job.wants:
                if run not in self.started and run not in found:
                    found.append(run)
                    if len(found) == free:
                        return found
        return found

    def _note(self, run: Run) -> None:
        tree, seed = run
        self.ended.add(run)
        value = None if self.world.is_caught(tree) else self.world.run(tree, seed)
        if value is not None:
            self.line.noise.add(tree, seed, value)

    def _record(self, run: Run, stage: str) -> None:
        """The line that the run leaves for the judge."""
        tree, seed = run
        name = self._name(tree)
        if any(result.commit == name and result.seed == seed for result in self.results):
            return
        self.results.append(self._result(run, stage))

    def _result(self, run: Run, stage: str) -> RunResult:
        tree, seed = run
        name, is_caught = self._name(tree), self.world.is_caught(tree)
        value = None if is_caught else self.world.run(tree, seed)
        hidden = self.world.hidden(tree, seed) if stage == "verify" and value is not None else None
        return orgbench.result_of(name, seed, stage, value, hidden, is_caught)

    # --- the seats

    def _posts(self) -> dict[str, Post]:
        """Who works where: as the chief splits it, or everybody on a program of their own with every knob."""
        seats = self.roster.proposers
        if not self.roster.has_chief:
            return {seat: Post(seat, seat, tuple(self.world.knobs)) for seat in seats}
        groups: dict[str, list[str]] = {}
        for name, knob in self.world.knobs.items():
            groups.setdefault(knob.group, []).append(name)
        return {post.seat: post for post in decisions.split(groups, seats)}

    def _line(self, slug: str) -> Line:
        bank = tuple(range(SEARCH_SEED, SEARCH_SEED + self.charter.home_scale.bank))
        return Line(slug, quick.Noise(BASE), seeds=bank)

    def _fill(self, running: int) -> None:
        """A move, the next experiments of every seat, and a stack that is due. What hangs on verdicts alone is asked again
        when there is news."""
        if self.roster.has_chief and self.news != self.settled:
            self._move_one()
        for _ in range(1 + self.rules.queue_ahead):
            for seat in self.roster.proposers:
                filed = sum(job.seat == seat for job in self.jobs)
                if seat not in self.dry and filed <= min(_, self.rules.queue_ahead):
                    self._ask(seat)
        wanted = len({run for job in self.jobs for run in job.wants if run not in self.started})
        is_idle = running + wanted < self.devices if self.roster.has_chief else any(map(self._is_free, self.dry))
        line, state = self.line, (self.news, is_idle, self.line.declined)
        if state != self.undue:
            knobs = list(dict.fromkeys(name for post in self.posts.values() for name in post.knobs))
            due = decisions.stack_due(self.programs, self.trials, knobs, is_idle=is_idle, declined=line.declined)
            if due is None:
                self.undue = state
            else:
                line.declined = decisions.unverified(self.programs, self.trials)
                self._stack(due.subject)
        owed = [job for job in self.jobs if job.is_owed]
        rank = VERIFY if owed and decisions.waiting_keeps(self.programs, self.trials) else IDLE
        for job in owed:
            job.rank = rank

    def _is_free(self, seat: str) -> bool:
        return not any(job.seat == seat for job in self.jobs)

    def _move_one(self) -> None:
        posts = list(self.posts.values())
        if (move := decisions.move_due(posts, self.trials, self.moved_at)) is None:
            self.settled = self.news
            return
        old = self.posts[move.subject].program
        self.moved_at[old] = sum(t.program == old and not t.is_open and not t.is_stack for t in self.trials)
        self.posts[move.subject] = decisions.moved(posts, move.subject, move.program, self.trials)
        self.dry.discard(move.subject)

    def _ask(self, seat: str) -> None:
        post, line = self.posts[seat], self.line
        self.asked[seat] += 1
        changes = self.brains[seat].ask(
            History(
                knobs=[self.world.knobs[name] for name in post.knobs],
                current=self.world.current(line.head),
                trials=self.trials,
                seat=seat,
                seed=search.seed_of(f"{self.world.seed}/{seat}", self.asked[seat]),
                offset=self.offsets[seat],
                size=self.charter.margin or usual_size(self.world),
                everything=list(self.world.knobs.values()),
            )
        )
        tree = self.world.changed(line.head, changes or {})
        if not changes or tree == line.head:
            self.dry.add(seat)
            return
        self._add(NEW, self._search(seat, post.program, dict(changes), tree), seat)

    # --- what a seat files

    def _bank(self) -> Steps:
        yield [(BASE, seed) for seed in range(SEARCH_SEED, SEARCH_SEED + self.charter.home_scale.bank)]

    def _search(self, seat: str, slug: str, changes: dict[str, Value], tree: Tree) -> Steps:
        """One change on the head, screened on one run and kept on two."""
        name = f"E{len(self.trials) + 1:04d}"
        line, head = self.line, self.line.head
        current = self.world.current(head)
        true = (self.world.gain(tree) - self.world.gain(head)) / self.world.surface.sigma
        for knob, value in changes.items():
            self.tried[f"{name}/{knob}"] = (knob, value, true)
        turn = len(self.trials) % len(line.seeds)
        seeds = (*line.seeds[turn:], *line.seeds[:turn])
        knobs = tuple(KnobChange(knob, "train.py", 1, current.get(knob), value) for knob, value in changes.items())
        contract = self._contract(name, slug, tree, seeds, "search", knobs=knobs)
        self.contracts[name] = contract
        self.index[name] = len(self.trials)
        turned = tuple((knob.name.lower(), knob.old, knob.new) for knob in knobs)
        self.trials.append(Trial(name, slug, seat, turned, baseline=contract.baseline_commit))
        outcome, found = "null", None
        noise = line.noise  # of the head it is filed on, wherever that moves meanwhile
        bank = [(head, seed) for seed in line.seeds if (head, seed) in self.started or head == BASE]
        for count in range(1, self.rules.tentative_runs + 1):
            yield [*bank, *((tree, seed) for seed in seeds[:count])]
            if self.world.is_caught(tree) or self.world.run(tree, seeds[count - 1]) is None:
                outcome, found = "invalid" if self.world.is_caught(tree) else "crash", None
                break
            found = noise.look(tree, seeds[:count])
            if count == 1:
                if not quick.screen(noise, tree, seeds, self.rules):
                    outcome = "loss" if found.z <= -self.rules.tentative_z else "null"
                    break
                continue
            kept = quick.tentative(noise, tree, seeds, self.rules)
            outcome = "win" if kept is not None else "loss" if found.z <= -self.rules.tentative_z else "null"
        if self.check:
            self._compare(contract, outcome)
        self._judged(contract, outcome, found, changes)

    def _judged(
        self, contract: Contract, outcome: str, found: stats.Effect | None, changes: Mapping[str, Value]
    ) -> None:
        name, place = contract.experiment, self.index[contract.experiment]
        tier = "tentative" if outcome == "win" else None
        effect, se = (found.effect, found.se) if found else (None, None)
        self.trials[place] = replace(self.trials[place], outcome=outcome, tier=tier, effect=effect, se=se)
        self.news += 1
        self.verdicts[name] = orgbench.verdict_of(contract, outcome, found)
        seat = self.trials[place].seat
        runs = [self.world.run(self.trees[contract.tree], seed) for seed in contract.seeds[: found.n if found else 0]]
        values = [value for value in runs if value is not None]
        metric = stats.mean(values) if values else None
        self.brains[seat].tell(Result(dict(changes), outcome, effect, metric))
        self.dry.clear()
        if outcome == "win" and self.roster.breakers:
            self._add(VERIFY, self._attack(contract))

    def _attack(self, contract: Contract) -> Steps:
        """What a breaker does first: both arms on fresh seeds. A win that is none there is refuted, and no stack takes it."""
        head, tree = self.trees[contract.baseline_commit], self.trees[contract.tree]
        seeds = self._fresh(self.rules.tentative_runs)
        yield [(arm, seed) for seed in seeds for arm in (head, tree)]
        arms = self.line.noise.arms
        old, new = ({seed: arms[arm][seed] for seed in seeds} for arm in (head, tree))
        if stats.effect(old, new, self.line.noise.sigma, self.line.noise.paired).z <= 0:
            self.news += 1
            self.out[contract.experiment] = "was refuted on fresh seeds"
            place = self.index[contract.experiment]
            self.trials[place] = replace(self.trials[place], is_out=True)

    def _compare(self, contract: Contract, outcome: str) -> None:
        """The judge, given every run, decides as the quick one did."""
        step = judge.next_step(contract, [self._result(run, "search") for run in self.ended], self.charter)
        assert isinstance(step, Verdict) and step.outcome == outcome, (step, outcome)

    # --- verification

    def _stack(self, slug: str) -> None:
        """As `org stack` does: a half that is due, else the tentative wins on the present head; one at a time."""
        same = stack.same_head(self.rows, self.line.slug, self.line.commit)
        members = stack.half_due(self.contracts, self.verdicts, self.programs, same, self.out)
        members = members or stack.members(self.contracts, self.verdicts, {}, self.programs, same, out=self.out)
        if members:
            self._add(VERIFY, self._verify(slug, members))

    def _verify(self, slug: str, members: list[str]) -> Steps:
        """The members together on fresh seeds; when they hold the head moves."""
        line = self.line
        tree = self._with(line.head, members)
        runs = stack.verification_runs(self.rules, members, self.verdicts)
        seeds = self._fresh(runs)
        name = f"E{len(self.trials) + 1:04d}"
        contract = self._contract(name, slug, tree, seeds, "verify", tuple(members))
        self.contracts[name] = contract
        self.index[name] = place = len(self.trials)
        at, commit = contract.baseline_commit, contract.commit
        self.trials.append(
            Trial(name, slug, "org", (), members=contract.members, stage="verify", baseline=at, commit=commit)
        )
        self.news += 1
        verdict = yield from self._measured(contract)
        self.news += 1
        self.verdicts[name] = verdict
        self.trials[place] = replace(
            self.trials[place], outcome=verdict.outcome, tier=verdict.tier, effect=verdict.effect
        )
        self.dry.clear()
        if verdict.outcome != "win":
            return
        row = {"experiment": name, "members": members, "seeds": self._fresh(self.rules.verify_runs)}
        line.before, line.reported = line.claimed, 0.0
        self._move(tree, row, stack.reported(verdict, self.rules.verified_z) or 0.0)
        self._add(IDLE, self._settle(contract), is_owed=True)

    def _measured(self, contract: Contract) -> Generator[list[Run], None, Verdict]:
        """Launch what the judge asks for until it decides."""
        while True:
            step = judge.next_step(contract, self.results, self.charter)
            if isinstance(step, Verdict):
                return step
            runs = [
                (self.trees[contract.commit if arm == "candidate" else contract.baseline_commit], seed)
                for arm, seed in step.runs
            ]
            yield runs
            for run in runs:
                self._record(run, "verify")

    def _fresh_runs(self, row: dict[str, Any]) -> Steps:
        """The bank of the head that `row` made."""
        line, commit, tree = self.line, self.line.commit, self.line.head
        missing = stack.bank_due(row, line.noise.arms[tree], self.charter.home_scale.bank)
        runs = [(tree, seed) for seed in missing]
        yield runs
        for run in runs:
            self._record(run, "verify")
        if line.commit == commit:  # a search is dealt seeds that its head is measured on
            line.seeds = tuple(sorted({*line.seeds, *missing}))
            self._claim()

    def _settle(self, made: Contract) -> Steps:
        """A credit for each member; one that makes no difference leaves the head."""
        line = self.line
        while (owing := stack.owing(self.rows, line.slug)) is not None and owing.experiment == made.experiment:
            if owing.leaves is not None:
                leaves = owing.leaves
                row = {"experiment": owing.experiment, "removed": [leaves.member], "seeds": owing.seeds}
                self._move(self.trees[leaves.without], row, stack.reported_without(line.reported, leaves, 1))
                continue
            commit, member = line.commit, owing.due[0]
            made_now = self.contracts[owing.experiment]
            without = self._name(self._without(line.head, member))
            looks = stack.looks(made_now, owing.seeds)
            for left, seeds in zip(reversed(range(len(looks))), looks, strict=True):
                contract = stack.removal(made_now, (owing.commit, owing.tree), (without, without), member, seeds)
                verdict = yield from self._measured(contract)
                if line.commit != commit:
                    break  # another stack moved the head: the credit is owed on the new one
                if (found := stack.credit(contract, member, verdict, left)) is not None:
                    self.rows.append({"kind": "credit", **found.to_dict(), "program": line.slug})
                    break

    def _move(self, tree: Tree, row: dict[str, Any], reported: float) -> None:
        line = self.line
        commit, was = self._name(tree), line.commit
        self.rows.append({"kind": "head", "program": line.slug, "commit": commit, "tree": commit, "was": was, **row})
        line.head, line.commit, line.reported = tree, commit, reported
        line.noise = line.noise.seen_from(tree)
        line.seeds = tuple(sorted(line.noise.arms.get(tree, {}))) or line.seeds
        line.declined = ()
        self.news += 1
        self.dry.clear()
        self._claim()
        self._add(VERIFY, self._fresh_runs(self.rows[-1]))

    def _claim(self) -> None:
        """What the org says of its head: measured against the base where it was, else what its last move adds to that."""
        line = self.line
        seeds = next((row["seeds"] for row in reversed(self.rows) if row["kind"] == "head"), ())
        worth = stack.worth(self.results, ("base", line.commit), seeds, self.charter.metric.sign)
        line.claimed = worth.effect if worth is not None else line.before + line.reported
        self.points.append(Point(self.clock * self.devices, self.world.gain(line.head), -line.claimed))

    # --- names and trees

    def _with(self, head: Tree, members: Iterable[str]) -> Tree:
        changes = {knob.name: knob.new for name in members for knob in self.contracts[name].knobs}
        return self.world.changed(head, changes)

    def _without(self, head: Tree, member: str) -> Tree:
        return self.world.changed(head, {knob.name: knob.old for knob in self.contracts[member].knobs})

    def _fresh(self, count: int) -> tuple[int, ...]:
        first = self.line.next_seed
        self.line.next_seed += count
        return tuple(range(first, first + count))

    def _name(self, tree: Tree) -> str:
        if tree not in self.names:
            self.names[tree] = f"t{len(self.names)}"
            self.trees[self.names[tree]] = tree
        return self.names[tree]

    def _contract(
        self,
        name: str,
        slug: str,
        tree: Tree,
        seeds: tuple[int, ...],
        stage: str,
        members: tuple[str, ...] = (),
        knobs: tuple[KnobChange, ...] = (),
    ) -> Contract:
        commit = self._name(tree)
        plain = orgbench.contract_for(name, commit, seeds, stage)  # type: ignore[arg-type]
        at = self.line.commit
        return replace(plain, program=slug, baseline_commit=at, baseline_tree=at, members=members, knobs=knobs)
