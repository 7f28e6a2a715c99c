"""Which run goes next on which free device, and when an experiment is judged. One process at a time holds the dispatch lock.

    tick: reap what ended -> judge -> retract -> move heads -> credit -> start runs, or attack a win -> merge wins -> publish

Choosing is pure (`lab.wants`); status is computed from the ledger, run folders and kernel locks, so a dispatcher may
die between any two lines and the next one goes on. Knows no agents, no mail, no tmux.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from org import charter as charters
from org import files
from org.errors import LeaseHeld, OrgError
from org.evidence import control, judge, stack
from org.failpoint import failpoint
from org.home import Home
from org.lab import (
    archive,
    credits,
    ledger,
    mend,
    promotions,
    record,
    referee,
    refutations,
    runner,
    stacks,
    together,
    wants,
)
from org.lab import spec as specs
from org.lab.book import Book
from org.records import BANK, KEPT, Charter, Contract, RunSpec, Verdict
from org.world import devices, git, process

PUBLISH_AGAIN_S = 20.0  # after the hub took no branches
PUBLISH_LOCK_S = 1.0  # all other work of a tick waits as long for whoever holds the hub
CANDIDATE_OF = 64  # tentative wins that a candidate branch holds at most


class Dispatcher:
    """Holds nothing but caches. The caller holds home.dispatch_lock while it calls tick."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.ledger = ledger.Ledger(home)
        self.credits = credits.Credits(home, self.ledger)
        self.promotions = promotions.Promotions(home, self.ledger)
        self.refutations = refutations.Refutations(home, self.ledger)
        self.refutes = False  # whether idle devices attack wins, though the charter's rules do not say so
        self.devices = devices.of_one_kind(home)
        self._base: tuple[str, str] | None = None
        self._is_first = True  # tick; whoever dispatched before may have been killed anywhere
        self._judged: dict[str, tuple[int, judge.More]] = {}
        self._candidates: dict[str, tuple[str, ...]] = {}  # program -> head and wins its candidate was made of
        self._merged: tuple[int, str] | None = None  # ledger lines, and the scale, when candidates were last made
        self._stale: set[tuple[str, str]] = set()  # verified wins, and the head they do not stand on
        self._told: set[str] = set()  # why heads do not move, and what the hub does not take
        self._published: list[object] | None = None  # what the hub has
        self.is_at_rest = False  # after the last tick nothing ran and nothing was wanted: only a new line changes that
        self._publish_again = 0.0  # monotonic seconds; not before that

    def tick(self, allow_new: bool = True) -> list[str]:
        """One pass; returns sentences saying what happened. With allow_new=False nothing is started."""
        self.is_at_rest = False
        charter = charters.load(self.home)
        base = self._prepare(charter)
        said = self._reap()
        fits = [name for name, scale in charter.scales.items() if scale.devices <= len(self.devices)]
        settings = {name: specs.setting(charter, name, self.devices[0].kind) for name in fits}
        steps, news = self._judge(charter, settings)
        failpoint("dispatch.judged")
        news += self._follow(charter, base[0])
        news += self.promotions.step(charter)  # before heads move: one that was taken back in half is not built upon
        news += self.refutations.step()
        news += self._follow(charter, base[0])
        news += self._move_heads(charter, base[0])
        owed, credited = self._credit(charter, settings)
        news += credited
        failpoint("dispatch.acted")
        if news or (self._is_first and not mend.is_told(self.home, self.ledger.refresh())):
            self._keep(charter)
        self._is_first = False
        said += news
        if allow_new:
            said += self._start(charter, base, steps, settings, owed)
        else:
            self.is_at_rest = not self.running()
        said += self._merge_wins(charter, base[0])  # last: no free device waits for a merge
        said += self._publish()
        self.is_at_rest = self.is_at_rest and not said
        return said

    def _keep(self, charter: Charter) -> None:
        """The ledger into the record. A git that was killed since the first tick may have left a lock there."""
        try:
            archive.commit(self.home, self.ledger.refresh(), charter.metric.name)
        except OrgError:
            if not mend.sweep_record(self.home):
                raise
            archive.commit(self.home, self.ledger.refresh(), charter.metric.name)

    def running(self) -> list[str]:
        """Ids of runs whose runner lives."""
        book = self.ledger.refresh()
        return [run for run in self._open_runs(book) if files.is_locked(_run_lock(self.home, run))]

    # --- steps of a tick

    def _prepare(self, charter: Charter) -> tuple[str, str]:
        if self._base is None:
            commit = record.ensure_base(self.home, charter)  # the hub is for seats: no run needs it
            referee.ensure_splits(self.home, charter, commit)
            mend.mend(self.home, self.ledger.refresh())
            self._base = commit, git.tree_of(self.home.record, commit)
        return self._base

    def _reap(self) -> list[str]:
        """Runs that ended: take over a result that was not recorded, or record the run as lost."""
        said = []
        book = self.ledger.refresh()
        for run in self._open_runs(book):
            if files.is_locked(_run_lock(self.home, run)):
                continue
            folder = self.home.run(run)
            result = files.read_json(folder / "result.json")
            if result is None and run not in book.launches:
                continue  # it never began; the same id is used again
            if result is None:
                spec = RunSpec.from_dict(files.read_json(folder / "spec.json"))
                self._end_survivors(spec.device)
                failpoint("dispatch.lost")
                lost = runner.lost(spec, "its runner was killed; the run is repeated with the same seed")
                files.replace_json(folder / "result.json", lost.to_dict())
                result = lost.to_dict()
            failpoint("dispatch.reap")
            self.ledger.append("result", f"result:{run}", result)
            mend.tidy(self.home, run)
            said.append(f"{run} {result['status']}: {result['reason']}")
        return said

    def _end_survivors(self, device: str) -> None:
        """Processes of a run whose runner and guard are dead. Whoever has the device by now ended them when it took it,
        and carries the same marker: it must not be touched."""
        for name in device.split("+"):
            lease = files.try_lock(self.home.lease(name))
            if lease is None:
                continue
            try:
                process.kill_all(lambda of=name: process.find_marked(self.home.lease_marker(of)), limit_s=10)  # type: ignore[misc]
            finally:
                os.close(lease)

    def _open_runs(self, book: Book) -> list[str]:
        """Runs with a folder or a launch line and no result line."""
        started = {run for run in book.launches if run not in book.results}
        # a passed stack goes on running: its members' removals, its head's bank
        owing = [str(head.get("experiment")) for head in book.heads.values()]
        for name in dict.fromkeys([BANK, *(c.experiment for c in book.open()), *owing]):
            runs = self.home.experiment(name) / "runs"
            if runs.is_dir():
                names = [f"{name}/{p.name}" for p in runs.iterdir() if p.is_dir()]
                started |= {run for run in names if run not in book.results}
        return sorted(started)

    def _judge(self, charter: Charter, settings: dict[str, str]) -> tuple[dict[str, judge.More], list[str]]:
        steps: dict[str, judge.More] = {}
        said: list[str] = []
        book = self.ledger.refresh()
        count = len(book.results)
        for contract in book.open():
            known = self._judged.get(contract.experiment)
            if known and known[0] == count:
                steps[contract.experiment] = known[1]
                continue
            step = self._next_step(book, contract, charter, settings)
            if isinstance(step, judge.More):
                steps[contract.experiment] = step
                self._judged[contract.experiment] = (count, step)
                continue
            failpoint("dispatch.verdict")
            self.ledger.append("verdict", f"verdict:{contract.experiment}", step.to_dict())
            said.append(sentence(step, contract, charter))
        return steps, said

    def _next_step(
        self, book: Book, contract: Contract, charter: Charter, settings: dict[str, str]
    ) -> judge.More | Verdict:
        if contract.scale not in charter.scales:
            return _lost_verdict(contract, charter, f"scale {contract.scale} is no longer in the charter")
        if contract.scale not in settings:
            needed = f"{charter.scales[contract.scale].devices} devices"
            why = f"a run at {contract.scale} holds {needed} and this org has {len(self.devices)}"
            return _lost_verdict(contract, charter, why)
        setting = settings[contract.scale]
        results = list(book.results.values())
        if contract.control:
            digest = specs.digest_of(charter, contract.scale, self.devices[0].kind)
            step = control.next_step(contract, results, charter, digest)
        else:
            step = judge.next_step(contract, [r for r in results if r.setting == setting], charter)
        gone = wants.given_up(results, charter.rules.max_attempts, runner.STOPPED)
        if isinstance(step, Verdict):
            return step
        for arm, seed in step.runs:
            tree = contract.baseline_tree if arm == "baseline" else contract.tree
            own = step.budgets[arm].setting if arm in step.budgets else setting
            if (tree, own, seed) in gone:
                why = f"the org lost its {arm} run of seed {seed} {charter.rules.max_attempts} times"
                return _lost_verdict(contract, charter, f"{why}; see that run's runner.txt and referee.txt")
        return step

    def _move_heads(self, charter: Charter, base: str) -> list[str]:
        """Heads follow what is verified at the charter's scale; looks whether it is done already."""
        said = []
        book = self.ledger.refresh()
        moved = {row["experiment"] for row in book.moves if row.get("kind") == "head"}
        out = book.out()
        for name, verdict in list(book.verdicts.items()):
            is_shown = verdict.outcome in KEPT and verdict.tier == "verified"
            if not is_shown or name in moved:
                continue
            contract = book.experiments[name]
            program = contract.program
            stale = name, str(book.heads.get(program, {}).get("commit"))
            if stale in self._stale or name in out or name in book.retracted:
                continue
            if contract.control or contract.scale != charter.scale:
                continue  # a win of another budget than heads have
            try:
                is_moved = stacks.move_head(self.home, self.ledger, contract, base)
            except OrgError as error:
                said += [str(error)] if str(error) not in self._told else []
                self._told.add(str(error))
                continue
            if is_moved:
                said.append(f"head of {program} moved to {contract.commit[:7]} by {name}")
                said += self._follow(charter, base)  # before a verification of theirs is taken for stale
                continue
            self._stale.add(stale)
            if not self._is_first:  # whoever dispatched before has said it
                said.append(f"head of {program} stays: {name} was verified on a former one; file its change again")
        return said

    def _follow(self, charter: Charter, base: str) -> list[str]:
        """Programs that stood with one whose head moved go along."""
        try:
            return together.follow(self.home, self.ledger, charter, base)
        except OrgError as error:
            news = [str(error)] if str(error) not in self._told else []
            self._told.add(str(error))
            return news

    def _merge_wins(self, charter: Charter, base: str) -> list[str]:
        """Each program's candidate branch holds the tentative wins that can be stacked on its present head."""
        said = []
        book = self.ledger.refresh()
        now = len(book.rows), charter.scale
        if now == self._merged:
            return []
        out = book.out()
        # a candidate may hold what was retracted since, or dropped by a stack that failed: the last of its wins included
        programs = [str(row["program"]) for row in book.retracted.values()]
        programs += [
            book.experiments[name].program
            for name, verdict in book.verdicts.items()
            if (verdict.outcome, verdict.tier) == ("win", "tentative")
        ]
        for program in dict.fromkeys(programs):
            head = str(book.heads.get(program, {}).get("commit") or base)
            same = stack.same_head(book.moves, program, head)
            chosen = stack.members(
                book.experiments, book.verdicts, book.heads, program, same, CANDIDATE_OF, out, charter.scale
            )
            if self._candidates.get(program) != (head, *chosen):
                left_out = stacks.rebuild_candidate(self.home, book, program, head, chosen)
                self._candidates[program] = (head, *chosen)
                said += [f"{name} does not merge with the other wins of {program}" for name in left_out]
        self._merged = now
        return said

    def _publish(self) -> list[str]:
        """Heads and candidates reach the hub, where seats find them. Agents write in it, and a broken one stops nothing
        here: it is said once, and tried again after a while."""
        now = [*(row.get("seq") for row in self.ledger.book.heads.values()), *self._candidates.items()]
        if now == self._published or time.monotonic() < self._publish_again:
            return []
        try:
            record.publish(self.home, lock_s=PUBLISH_LOCK_S)
        except OrgError as error:
            self._publish_again = time.monotonic() + PUBLISH_AGAIN_S
            said = f"{self.home.hub} takes no branches: {error}; seats do not see the heads of the record"
            news = [said] if said not in self._told else []
            self._told.add(said)
            return news
        self._published = now
        failpoint("dispatch.published")
        return []

    def _credit(self, charter: Charter, settings: dict[str, str]) -> tuple[list[wants.Want], list[str]]:
        """What members of passed stacks owe: runs to start, or what they showed."""
        book = self.ledger.refresh()
        return self.credits.step(charter, settings, lambda contract: self._next_step(book, contract, charter, settings))

    def _start(
        self,
        charter: Charter,
        base: tuple[str, str],
        steps: dict[str, judge.More],
        settings: dict[str, str],
        owed: Sequence[wants.Want] = (),
    ) -> list[str]:
        running = self.running()
        # In this order: a run that ends meanwhile has its result line before its lock is free, so it is in one of the
        # two. What the judge asked for may be measured by now.
        book = self.ledger.refresh()
        busy: set[wants.Identity] = set()
        # one whose runner was killed after the reaping is reaped at the next tick, and repeated then
        for run in {*running, *(name for name in book.launches if name not in book.results)}:
            spec = files.read_json(self.home.run(run) / "spec.json") or {}
            busy.add((spec.get("tree", ""), spec.get("setting", ""), spec.get("seed", 0)))
        busy |= {(r.tree, r.setting, r.seed) for r in book.results.values() if r.status != "lost"}
        busy |= wants.given_up(book.results.values(), charter.rules.max_attempts, runner.STOPPED)
        free, held = self._device_use()
        sizes = {name: scale.devices for name, scale in charter.scales.items()}
        said = []
        found = sorted([*wants.wanted(book, charter, base, steps, settings), *owed], key=lambda want: want.order)
        self.is_at_rest = not running and all(want.identity in busy for want in found)
        chosen = wants.choose(found, busy, free, held, sizes)
        is_idle = bool(free) and not chosen
        for want, names in chosen:
            try:
                run = self._launch(charter, base[0], want, names, book)
            except LeaseHeld:
                continue
            said.append(f"{run} started on {'+'.join(names)}")
        if is_idle and (self.refutes or charter.rules.refute):
            said += self.refutations.file_idle(charter)
        return said

    def _device_use(self) -> tuple[list[str], list[list[str]]]:
        """(free devices, the devices of each run that holds some)."""
        free: list[str] = []
        held: dict[str, list[str]] = {}
        for device in self.devices:
            facts = devices.holder(self.home.lease(device.name))
            if facts is None:
                free.append(device.name)
            else:
                held.setdefault(str(facts.get("run") or device.name), []).append(device.name)
        return free, list(held.values())

    def _launch(self, charter: Charter, base: str, want: wants.Want, names: Sequence[str], book: Book) -> str:
        """Write the spec, take the run's lock and every lease, and hand them to a detached runner: no moment in which
        nobody holds them."""
        gang = [device for device in self.devices if device.name in names]
        leases = devices.lease_all([(self.home.lease(device.name), device) for device in gang])
        try:
            markers = [self.home.lease_marker(device.name) for device in gang]
            process.kill_all(lambda: process.find_marked(*markers), limit_s=10)
            run = f"{want.experiment}/{want.arm}-s{want.seed}"
            attempt = 1 + sum(1 for past in book.results if past == run or past.startswith(f"{run}-r"))
            spec = specs.build(self.home, charter, base, want, gang, attempt, run)
            lock = files.try_lock(_run_lock(self.home, spec.run))
            if lock is None:
                raise LeaseHeld(f"{spec.run} is running already")
            try:
                failpoint("dispatch.lease")
                files.replace_json(self.home.run(spec.run) / "spec.json", spec.to_dict())
                for lease in leases:
                    devices.write_holder(lease, {"run": spec.run, "seat": want.seat, "since": files.utc_now()})
                failpoint("dispatch.spawn")
                process.spawn_detached(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "org.lab.runner",
                        str(self.home.root),
                        spec.run,
                        *map(str, (lock, *leases)),
                    ],
                    env=specs.runner_environment(self.home),
                    cwd=self.home.root,
                    log=self.home.run(spec.run) / "runner.txt",
                    pass_fds=(lock, *leases),
                )
                failpoint("dispatch.spawned")
            finally:
                os.close(lock)
        finally:
            for lease in leases:
                os.close(lease)
        return spec.run


def sentence(verdict: Verdict, contract: Contract, charter: Charter) -> str:
    """One line: `E0042 win (tentative): MATRIX_LR 0.02→0.04, effect -0.0412 ± 0.0113 val_bpb, z 3.6, n 2`."""
    tier = f" ({verdict.tier})" if verdict.tier else ""
    numbers = ""
    if verdict.effect is not None and verdict.se is not None:
        numbers = (
            f"effect {verdict.effect:+.4f} ± {verdict.se:.4f} {charter.metric.name}, z {verdict.z:.1f}, n {verdict.n}"
        )
    else:
        numbers = verdict.reasons[0] if verdict.reasons else "no number"
    return f"{verdict.experiment} {verdict.outcome}{tier}: {numbers}; {files.printable(contract.description, 160)}"


def _run_lock(home: Home, run: str) -> Path:
    return home.run(run) / "lock"


def _lost_verdict(contract: Contract, charter: Charter, why: str) -> Verdict:
    return judge.unmeasured(contract, "lost", why, charter)
