"""What people and the foreground see of the lab: the queue, the devices, and one experiment followed to its verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from org import files
from org.errors import Busy, RunFailed
from org.home import Home
from org.lab import ledger
from org.lab.book import Book
from org.records import Verdict
from org.world import devices
from org.world.devices import Device


def queue(home: Home, book: Book) -> list[dict[str, Any]]:
    """Who waits for what: every open experiment's next or running run."""
    held = {facts["run"]: name for name, facts in _holders(home).items() if facts.get("run")}
    rows = []
    for contract in book.open():
        mine = [run for run in held if run.startswith(f"{contract.experiment}/")]
        done = sum(1 for run in book.results if run.startswith(f"{contract.experiment}/"))
        run = mine[0] if mine else None
        waiting = "its run to end" if mine else _waiting_for(home, bool(held))
        rows.append(
            {
                "experiment": contract.experiment,
                "run": run,
                "seat": contract.seat,
                "waiting_for": waiting,
                "runs_done": done,
            }
        )
    return rows


def _waiting_for(home: Home, is_busy: bool) -> str:
    if budget_has_ended(home):
        return "the next budget: `org launch --budget 1h`"
    if is_busy or files.is_locked(home.dispatch_lock):
        return "a device"
    return "a dispatcher: `org launch` or `org run`"


def budget_has_ended(home: Home) -> bool:
    """An office is there and starts nothing any more."""
    facts = files.read_json(home.org_file) or {}
    return bool(facts.get("budget_ended")) and files.is_locked(home.office_lock)


def device_table(home: Home, there: Iterable[Device]) -> list[dict[str, Any]]:
    """Who holds each of these devices now."""
    rows = []
    for device in there:
        facts = devices.holder(home.lease(device.name)) or {}
        rows.append({"name": device.name, "kind": device.kind, "holder": facts.get("seat"), "run": facts.get("run")})
    return rows


def _holders(home: Home) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(home.leases.glob("*.lock")):
        facts = devices.holder(path)
        if facts is not None:
            found[path.stem] = facts
    return found


def drive(home: Home, experiment: str, on_line: Callable[[str], None], poll_s: float = 0.2) -> Verdict:
    """Wait for an experiment's verdict; when no office dispatches, do it here. Leaving stops nothing that runs.
    Raises Busy when the office's budget has ended: the experiment stays queued for the next one."""
    from org.lab.dispatch import Dispatcher  # only who waits pays for the runner, the referee and the judge

    reader = ledger.Ledger(home)
    dispatcher: Dispatcher | None = None
    tails: dict[Path, int] = {}
    while True:
        book = reader.refresh()
        if experiment in book.verdicts:
            return book.verdicts[experiment]
        lock = files.try_lock(home.dispatch_lock)
        if lock is not None:
            try:
                dispatcher = dispatcher or Dispatcher(home)
                for line in dispatcher.tick():
                    on_line(line)
            finally:
                os.close(lock)
        elif budget_has_ended(home) and not _runs_of(home, experiment):
            raise Busy(f"the budget has ended and {experiment} stays queued; go on with `org launch --budget 1h`")
        _follow(home, experiment, tails, on_line)
        if experiment not in reader.refresh().verdicts:
            time.sleep(poll_s)  # the ledger and the run's log are looked at again; nothing is missed in between


def settle(home: Home) -> None:
    """One more pass where no office dispatches: what follows from a verdict is done before the command ends."""
    from org.lab.dispatch import Dispatcher

    lock = files.try_lock(home.dispatch_lock)
    if lock is None:
        return  # the office's next pass does it
    try:
        Dispatcher(home).tick(allow_new=False)
    finally:
        os.close(lock)


def drive_owed(home: Home, program: str, on_line: Callable[[str], None]) -> None:
    """File and follow the re-tests that the program's wins owe, until none is left. The caller knows of no office."""
    while any(c.program == program and c.owed_scales for c in ledger.read(home).experiments.values()):
        settle(home)  # files the next ones
        book = ledger.read(home)
        owed = [
            c.experiment
            for c in book.open()
            if c.promotes and c.program == program and c.scale in book.experiments[c.promotes].owed_scales
        ]
        if not owed:
            return
        for name in owed:
            drive(home, name, on_line)


def _runs_of(home: Home, experiment: str) -> list[str]:
    """Runs of this experiment that hold a device now."""
    held = [str(facts.get("run")) for facts in _holders(home).values()]
    return [run for run in held if run.startswith(f"{experiment}/")]


def _follow(home: Home, experiment: str, tails: dict[Path, int], on_line: Callable[[str], None]) -> None:
    """Print what is new in the logs of this experiment's runs, whole lines only."""
    for log in sorted((home.experiment(experiment) / "runs").glob("*/log.txt")):
        with log.open("rb") as file:
            file.seek(tails.get(log, 0))
            data = file.read(65536).replace(b"\r", b"\n")
        whole = data[: data.rfind(b"\n") + 1]
        tails[log] = tails.get(log, 0) + len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if line.strip():
                on_line(f"  {log.parent.name} | {files.printable(line, 200)}")


def require_number(verdict: Verdict) -> Verdict:
    """The verdict, or RunFailed (exit 5) when the experiment ended without a number."""
    if verdict.outcome in ("crash", "lost"):
        raise RunFailed(
            f"{verdict.experiment} {verdict.outcome}: {verdict.reasons[0] if verdict.reasons else 'see its log'}"
        )
    return verdict
