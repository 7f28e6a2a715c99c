"""Which run goes next on which free device, and when an experiment is judged. One process at a time holds the dispatch lock.

    tick: reap what ended -> judge -> act on verdicts -> start runs

Choosing is pure (`lab.wants`); status is computed from the ledger, run folders and kernel locks, so a dispatcher may
die between any two lines and the next one goes on. Knows no agents, no mail, no tmux.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from org import charter as charters
from org import files
from org.errors import LeaseHeld
from org.evidence import judge
from org.failpoint import failpoint
from org.home import Home
from org.lab import gate, ledger, record, referee, runner, stacks, wants
from org.lab import spec as specs
from org.records import Charter, Contract, RunResult, RunSpec, Verdict
from org.world import devices, git, process


class Dispatcher:
    """Holds nothing but caches. The caller holds home.dispatch_lock while it calls tick."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.ledger = ledger.Ledger(home)
        self.devices = devices.in_force(home)
        self._base: tuple[str, str] | None = None
        self._judged: dict[str, tuple[int, judge.More]] = {}
        self._merged: set[str] = set()  # tentative wins already in their program's candidate branch

    def tick(self, allow_new: bool = True) -> list[str]:
        """One pass; returns sentences saying what happened. With allow_new=False nothing is started."""
        charter = charters.load(self.home)
        base = self._prepare(charter)
        said = self._reap()
        steps, verdicts = self._judge(charter)
        said += verdicts
        said += self._act(charter)
        if allow_new:
            said += self._start(charter, base, steps)
        return said

    def running(self) -> list[str]:
        """Ids of runs whose runner lives."""
        book = self.ledger.refresh()
        return [run for run in self._open_runs(book) if files.is_locked(_run_lock(self.home, run))]

    # --- steps of a tick

    def _prepare(self, charter: Charter) -> tuple[str, str]:
        if self._base is None:
            commit = record.ensure_record(self.home, charter)
            referee.ensure_splits(self.home, charter, commit)
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
                process.kill_all(lambda d=spec.device: process.find_marked(self.home.lease_marker(d)), limit_s=10)  # type: ignore[misc]
                lost = runner.lost(spec, "its runner was killed; the run is repeated with the same seed")
                files.replace_json(folder / "result.json", lost.to_dict())
                result = lost.to_dict()
            failpoint("dispatch.reap")
            self.ledger.append("result", f"result:{run}", result)
            said.append(f"{run} {result['status']}: {result['reason']}")
        return said

    def _open_runs(self, book: ledger.Book) -> list[str]:
        """Runs with a folder or a launch line and no result line."""
        started = {run for run in book.launches if run not in book.results}
        for name in [gate.BANK, *(c.experiment for c in book.open())]:
            runs = self.home.experiment(name) / "runs"
            if runs.is_dir():
                started |= {f"{name}/{p.name}" for p in runs.iterdir() if f"{name}/{p.name}" not in book.results}
        return sorted(started)

    def _judge(self, charter: Charter) -> tuple[dict[str, judge.More], list[str]]:
        steps: dict[str, judge.More] = {}
        said: list[str] = []
        book = self.ledger.refresh()
        count = len(book.results)
        for contract in book.open():
            known = self._judged.get(contract.experiment)
            if known and known[0] == count:
                steps[contract.experiment] = known[1]
                continue
            step = self._next_step(book, contract, charter)
            if isinstance(step, judge.More):
                steps[contract.experiment] = step
                self._judged[contract.experiment] = (count, step)
                continue
            failpoint("dispatch.verdict")
            self.ledger.append("verdict", f"verdict:{contract.experiment}", step.to_dict())
            said.append(sentence(step, contract, charter))
        if said:
            ledger.commit(self.home, self.ledger.refresh(), charter.metric.name)
        return steps, said

    def _next_step(self, book: ledger.Book, contract: Contract, charter: Charter) -> judge.More | Verdict:
        results = results_of(book, contract, self.devices[0].kind if self.devices else None)
        gone = _given_up(contract, results, charter.rules.max_attempts)
        if gone:
            return _lost_verdict(contract, results, charter, gone)
        return judge.next_step(contract, results, charter)

    def _act(self, charter: Charter) -> list[str]:
        """What follows from verdicts; each step looks whether it is done already."""
        said = []
        book = self.ledger.refresh()
        moved = {row["experiment"] for row in book.rows if row.get("kind") == "head"}
        for name, verdict in list(book.verdicts.items()):
            contract = book.experiments[name]
            if verdict.outcome == "win" and verdict.tier == "verified" and name not in moved:
                if stacks.move_head(self.home, self.ledger, contract):
                    said.append(f"head of {contract.program} moved to {contract.commit[:7]} by {name}")
            elif verdict.outcome == "win" and verdict.tier == "tentative" and name not in self._merged:
                self._merged.add(name)
                left_out = stacks.rebuild_candidate(self.home, book, contract.program)
                if name in left_out:
                    said.append(f"{name} conflicts with earlier wins of {contract.program}; it waits for a new head")
        return said

    def _start(self, charter: Charter, base: tuple[str, str], steps: dict[str, judge.More]) -> list[str]:
        running = self.running()
        # In this order: a run that ends meanwhile has its result line before its lock is free, so it is in one of the
        # two. What the judge asked for may be measured by now.
        book = self.ledger.refresh()
        busy: set[tuple[str, str, int]] = set()
        for run in running:
            spec = files.read_json(self.home.run(run) / "spec.json") or {}
            busy.add((spec.get("tree", ""), spec.get("scale", ""), spec.get("seed", 0)))
        busy |= {(r.tree, r.scale, r.seed) for r in book.results.values() if r.status != "lost"}
        free = [d.name for d in self.devices if devices.holder(self.home.lease(d.name)) is None]
        said = []
        for want, device in wants.choose(wants.wanted(book, charter, base, steps), busy, free):
            try:
                run = self._launch(charter, base[0], want, device, book)
            except LeaseHeld:
                continue
            said.append(f"{run} started on {device}")
        return said

    def _launch(self, charter: Charter, base: str, want: wants.Want, name: str, book: ledger.Book) -> str:
        """Write the spec, take both locks, and hand them to a detached runner: no moment in which nobody holds them."""
        device = next(d for d in self.devices if d.name == name)
        lease = devices.lease(self.home.lease(name), device)
        try:
            process.kill_all(lambda: process.find_marked(self.home.lease_marker(name)), limit_s=10)
            run = f"{want.experiment}/{want.arm}-s{want.seed}"
            attempt = 1 + sum(1 for past in book.results if past == run or past.startswith(f"{run}-r"))
            spec = specs.build(self.home, charter, base, want, device, attempt, run)
            lock = files.try_lock(_run_lock(self.home, spec.run))
            if lock is None:
                raise LeaseHeld(f"{spec.run} is running already")
            try:
                files.replace_json(self.home.run(spec.run) / "spec.json", spec.to_dict())
                devices.write_holder(lease, {"run": spec.run, "seat": want.seat, "since": files.utc_now()})
                failpoint("dispatch.spawn")
                process.spawn_detached(
                    [sys.executable, "-m", "org.lab.runner", str(self.home.root), spec.run, str(lock), str(lease)],
                    env=specs.runner_environment(self.home),
                    cwd=self.home.root,
                    log=self.home.run(spec.run) / "runner.txt",
                    pass_fds=(lock, lease),
                )
            finally:
                os.close(lock)
        finally:
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


