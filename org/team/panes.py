"""Panes of the organisation: what runs in each, started, restarted and found again by its seat. Where backends meet tmux.

A pane is known by the seat's name that tmux keeps with it, so nothing about it has to be stored but when it was started.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from org import files, times
from org.agents import base
from org.errors import BadInput, Busy
from org.home import Home
from org.records import Seat
from org.team import roster, states
from org.team.roster import PANES_PER_PAGE
from org.world import tmux
from org.world.tmux import Server
from org.world.tmuxwords import Pane, PaneInfo

SESSION = "org"
WIDTH, HEIGHT = 200, 50
RESTARTS_IN_MIND_S = 600.0
RESTARTS_MAX = 5
NOTING_S = 5.0
WAITING_S = 120  # an empty pane waits so long for its program


def server_of(home: Home) -> Server:
    """The org's tmux server. Everything started in it carries the home's marker, by which `org stop` finds the rest."""
    # PATH here and not with each pane: tmux gives a pane the PATH of the client that asked for it, whatever -e says
    return Server(home.socket, env={"ORG_KEY": home.key, "PATH": _path()})


# --- what runs where ---------------------------------------------------------------------------------------------


def seat_pane(home: Home, seat: Seat) -> Pane:
    """The pane of a seat's program, its files seeded. Raises MissingTool when that program is not installed."""
    start = base.backend(seat.backend, home).prepare(home, seat, _role_page(home, seat))
    own = {"ORG_SEAT": seat.name, "ORG_EVENTS": str(home.seat_events(seat.name))}
    return Pane(seat.name, start.argv, {**common_env(home), **start.env, **own}, Path(seat.worktree))


def _role_page(home: Home, seat: Seat) -> Path:
    return home.org_folder(roster.facts(home).get("org") or roster.DEFAULT_ORG) / "roles" / f"{seat.role}.md"


def office_pane(home: Home, seats: Sequence[Seat]) -> Pane:
    """The office, with the keys that its seats' programs need and no other: it hands them on when it restarts one."""
    handed: dict[str, str] = {}
    for seat in seats:
        start = base.backend(seat.backend, home).plan(home, seat, _role_page(home, seat))
        handed |= {name: value for name, value in start.env.items() if name in base.PASSED_ON} | start.handed
    return Pane("office", [sys.executable, "-m", "org", "office"], {**common_env(home), **handed}, home.root)


def shell_pane(home: Home) -> Pane:
    """A person's shell in the home; no seat, so `org` in it acts for the person."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    return Pane("shell", [shell], common_env(home), home.root)


def common_env(home: Home) -> dict[str, str]:
    """What every pane sees beside the server's clean environment: this home, and the `org` command that started it."""
    env = {"ORG_HOME": str(home.root), "ORG_KEY": home.key, "PATH": _path()}
    if sys.prefix != sys.base_prefix:
        env["VIRTUAL_ENV"] = sys.prefix
    for name in ("PYTHONPATH", "ORG_FAILPOINT"):
        if name in os.environ:
            env[name] = os.environ[name]
    return env


def _path() -> str:
    own, rest = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    return rest if rest.split(os.pathsep)[0] == own else f"{own}{os.pathsep}{rest}"


# --- starting ----------------------------------------------------------------------------------------------------


def start(home: Home, server: Server, seats: Sequence[Seat]) -> list[str]:
    """Every seat has a living pane, the office and the shell their windows; what lives is left alone. Returns the names
    of what was started."""
    panes = _panes(server)
    there = states.of_seats(panes)
    # the shell first: tmux gives the environment of a session's first pane to every later one
    started = [name for name, pane in (("shell", shell_pane(home)),) if _window(home, server, panes, name, pane)]
    is_new = len(started) == 1 and not panes
    made = [seat for seat in seats if seat.name not in there]
    dead = [s for s in seats if s.name in there and (there[s.name].dead or note(home, s.name).get("waits"))]
    if made and not any(pane.window_name.startswith("grid") for pane in panes):
        _grid(home, server, made, "grid")
    else:
        for seat in _one_by_one(home, made):
            add(home, server, seat)
    for seat in _one_by_one(home, dead):
        respawn(home, server, seat, there[seat.name].id)
    started += [seat.name for seat in (*made, *dead)]
    if _window(home, server, panes, "office", office_pane(home, seats)):
        started.append("office")
    if is_new:
        server.run(
            ["move-window", "-s", f"={SESSION}:=shell", "-t", f"={SESSION}:999"],
            ["move-window", "-r", "-t", f"={SESSION}"],
            ["select-window", "-t", f"={SESSION}:=grid"],
        )
    return started


