"""End an organisation: office, runs, panes, and whatever else carries its home's marker. Loses nothing of the record.

office -> panes -> runners -> the rest by the marker -> lost runs get their lines
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from org import files
from org.errors import Busy, OrgError
from org.failpoint import failpoint
from org.home import Home
from org.lab import dispatch
from org.lab import ledger as ledgers
from org.records import Seat
from org.team import panes, removal, roster, seats, states
from org.team.roster import PERSON
from org.world import process, tmux, worktrees

TERM_S = 3.0
RUNS_S = 5.0  # a runner ends its trainer's whole tree and writes two lines

Say = Callable[[str], None]


@contextlib.contextmanager
def alone(home: Home) -> Iterator[None]:
    """Nobody else launches or stops this home meanwhile. Raises Busy at once."""
    try:
        with files.locked(home.launch_lock, wait=False):
            yield
    except Busy as error:
        if str(home.launch_lock) not in str(error):
            raise
        raise Busy(f"another `org launch` or `org stop` is at work on {home.root}; wait for it to end") from None


def stop(home: Home, say: Say, seat: str | None = None, clean: bool = False, aside: bool = False) -> None:
    """End the organisation: office, runs, panes, and whatever else carries this home's marker. With `seat` only that
    seat's program. `clean` also removes worktrees that hold nothing but what commits have, and raises Busy when one
    stays, which is said with its reasons; with `aside` its work is moved out of it first. Branches and the record stay.
    Safe to repeat."""
    if seat is not None:
        return _stop_seat(home, seats.require(home, seat), say, clean, aside)
    with alone(home), _deaf_to_hangups():
        ended = end_office(home)
        ended += _end_panes(home)  # before the runs: an `org run` in a pane would dispatch once the office is gone
        runs = _end_runs(home)
        ended += [f"{len(runs)} runs ({', '.join(runs)}: lost, to be repeated)"] if runs else []
        left = process.kill_all(lambda: _left(home), limit_s=10)
        ended += [f"{len(left)} processes that were left"] if left else []
        if runs:
            _record_lost(home)
        gone = {s.name: _remove_worktree(home, s, say, aside) for s in seats.all_seats(home)} if clean else {}
        removed = [name for name, is_gone in gone.items() if is_gone]
        ended += [f"the worktrees of {', '.join(removed)}"] if removed else []
        if ended and roster.facts(home):
            roster.update(home, stopped=files.utc_now(), server_pid=None)
            ledgers.Ledger(home).append("org", f"stop:{files.utc_now()}", {"event": "stop", "ended": ended})
        say(f"ended: {'; '.join(ended)}" if ended else "nothing runs here")
    _refuse_to_clean([name for name, is_gone in gone.items() if is_gone is False], "org stop")
    return None


def _refuse_to_clean(names: list[str], command: str) -> None:
    if names:
        raise Busy(
            f"not removed: the worktree{'s' if len(names) > 1 else ''} of {', '.join(names)}; file or move what is named "
            f"above and end what works there, or let it be moved aside with `{command} --clean --aside`"
        )


def _stop_seat(home: Home, seat: Seat, say: Say, clean: bool, aside: bool) -> None:
    """End one seat's program; its pane stays, and nobody starts it again but `org launch`."""
    panes.note_stopped(home, seat.name)
    pane = states.look(home, time.time()).panes.get(seat.name)
    if pane is None or pane.dead:
        say(f"{seat.name} runs no program")
    else:
        tree = {pane.pid, *process.descendants(pane.pid), *process.find_marked(_mark(home, seat))}
        _end([p for p in map(process.identity, tree) if p is not None])
        say(f"ended: {seat.name}; `org launch` brings it back")
    is_gone = _remove_worktree(home, seat, say, aside) if clean else None
    if is_gone:
        say(f"removed: {seat.worktree}")
    _refuse_to_clean([seat.name] if is_gone is False else [], f"org stop {seat.name}")