def results_of(book: ledger.Book, contract: Contract, device_kind: str | None = None) -> list[RunResult]:
    """Every result at this contract's scale (and device kind, when given): what its judge may rest on."""
    return [
        r
        for r in book.results.values()
        if r.scale == contract.scale and (device_kind is None or r.device_kind == device_kind)
    ]


def _run_lock(home: Home, run: str) -> Path:
    return home.run(run) / "lock"


def _given_up(contract: Contract, results: Iterable[RunResult], limit: int) -> str:
    """A run of this experiment that the org lost `limit` times, or "". Runs stopped with the org do not count."""
    lost: dict[tuple[str, int], int] = {}
    for r in results:
        if r.experiment == contract.experiment and r.status == "lost" and r.reason != runner.STOPPED:
            lost[r.arm, r.seed] = lost.get((r.arm, r.seed), 0) + 1
    return next((f"{arm}-s{seed}" for (arm, seed), count in lost.items() if count >= limit), "")


def _lost_verdict(contract: Contract, results: Iterable[RunResult], charter: Charter, gone: str) -> Verdict:
    own = tuple(r.run for r in results if r.experiment == contract.experiment)
    return Verdict(
        experiment=contract.experiment,
        outcome="lost",
        tier=None,
        claim=contract.claim,
        effect=None,
        se=None,
        z=None,
        n=0,
        matched_on=contract.matched,
        trust="referee" if charter.referee else "reported",
        reasons=(f"the org lost {gone} {charter.rules.max_attempts} times; see its runner.txt and referee.txt",),
        runs=own,
        expect=contract.expect,
    )
