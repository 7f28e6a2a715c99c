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
from typing import Any

from org import __version__, files, times
from org import charter as charters
from org.agents import base, usage
from org.errors import Busy, OrgError
from org.failpoint import failpoint
from org.home import Home
from org.lab import ledger as ledgers
from org.lab import record, referee
from org.lab import spec as specs
from org.records import Charter, Seat
from org.team import caps, costs, healing, panes, roster, seats, states, supervise
from org.team.caps import Limits
from org.team.ending import alone, end_office, stop
from org.team.roster import PERSON, Plan
from org.world import confine, git, process, tmux
from org.world.watch import Watcher

READY_S = 60.0
OFFICE_S = 20.0
ALIVE_S = 0.3  # that a program which says nothing has to live

Say = Callable[[str], None]


def launch(home: Home, plan: Plan, say: Say) -> None:
    """Make what the plan says; returns when every seat is ready and the office works. On a running home only what is
    missing is made. Raises Busy when another launch is at work, or when the home runs with another roster."""
    with alone(home):
        healing.heal(home, say)
        charter = charters.load(home)
        facts = roster.facts(home)
        server = panes.server_of(home)
        running = server.alive()
        if running:
            _refuse_another(facts, plan)
        limits = _limits(home, plan, facts)
        clock = _Clock(say)
        base_commit = record.ensure_record(home, charter)
        if facts.get("roster") and not running and (what := roster.changes(facts["roster"], plan.seats)):
            say(f"another organisation than at the launch before: {what}")
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
        resting = _write_limits(home, plan, limits, say)
        failpoint("launch.facts")
        started = panes.start(
            home,
            server,
            [seat for name in plan.seats if name.name not in resting and (seat := seats.load(home, name.name))],
        )
        roster.update(home, server_pid=server.pid())
        failpoint("launch.panes")
        clock.said(f"panes started: {', '.join(started)}" if started else "every pane lives")
        _wait_ready(home, [seat.name for seat in plan.seats if seat.name not in resting], say)
        _wait_office(home)
        _begin_budget(home)
        clock.said(f"{len(plan.seats)} seats are ready")
        if started or not running or limits is not None:
            _write_ledger(home, plan, started)


def mend(home: Home, say: Say) -> None:
    """What `launch` mends first, for who plans by what is written: a plan made from a torn org.json is another one."""
    with alone(home):
        healing.heal(home, say)


# --- before anything starts --------------------------------------------------------------------------------------


def _refuse_another(facts: dict[str, Any], plan: Plan) -> None:
    rows = facts.get("roster")
    rows = rows if isinstance(rows, list) else []
    what = roster.changes(rows, plan.seats)
    if facts.get("org") != plan.org:
        what = f"--org {plan.org}, was {facts.get('org')}" + (f"; {what}" if what else "")
    if what:
        raise Busy(
            f"an organisation of {len(rows)} seats runs here and this is another one ({what}); `org stop` it first, "
            "or `org launch` without counts to bring back what is missing"
        )
    if facts.get("devices") != list(plan.devices):
        raise Busy("the organisation that runs here uses other devices; `org stop` it first")


def _make_seats(home: Home, plan: Plan, say: Say) -> list[str]:
    """Every seat with its worktree, together: what is the same for all is read once. Returns the names of new ones."""
    made = [seat.name for seat in plan.seats if seats.load(home, seat.name) is None]
    wanted = [seats.Wanted(s.name, s.role, s.backend, s.program, s.device) for s in plan.seats]
    seats.create_all(home, wanted, say)
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
    markers = [f"ORG_EVENTS={home.seat_events(seat.name)}" for seat in plan.seats]
    process.kill_all(lambda: process.find_marked(*markers), limit_s=5)


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


def _limits(home: Home, plan: Plan, facts: dict[str, Any]) -> Limits | None:
    """What the seats may use from here on, counted anew; None where what is counted goes on. Raises Busy where that is used
    up and nothing else was said."""
    goes_on, old = bool(facts) and not facts.get("stopped"), caps.limits(facts)
    standing = old.org if goes_on and old.is_said else caps.cap(plan.caps)
    said = caps.over(plan.cap, standing)
    wanted = {seat.name: caps.cap((plan.caps.get("seats") or {}).get(seat.name)) for seat in plan.seats}
    is_same = goes_on and said == old.org and {n: c for n, c in wanted.items() if c} == dict(old.seats)
    if is_same and not (plan.cap and facts.get("limit_reached")):
        if facts.get("limit_reached"):
            raise Busy(
                f"{costs.reason(facts)}; give it more with `org launch --max-usd X` or `--max-tokens N`, "
                "or end it with `org stop`"
            )
        return None
    before = {seat.name: caps.spent(usage.of_seat(home, seat.name)) for seat in plan.seats}
    return Limits(said, wanted, before, files.utc_now(), is_said=bool(plan.cap) or (goes_on and old.is_said))


