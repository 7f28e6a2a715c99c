"""Start an organisation, mend it, end it. Every step may be repeated: what is there is left alone, what is missing is made.

record, programs -> worktrees -> data -> org.json -> grid, office -> every seat ready -> the budget's clock starts
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from org import __version__, files
from org import charter as charters
from org.agents import base
from org.errors import Busy, OrgError
from org.failpoint import failpoint
from org.home import Home
from org.lab import dispatch, record, referee
from org.lab import ledger as ledgers
from org.lab import spec as specs
from org.records import Charter, Seat
from org.team import panes, roster, seats
from org.team.roster import PERSON, Plan
from org.world import git, process, tmux
from org.world.watch import Watcher

READY_S = 60.0
OFFICE_S = 20.0
TERM_S = 3.0

Say = Callable[[str], None]


def launch(home: Home, plan: Plan, say: Say) -> None:
    """Make what the plan says; returns when every seat is ready and the office works. On a running home only what is
    missing is made. Raises Busy when another launch is at work, or when the home runs with another roster."""
    with _alone(home):
        charter = charters.load(home)
        facts = roster.facts(home)
        server = panes.server_of(home)
        running = server.alive()
        if running:
            _refuse_another(facts, plan)
        clock = _Clock(say)
        base_commit = record.ensure_record(home, charter)
        made = _make_seats(home, plan)
        clock.said(
            f"{len(plan.seats)} seats with worktrees, {len(made)} of them new" if made else "worktrees are there"
        )
        if not running:
            _end_leftovers(home, plan)
            _prepare_data(home, charter, base_commit, say)
            referee.ensure_splits(home, charter, base_commit)
            clock.said("data is ready")
        _write_facts(home, plan, running)
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


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    try:
        with files.locked(home.launch_lock, wait=False):
            yield
    except Busy as error:
        if str(home.launch_lock) not in str(error):
            raise
        raise Busy(f"another `org launch` or `org stop` is at work on {home.root}; wait for it to end") from None


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


def _make_seats(home: Home, plan: Plan) -> list[str]:
    """Worktrees one after another: 16 `git worktree add` at once fail one time in thirty."""
    made = []
    for program in sorted({seat.program for seat in plan.seats}):
        record.ensure_program(home, program)
    for seat in plan.seats:
        if seats.load(home, seat.name) is None:
            made.append(seat.name)
        seats.create(home, seat.name, seat.role, seat.backend, seat.program, seat.device)
        failpoint("launch.seat")
    return made


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


def _write_facts(home: Home, plan: Plan, running: bool) -> None:
    """org.json: what this launch is. A launch that was not stopped keeps its clock; one that was, or whose budget has
    ended, begins a new one."""
    old = roster.facts(home)
    goes_on = bool(old) and not old.get("stopped")
    keeps = goes_on and not (plan.budget and old.get("ended"))
    fresh = {**(plan.budget or roster.Budget()).to_dict(), "from": None, "since": files.utc_now()}
    budget = old.get("budget") if keeps else fresh
    if running and not plan.is_named and keeps:
        return
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
        isolation="none",
        versions={"org": __version__, "python": sys.version.split()[0]},
    )


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
    view = seats.look(home, time.time())
    missing = []
    for name in names:
        seat, pane = seats.load(home, name), view.panes.get(name)
        if seat is None or pane is None or pane.dead:
            missing.append(name)
        elif base.backend(seat.backend).readiness == "event":
            started = panes.note(home, name).get("started") or ""
            rows = seats.last_events(home, name)
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


# --- ending ------------------------------------------------------------------------------------------------------


def stop(home: Home, say: Say, seat: str | None = None, clean: bool = False) -> None:
    """End the organisation: office, runs, panes, and whatever else carries this home's marker. With `seat` only that
    seat's program. `clean` also removes worktrees; branches and the record stay. Safe to repeat."""
    if seat is not None:
        return _stop_seat(home, seats.require(home, seat), say, clean)
    with _alone(home), _deaf_to_hangups():
        ended = _end_office(home)
        runs = _end_runs(home)
        ended += [f"{len(runs)} runs ({', '.join(runs)}: lost, to be repeated)"] if runs else []
        ended += _end_panes(home)
        left = process.kill_all(lambda: _marked(home), limit_s=10)
        ended += [f"{len(left)} processes that were left"] if left else []
        if runs:
            _record_lost(home)
        if clean:
            for each in seats.all_seats(home):
                _remove_worktree(home, each)
            ended.append("the worktrees")
        if ended and roster.facts(home):
            roster.update(home, stopped=files.utc_now(), server_pid=None)
            ledgers.Ledger(home).append("org", f"stop:{files.utc_now()}", {"event": "stop", "ended": ended})
        say(f"ended: {'; '.join(ended)}" if ended else "nothing runs here")
    return None