def _remove_worktree(home: Home, seat: Seat, say: Say, aside: bool) -> bool | None:
    """Whether it was removed; None where there is none to remove, or it is a person's, which is left alone. One that holds
    something stays, and what it is is said; with `aside` that is moved out first, but nobody's place to stand in is."""
    if not Path(seat.worktree).is_dir() or not home.hub.is_dir():
        return None
    if seat.backend == PERSON:
        say(f"{seat.worktree} stays: {seat.name} is a person's seat; delete the folder yourself")
        return None
    with files.locked(home.seat(seat.name) / "lock"):
        try:
            held = process.inside(Path(seat.worktree)) if aside else True
            if aside and not held and (where := removal.aside(home, seat)):
                say(f"{seat.name}: {where}")
            if held and (why := removal.reasons(home, seat)):
                say(f"{seat.name} stays: {', '.join(why)}")
                return False
            failpoint("ending.clean")
            worktrees.remove(home.hub, Path(seat.worktree))
        except (OrgError, OSError) as error:  # one that git knows nothing of keeps neither the others nor the stop
            say(f"{seat.name} stays: {error}")
            return False
    return True


def end_office(home: Home) -> list[str]:
    """Ask the office to end, then end it; what it was is named. Nothing happens when there is none."""
    if not files.is_locked(home.office_lock):
        return []
    row = files.read_json(home.office_lock) or {}
    who = process.identity(int(row.get("pid") or 0))
    if who is None or who.start_ticks != row.get("start_ticks"):
        return []  # not written yet, or another's pid by now: the marker finds it
    _end([who], grace_s=5.0)
    return ["the office"]


def _end_runs(home: Home) -> list[str]:
    """Each runner is asked once: it ends its trainer by its guard and writes down that the org stopped the run. One that
    does not is killed with its guard, before its trainer, so that no trainer's end is taken for its result."""
    locks = [lock for lock in home.experiments.glob("*/runs/*/lock") if files.is_locked(lock)]
    for pid in _runners(home, locks):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + RUNS_S
    while any(map(files.is_locked, locks)) and time.monotonic() < end:
        time.sleep(0.02)
    for lock in locks:
        process.kill_all(lambda lock=lock: process.open_holders(lock) if files.is_locked(lock) else [], limit_s=5)  # type: ignore[misc]
    return [f"{lock.parents[2].name}/{lock.parent.name}" for lock in locks]


def _runners(home: Home, locks: list[Path]) -> set[int]:
    """Who holds a run's lock: the runner, and below it the guard, which is left to the runner to end."""
    own = set(process.find_marked(f"ORG_KEY={home.key}"))  # not those that only look at a lock just now
    holders = {pid for lock in locks for pid in process.open_holders(lock)} & own
    return holders - {below for pid in holders for below in process.descendants(pid)}


def _end_panes(home: Home) -> list[str]:
    """Programs are asked to end, then killed, then the server goes. Runs are no children of a pane and stay."""
    server = panes.server_of(home)
    pid = server.listener()
    try:
        there = server.list_panes() if pid is not None else []
    except tmux.TmuxError:
        there = []  # it hangs: it is killed below, and what ran in it is found by its parent or its mark
    count = len([p for p in states.of_seats(there).values() if not p.dead])
    found = set(process.descendants(pid)) if pid is not None else set()
    found |= set(process.find_marked(*(_mark(home, seat) for seat in seats.all_seats(home))))
    found = {p for p in found if p != os.getpid() and os.getpid() not in process.descendants(p)}
    programs = [who for p in found if (who := process.identity(p)) is not None]
    _end(programs, signs=(signal.SIGTERM, signal.SIGHUP))  # a person's shell ignores TERM
    server.kill()
    names = [f"{count} seats"] if count else []
    return [*names, f"tmux -L {home.socket}"] if pid is not None else names


def _mark(home: Home, seat: Seat) -> str:
    """In the environment of a seat's program and of all that it starts, also where that has a session of its own."""
    return f"ORG_EVENTS={home.seat_events(seat.name)}"


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


def _left(home: Home) -> list[int]:
    """Processes of this home and of its runs, those left out that this one runs below: `org stop` may be typed in the
    org's own shell, which then goes with its window."""
    markers = [f"ORG_KEY={home.key}", *(home.lease_marker(lease.stem) for lease in home.leases.glob("*.lock"))]
    return [p for p in process.find_marked(*markers) if os.getpid() not in process.descendants(p)]


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