def _write_limits(home: Home, plan: Plan, limits: Limits | None, say: Say) -> frozenset[str]:
    """Keep them in org.json, say what they cannot hold; returns the seats that have used their own and stay stopped."""
    facts = roster.facts(home)
    if limits is not None:
        is_over = {"budget_ended": None, "ended": None} if facts.get("limit_reached") else {}
        roster.update(home, limits=limits.to_dict(), limit_reached=None, **is_over)
    limits = limits or caps.limits(facts)
    if not limits:
        return frozenset()
    used = {s.name: caps.spent(usage.of_seat(home, s.name)) for s in plan.seats}
    used = {name: spent.since(limits.before.get(name, caps.Spent())) for name, spent in used.items()}
    counts = {seat.name: base.backend(seat.backend, home).counts for seat in plan.seats}
    for sentence in costs.blind(limits, counts, used):
        say(sentence)
    over = {n: why for n, spent in used.items() if (why := caps.passed(limits.seats.get(n, caps.Cap()), spent))}
    for name, why in over.items():
        say(f"{name} stays stopped: {why}; more for it is written in org.yaml")
    return frozenset(over)


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
    if not not_ready(home, names):
        return
    with Watcher(home.seats) as watcher:
        limit_s = max(_ready_s(home, name) for name in names)
        server = process.identity(panes.server_of(home).listener() or 0)
        end = time.monotonic() + limit_s
        said = 0
        while True:
            missing = not_ready(home, names)
            if not missing:
                return
            if len(names) - len(missing) > said:
                said = len(names) - len(missing)
                say(f"{said} of {len(names)} seats are ready")
            if server is None or not process.is_alive(server):
                raise OrgError("the tmux server ended while the seats came up; `org launch` again starts it anew")
            if time.monotonic() > end:
                missing = not_ready(home, names, is_last=True)
                whys = "; ".join(f"{', '.join(each)} {why}" for why, each in _by_reason(missing).items())
                raise OrgError(
                    f"not ready within {limit_s:.0f} s: {whys}; look with `org attach {next(iter(missing), names[0])}`, "
                    "then `org launch` again"
                )
            watcher.wait(0.1)


def not_ready(home: Home, names: list[str], is_last: bool = False) -> dict[str, str]:
    """Seats whose program has not come up since its pane was started, with why. Panes are asked for when every program that
    says so itself has said it, or `is_last`: waiting for 33 of them asked tmux at each of their events."""
    there = {name: seats.load(home, name) for name in names}
    silent = {n: "did not say so" for n, seat in there.items() if seat is not None and not _has_said(home, seat)}
    if silent and not is_last:
        return silent
    view = states.look(home, time.time())
    missing: dict[str, str] = {}
    for name, seat in there.items():
        pane = view.panes.get(name)
        if seat is None:
            missing[name] = f"has no {home.seat_file(name).name}"
        elif pane is None or pane.dead:
            missing[name] = "has no pane" if pane is None else "ended"
        elif name in silent:
            missing[name] = silent[name]
        elif not _shows_so(home, seat, view):
            missing[name] = "does not show it"
    return missing


def _by_reason(missing: dict[str, str]) -> dict[str, list[str]]:
    return {why: [name for name, each in missing.items() if each == why] for why in dict.fromkeys(missing.values())}


def _has_said(home: Home, seat: Seat) -> bool:
    """Whether its program said that it is there, where it ever does."""
    started = panes.note(home, seat.name).get("started")
    if base.backend(seat.backend, home).readiness != "event":
        # one that ends at once is still seen alive right after its start; a start to come was noted by a clock set back
        return not 0 <= time.time() - (times.seconds(started) or 0.0) <= ALIVE_S
    if not started:
        return True  # what was known of it is lost: that its pane lives has to do
    # one that was busy before the launch and has no `ready` in the tail of its events has come up long ago
    return any(
        states.is_since(row, started) and row.get("event") != "starting" for row in states.last_events(home, seat.name)
    )


def _ready_s(home: Home, name: str) -> float:
    seat = seats.load(home, name)
    return (base.backend(seat.backend, home).ready_s if seat is not None else None) or READY_S


def _shows_so(home: Home, seat: Seat, view: states.Look) -> bool:
    """Whether its screen shows that it came up, where that is what tells."""
    backend = base.backend(seat.backend, home)
    if backend.readiness != "screen":
        return True
    try:
        text = panes.server_of(home).capture(view.panes[seat.name].id)
    except tmux.TmuxError:
        return False  # its pane went this moment
    return states.shown(text, backend.screens, backend.screen_lines) in states.COME_UP


def _wait_office(home: Home) -> None:
    if files.is_locked(home.office_lock):
        return
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
        pane = next((p for p in server.list_panes() if p.seat == "office"), None)
        return (supervise.last_line(server.capture(pane.id), 200) if pane else "") or "no output"
    except tmux.TmuxError as error:
        return str(error)


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
        "limits": facts.get("limits"),
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
