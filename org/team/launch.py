"""Start an organisation, mend it, end it. Every step may be repeated: what is there is left alone, what is missing is made.

record, programs -> worktrees -> data -> org.json -> grid, office -> every seat ready -> the budget's clock starts
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from org import __version__, files
from org import charter as charters
from org.agents import base
from org.errors import Busy, OrgError
from org.failpoint import failpoint
from org.home import Home
from org.lab import ledger as ledgers
from org.lab import record, referee
from org.lab import spec as specs
from org.records import Charter
from org.team import panes, roster, seats, states
from org.team.ending import alone, end_office, stop
from org.team.roster import PERSON, Plan
from org.world import confine, git, process, tmux
from org.world.watch import Watcher

READY_S = 60.0
OFFICE_S = 20.0

Say = Callable[[str], None]


def launch(home: Home, plan: Plan, say: Say) -> None:
    """Make what the plan says; returns when every seat is ready and the office works. On a running home only what is
    missing is made. Raises Busy when another launch is at work, or when the home runs with another roster."""
    with alone(home):
        charter = charters.load(home)
        facts = roster.facts(home)
        server = panes.server_of(home)
        running = server.alive()
        if running:
            _refuse_another(facts, plan)
        clock = _Clock(say)
        base_commit = record.ensure_record(home, charter)
        made = _make_seats(home, plan, say)
        clock.said(
            f"{len(plan.seats)} seats with worktrees, {len(made)} of them new" if made else "worktrees are there"
        )
        if not running:
            _end_old_office(home)
            _end_leftovers(home, plan)
            _prepare_data(home, charter, base_commit, say)
            referee.ensure_splits(home, charter, base_commit)
            clock.said("data is ready")
        if _write_facts(home, plan, running):
            say(f"the budget begins anew: {_budget_text(plan.budget)}")
        failpoint("launch.facts")
        started = panes.start(home, server, [seat for name in plan.seats if (seat := seats.load(home, name.name))])
        roster.update(home, server_pid=server.pid())
        failpoint("launch.panes")
        clock.said(f"panes started: {', '.join(started)}" if started else "every pane lives")
        _wait_ready(home, [seat.name for seat in plan.seats], say)
        _wait_office(home)
        _begin_budget(home)
        clock.said(f"{len(plan.seats)} seats are ready")
        if started or not running:
            _write_ledger(home, plan, started)


# --- before anything starts --------------------------------------------------------------------------------------


def _refuse_another(facts: dict[str, object], plan: Plan) -> None:
    rows = facts.get("roster")
    now = {(row["name"], row["role"], row["backend"]) for row in rows} if isinstance(rows, list) else set()
    if now != plan.roster or facts.get("org") != plan.org:
        count = len(now)
        raise Busy(
            f"an organisation of {count} seats runs here and this is another one; `org stop` it first, "
            "or `org launch` without counts to bring back what is missing"
        )
    if facts.get("devices") != list(plan.devices):
        raise Busy("the organisation that runs here uses other devices; `org stop` it first")


def _make_seats(home: Home, plan: Plan, say: Say) -> list[str]:
    """Worktrees one after another: 16 `git worktree add` at once fail one time in thirty."""
    made = []
    for program in sorted({seat.program for seat in plan.seats}):
        record.ensure_program(home, program)
    for seat in plan.seats:
        if seats.load(home, seat.name) is None:
            made.append(seat.name)
        before = seats.saved(home, seat.name)
        seats.create(home, seat.name, seat.role, seat.backend, seat.program, seat.device)
        for path in seats.saved(home, seat.name):
            if path not in before:
                say(f"{seat.name}: what was not filed is in {path}")
        failpoint("launch.seat")
    return made


def _end_old_office(home: Home) -> None:
    """The office of a tmux server that was killed lives on for a moment. Its lock would be taken for the new office's."""
    end_office(home)
    end = time.monotonic() + OFFICE_S
    while files.is_locked(home.office_lock):
        if time.monotonic() > end:
            raise Busy(f"an office of {home.root} holds {home.office_lock} and does not end; end it with `org stop`")
        time.sleep(0.02)


def _end_leftovers(home: Home, plan: Plan) -> None:
    """Programs of seats whose tmux server was killed may live on in sessions of their own: two would act as one seat."""
    for seat in plan.seats:
        marker = f"ORG_EVENTS={home.seat_events(seat.name)}"
        process.kill_all(lambda marker=marker: process.find_marked(marker), limit_s=5)  # type: ignore[misc]