def _one_by_one(home: Home, seats: Sequence[Seat]) -> Iterator[Seat]:
    """The seats in order, with the pause that their kind of program asks for after each start."""
    last: dict[str, float] = {}
    for seat in seats:
        kind, gap_s = re.split(r"[:=]", seat.backend)[0], start_gap_s(home, seat)
        time.sleep(max(0.0, last.get(kind, -1e9) + gap_s - time.monotonic()))
        yield seat
        last[kind] = time.monotonic()


def start_gap_s(home: Home, seat: Seat) -> float:
    """Seconds between a start of this kind of program and the next: many at once take each other's processors, and ask one
    service at the same moment."""
    return base.backend(seat.backend, home).start_gap_s


def _window(home: Home, server: Server, there: Sequence[PaneInfo], name: str, pane: Pane) -> bool:
    """A window of one pane that is not a seat's, made or started again; False when it lives."""
    old = next((each for each in there if each.seat == name), None)
    if old is None:
        server.grid(SESSION, [pane], window=name, width=WIDTH, height=HEIGHT)
    elif old.dead and not (name == "office" and files.is_locked(home.office_lock)):
        server.respawn(old.id, pane.argv, pane.env, pane.cwd)
    else:
        return False
    return True


def add(home: Home, server: Server, seat: Seat) -> str:
    """A pane for one more seat: on the first page of the grid that has room, else on a page of its own."""
    pages: dict[str, list[PaneInfo]] = {}
    there = server.list_panes()
    for pane in there:
        if pane.window_name.startswith("grid"):
            pages.setdefault(pane.window, []).append(pane)
    room = next((window for window, panes in pages.items() if len(panes) < PANES_PER_PAGE), None)
    if room is None:
        names = {pane.window_name for pane in there}
        free = next(f"grid-{n}" for n in range(2, len(names) + 3) if f"grid-{n}" not in names)
        return _grid(home, server, [seat], free)[0]
    # an empty pane first: its program then starts as every restarted one does
    made = server.run(["split-window", "-d", "-P", "-F", "#{pane_id}", "-t", room, "exec sleep 60"]).strip()
    server.run(["set-option", "-p", "-t", made, "@seat", seat.name], ["select-pane", "-t", made, "-T", seat.name])
    server.run(["select-layout", "-t", room, "tiled"])
    respawn(home, server, seat, made)
    return made


def respawn(home: Home, server: Server, seat: Seat, pane_id: str, is_restart: bool = False) -> bool:
    """Start the seat's program in its pane again, with its whole environment. A restart is not done where somebody has
    stopped the seat meanwhile: then False."""
    pane = seat_pane(home, seat)
    with _noting(home, seat.name):  # until it runs: a stop that comes now is to find it
        if is_restart and note(home, seat.name).get("stopped"):
            return False
        _note_start(home, seat.name, is_restart)
        server.respawn(pane_id, pane.argv, pane.env, pane.cwd)
    return True


def _grid(home: Home, server: Server, seats: Sequence[Seat], window: str) -> list[str]:
    """Panes for these seats. Programs that are started one after the other wait in theirs until it is their turn: a launch
    that is killed meanwhile leaves waiting panes, and the next one goes on with them."""
    late = [seat for seat in seats if start_gap_s(home, seat) > 0]
    panes = [_waiting(home, seat) if seat in late else seat_pane(home, seat) for seat in seats]
    for seat in seats:
        with _noting(home, seat.name):
            _note_start(home, seat.name, is_restart=False, waits=seat in late)
    made = server.grid(SESSION, panes, window=window, width=WIDTH, height=HEIGHT)
    by_name = dict(zip([seat.name for seat in seats], made, strict=True))
    for seat in _one_by_one(home, late):
        respawn(home, server, seat, by_name[seat.name])
    return made