def _stop_seat(home: Home, seat: Seat, say: Say, clean: bool) -> None:
    """End one seat's program; its pane stays, and nobody starts it again but `org launch`."""
    panes.note_stopped(home, seat.name)
    pane = seats.look(home, time.time()).panes.get(seat.name)
    if pane is None or pane.dead:
        say(f"{seat.name} runs no program")
    else:
        tree = [pane.pid, *process.descendants(pane.pid)]
        _end([p for p in map(process.identity, tree) if p is not None])
        say(f"ended: {seat.name}; `org launch` brings it back")
    if clean:
        _remove_worktree(home, seat)
        say(f"removed: {seat.worktree}")


def _remove_worktree(home: Home, seat: Seat) -> None:
    """What was not filed is copied aside first."""
    if Path(seat.worktree).is_dir() and home.hub.is_dir():
        seats.sync(home, seat)
        git.worktree_remove(home.hub, Path(seat.worktree))


def _end_office(home: Home) -> list[str]:
    if not files.is_locked(home.office_lock):
        return []
    row = files.read_json(home.office_lock) or {}
    who = process.identity(int(row.get("pid") or 0))
    if who is None or who.start_ticks != row.get("start_ticks"):
        return []  # not written yet, or another's pid by now: the marker finds it
    _end([who], grace_s=5.0)
    return ["the office"]


def _end_runs(home: Home) -> list[str]:
    """Runner and guard first, so that no trainer's end is taken for its result; then the marker finds the rest."""
    ended = []
    for lock in home.experiments.glob("*/runs/*/lock") if home.experiments.is_dir() else ():
        if files.is_locked(lock):
            process.kill_all(lambda lock=lock: process.open_holders(lock) if files.is_locked(lock) else [], limit_s=5)  # type: ignore[misc]
            ended.append(f"{lock.parent.parent.parent.name}/{lock.parent.name}")
    for lease in home.leases.glob("*.lock") if home.leases.is_dir() else ():
        process.kill_all(lambda d=lease.stem: process.find_marked(home.lease_marker(d)), limit_s=5)  # type: ignore[misc]
    return ended


def _end_panes(home: Home) -> list[str]:
    """Programs are asked to end, then the server goes, then who is still there is killed."""
    server = panes.server_of(home)
    pid = server.pid()
    if pid is None:
        server.socket.unlink(missing_ok=True)
        return []
    count = len([p for p in server.list_panes() if p.window_name.startswith("grid") and not p.dead])
    programs = [who for p in _marked(home) if p != pid and (who := process.identity(p)) is not None]
    _end(programs, signs=(signal.SIGTERM, signal.SIGHUP))  # a person's shell ignores TERM
    server.kill()
    return [f"{count} seats", f"tmux -L {home.socket}"]


def _end(
    programs: list[process.Identity], grace_s: float = TERM_S, signs: tuple[signal.Signals, ...] = (signal.SIGTERM,)
) -> None:
    """Ask, then KILL those that are still there."""
    for ask in (signs, (signal.SIGKILL,)):
        alive = [who for who in programs if process.is_alive(who)]
        for who in alive:
            for sign in ask:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(who.pid, sign)
        end = time.monotonic() + grace_s
        while any(map(process.is_alive, alive)) and time.monotonic() < end:
            time.sleep(0.02)


def _marked(home: Home) -> list[int]:
    """Processes of this home, those left out that this one runs below: `org stop` may be typed in the org's own shell,
    which then goes with its window."""
    return [p for p in process.find_marked(f"ORG_KEY={home.key}") if os.getpid() not in process.descendants(p)]


def _record_lost(home: Home) -> None:
    """The ended runs get their lines now; the next launch repeats them with the same seeds."""
    lock = files.try_lock(home.dispatch_lock)
    if lock is None:
        return  # a foreground `org run` dispatches and does it
    try:
        dispatch.Dispatcher(home).tick(allow_new=False)
    finally:
        os.close(lock)


@contextlib.contextmanager
def _deaf_to_hangups() -> Iterator[None]:
    """Go on when the window this was typed in goes away with the rest."""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, old)


# --- looking -----------------------------------------------------------------------------------------------------


def attach_argv(home: Home, seat: str | None = None) -> list[str]:
    """The command that shows the grid in this terminal, the grid resized to it. Raises OrgError when nothing runs."""
    if not seats.is_running(home) or not panes.server_of(home).alive():
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