def _prepare_data(home: Home, charter: Charter, base_commit: str, say: Say) -> None:
    """The charter's `prepare` command, run from an export of the base commit; its lines are progress."""
    if not charter.prepare:
        return
    words = [sys.executable if word in ("python", "python3") else word for word in shlex.split(charter.prepare)]
    last = "no output"
    with tempfile.TemporaryDirectory(prefix="org-prepare-") as folder:
        git.export(home.record, base_commit, Path(folder))
        try:
            child = subprocess.Popen(
                words,
                cwd=folder,
                env={**specs.trainer_environment(charter), "ORG_KEY": home.key},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise OrgError(f"prepare: `{charter.prepare}` cannot be started: {error.strerror}") from None
        with child:
            for line in child.stdout or ():
                if line.strip():
                    last = files.printable(line.strip(), 200)
                    say(f"prepare: {last}")
    if child.returncode:
        raise OrgError(f"prepare: `{charter.prepare}` ended with status {child.returncode}: {last}")


def _write_facts(home: Home, plan: Plan, running: bool) -> bool:
    """org.json: what this launch is. A launch that was not stopped keeps its clock, unless it is given another budget, or
    one after its own has ended: then a new one begins, and True is returned."""
    old = roster.facts(home)
    goes_on = bool(old) and not old.get("stopped")
    renews = goes_on and plan.budget is not None and (bool(old.get("budget_ended")) or _differs(old, plan.budget))
    keeps = goes_on and not renews
    fresh = {**(plan.budget or roster.Budget()).to_dict(), "from": None, "since": files.utc_now()}
    budget = old.get("budget") if keeps else fresh
    if running and not plan.is_named and keeps:
        return False
    roster.update(
        home,
        key=home.key,
        org=plan.org,
        org_hash=roster.org_hash(home, plan.org),
        charter_hash=charters.charter_hash(home),
        roster=[seat.to_dict() for seat in plan.seats],
        devices=list(plan.devices),
        devices_spec=plan.devices_spec,
        budget=budget,
        since=old.get("since") if goes_on else files.utc_now(),
        budget_ended=old.get("budget_ended") if keeps else None,
        ended=old.get("ended") if keeps else None,
        stopped=None,
        socket=home.socket,
        boot_id=process.boot_id(),
        isolation=confine.level(),
        versions={"org": __version__, "python": sys.version.split()[0]},
    )
    return renews


def _differs(facts: dict[str, object], budget: roster.Budget) -> bool:
    row = facts.get("budget")
    return not isinstance(row, dict) or (row.get("seconds"), row.get("runs")) != (budget.seconds, budget.runs)


def _budget_text(budget: roster.Budget | None) -> str:
    if budget is None or (budget.seconds, budget.runs) == (None, None):
        return "no limit"
    return f"{budget.runs} runs" if budget.seconds is None else f"{budget.seconds:g} s"


# --- until everybody is there ------------------------------------------------------------------------------------


def _wait_ready(home: Home, names: list[str], say: Say) -> None:
    """Until every seat's program has said `ready` since it was started, or lives where it never says so."""
    with Watcher(home.seats) as watcher:
        end = time.monotonic() + READY_S
        said = 0
        while True:
            missing = not_ready(home, names)
            if not missing:
                return
            if len(names) - len(missing) > said:
                said = len(names) - len(missing)
                say(f"{said} of {len(names)} seats are ready")
            if time.monotonic() > end:
                raise OrgError(
                    f"not ready within {READY_S:.0f} s: {', '.join(missing)}; look with `org attach {missing[0]}`, "
                    "then `org launch` again"
                )
            watcher.wait(0.2 if watcher.is_polling else 1.0)


def not_ready(home: Home, names: list[str]) -> list[str]:
    """Seats whose program has not come up since its pane was started."""
    view = states.look(home, time.time())
    missing = []
    for name in names:
        seat, pane = seats.load(home, name), view.panes.get(name)
        if seat is None or pane is None or pane.dead:
            missing.append(name)
        elif base.backend(seat.backend).readiness == "event":
            started = panes.note(home, name).get("started") or ""
            rows = states.last_events(home, name)
            # one that was busy before the launch and has no `ready` in the tail of its events has come up long ago
            if not any(str(row.get("t", "")) >= started and row.get("event") != "starting" for row in rows):
                missing.append(name)
    return missing


def _wait_office(home: Home) -> None:
    end = time.monotonic() + OFFICE_S
    with Watcher(home.leases) as watcher:
        while not files.is_locked(home.office_lock):
            if time.monotonic() > end:
                text = _last_words(home)
                raise OrgError(f"the office does not start: {text}; look at the window `office` of `org attach`")
            watcher.wait(0.1)


def _last_words(home: Home) -> str:
    """The last line in the office's window."""
    server = panes.server_of(home)
    try:
        pane = next((p for p in server.list_panes() if p.window_name == "office"), None)
        lines = server.capture(pane.id).split("\n") if pane else []
    except tmux.TmuxError as error:
        return str(error)
    return next((files.printable(line.strip(), 200) for line in reversed(lines) if _says(line)), "no output")


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("Pane is dead")


def _begin_budget(home: Home) -> None:
    budget = dict(roster.facts(home).get("budget") or {})
    if budget.get("from") is None:
        roster.update(home, budget={**budget, "from": files.utc_now()})


def _write_ledger(home: Home, plan: Plan, started: list[str]) -> None:
    facts = roster.facts(home)
    data = {
        "event": "launch",
        "folder": plan.org,
        "charter": facts.get("charter_hash"),
        "roster": facts.get("roster"),
        "devices": facts.get("devices"),
        "budget": facts.get("budget"),
        "versions": facts.get("versions"),
        "started": started,
    }
    ledgers.Ledger(home).append("org", f"launch:{files.utc_now()}", data)


# --- looking -----------------------------------------------------------------------------------------------------


def attach_argv(home: Home, seat: str | None = None) -> list[str]:
    """The command that shows the grid in this terminal, the grid resized to it. Raises OrgError when nothing runs."""
    if not states.is_running(home) or not panes.server_of(home).alive():
        raise OrgError(f"no organisation runs in {home.root}; start it with `org launch`")
    if seat is not None and (found := seats.require(home, seat)).backend == PERSON:
        raise OrgError(f"{found.name} has no pane; its worktree is {found.worktree}")
    size = shutil.get_terminal_size((panes.WIDTH, panes.HEIGHT))
    return panes.attach_argv(home, seat, size.columns, size.lines)


class _Clock:
    """Says a step with the seconds it took."""

    def __init__(self, say: Say) -> None:
        self._say, self._at = say, time.monotonic()

    def said(self, text: str) -> None:
        now = time.monotonic()
        self._say(f"{text} ({now - self._at:.1f} s)")
        self._at = now


__all__ = ["attach_argv", "launch", "not_ready", "stop"]