def _waiting(home: Home, seat: Seat) -> Pane:
    return Pane(seat.name, ["sleep", str(WAITING_S)], common_env(home), Path(seat.worktree))


def _panes(server: Server) -> list[PaneInfo]:
    """Every pane; none without a server."""
    try:
        return server.list_panes()
    except tmux.ServerLost:
        return []


# --- what is kept about a pane -----------------------------------------------------------------------------------


def note(home: Home, name: str) -> dict[str, Any]:
    """{"started", "restarts": [...], "stopped", "why", "gave_up"}: UTC times; events before `started` are an earlier program's."""
    row = files.read_json(home.seat_pane(name))
    if not isinstance(row, dict):
        return {}
    restarts = row.get("restarts")
    known = [t for t in restarts if times.seconds(t) is not None] if isinstance(restarts, list) else []
    started = row.get("started")
    return {**row, "started": started if isinstance(started, str) else None, "restarts": known}


@contextmanager
def _noting(home: Home, name: str) -> Iterator[None]:
    """One writer of pane.json at a time: what a command writes down is not to be undone by the office that read before it.
    A lock that an agent took holds nobody up for longer than some seconds."""
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(home.seat(name) / "pane.json.lock", limit_s=NOTING_S))
        except (Busy, BadInput):
            pass  # held, or no lock: somebody meddles there
        yield


def _note_start(home: Home, name: str, is_restart: bool, waits: bool = False) -> None:
    now = files.utc_now()
    restarts = [*note(home, name).get("restarts", []), now][-20:] if is_restart else []
    more = {"waits": True} if waits else {}  # its pane is there, its program is not
    files.replace_json(home.seat_pane(name), {"started": now, "restarts": restarts, "stopped": None, **more})


def note_stopped(home: Home, name: str, why: str = "") -> None:
    """The seat was stopped on purpose: nobody restarts it but `org launch`. why: what its border says where it was no
    person."""
    with _noting(home, name):
        files.replace_json(home.seat_pane(name), {**note(home, name), "stopped": files.utc_now(), "why": why})


def note_gave_up(home: Home, name: str) -> None:
    """The seat died too often: only a person's `org launch` starts it again, which forgets this note."""
    with _noting(home, name):
        files.replace_json(home.seat_pane(name), {**note(home, name), "gave_up": files.utc_now()})


def restart_in(row: Mapping[str, Any], now: float) -> float | None:
    """Seconds until a dead pane may be started again: 1, 2, 4, … after each restart; None when it died too often to go
    on, or was stopped on purpose. Pure; row: `note`; now: Unix seconds."""
    if row.get("stopped") or row.get("gave_up"):
        return None
    ago_s = [now - times.moment(text).timestamp() for text in row.get("restarts", [])]
    # one that is still to come was noted before the clock was set back
    recent = [each for each in ago_s if 0 <= each < RESTARTS_IN_MIND_S]
    if len(recent) >= RESTARTS_MAX:
        return None
    return max(0.0, 2.0 ** (len(recent) - 1) - recent[-1]) if recent else 0.0


# --- looking -----------------------------------------------------------------------------------------------------


def attach_argv(home: Home, seat: str | None, columns: int, lines: int) -> list[str]:
    """Resize the grid to the larger of 200x50 and the terminal, and return the command that shows it. Raises Busy when
    nothing runs."""
    server = server_of(home)
    panes = server.list_panes()
    wide, high = max(WIDTH, columns), max(HEIGHT, lines - 1)  # the status line takes one
    for window in {pane.window for pane in states.of_seats(panes).values()}:
        server.resize(window, wide, high)
    target = next((p.id for p in panes if p.seat == seat), None) if seat else None
    return server.attach_argv(SESSION, target)
