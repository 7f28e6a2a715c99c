"""Panes of the organisation: what runs in each, started, restarted and found again by its seat. Where backends meet tmux.

A pane is known by the seat's name that tmux keeps with it, so nothing about it has to be stored but when it was started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from org import files
from org.agents import base
from org.home import Home
from org.records import Seat
from org.team import roster
from org.team.roster import PANES_PER_PAGE
from org.world import tmux
from org.world.tmux import Server
from org.world.tmuxwords import Pane, PaneInfo

SESSION = "org"
WIDTH, HEIGHT = 200, 50
RESTARTS_IN_MIND_S = 600.0
RESTARTS_MAX = 5


def server_of(home: Home) -> Server:
    """The org's tmux server. Everything started in it carries the home's marker, by which `org stop` finds the rest."""
    # PATH here and not with each pane: tmux gives a pane the PATH of the client that asked for it, whatever -e says
    return Server(home.socket, env={"ORG_KEY": home.key, "PATH": _path()})


# --- what runs where ---------------------------------------------------------------------------------------------


def seat_pane(home: Home, seat: Seat) -> Pane:
    """The pane of a seat's program, its files seeded. Raises MissingTool when that program is not installed."""
    start = base.backend(seat.backend).prepare(home, seat, _role_page(home, seat))
    own = {"ORG_SEAT": seat.name, "ORG_EVENTS": str(home.seat_events(seat.name))}
    return Pane(seat.name, start.argv, {**common_env(home), **start.env, **own}, Path(seat.worktree))


def _role_page(home: Home, seat: Seat) -> Path:
    return home.org_folder(roster.facts(home).get("org") or roster.DEFAULT_ORG) / "roles" / f"{seat.role}.md"


def office_pane(home: Home, seats: Sequence[Seat]) -> Pane:
    """The office, with the keys that its seats' programs need and no other: it hands them on when it restarts one."""
    handed: dict[str, str] = {}
    for seat in seats:
        env = base.backend(seat.backend).plan(home, seat, _role_page(home, seat)).env
        handed |= {name: value for name, value in env.items() if name in base.PASSED_ON}
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
    there = _panes(server)
    # the shell first: tmux gives the environment of a session's first pane to every later one
    started = [name for name, pane in (("shell", shell_pane(home)),) if _window(home, server, there, name, pane)]
    is_new = len(started) == 1 and not there
    made = [seat for seat in seats if seat.name not in there]
    dead = [seat for seat in seats if seat.name in there and there[seat.name].dead]
    if made and not any(pane.window_name.startswith("grid") for pane in there.values()):
        _grid(home, server, made, "grid")
    else:
        for seat in made:
            add(home, server, seat)
    for seat in dead:
        respawn(home, server, seat, there[seat.name].id)
    started += [seat.name for seat in (*made, *dead)]
    if _window(home, server, there, "office", office_pane(home, seats)):
        started.append("office")
    if is_new:
        server.run(
            ["move-window", "-s", f"={SESSION}:=shell", "-t", f"={SESSION}:999"],
            ["move-window", "-r", "-t", f"={SESSION}"],
            ["select-window", "-t", f"={SESSION}:=grid"],
        )
    return started


def _window(home: Home, server: Server, there: dict[str, PaneInfo], name: str, pane: Pane) -> bool:
    """A window of one pane that is not a seat's, made or started again; False when it lives."""
    old = there.get(f"window {name}")
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
    for pane in server.list_panes():
        if pane.window_name.startswith("grid"):
            pages.setdefault(pane.window, []).append(pane)
    room = next((window for window, panes in pages.items() if len(panes) < PANES_PER_PAGE), None)
    if room is None:
        names = {panes[0].window_name for panes in pages.values()}
        free = next(f"grid-{n}" for n in range(2, len(names) + 3) if f"grid-{n}" not in names)
        return _grid(home, server, [seat], free)[0]
    # an empty pane first: its program then starts as every restarted one does
    made = server.run(["split-window", "-d", "-P", "-F", "#{pane_id}", "-t", room, "exec sleep 60"]).strip()
    server.run(["set-option", "-p", "-t", made, "@seat", seat.name], ["select-pane", "-t", made, "-T", seat.name])
    server.run(["select-layout", "-t", room, "tiled"])
    respawn(home, server, seat, made)
    return made


def respawn(home: Home, server: Server, seat: Seat, pane_id: str, is_restart: bool = False) -> None:
    """Start the seat's program in its pane again, with its whole environment."""
    pane = seat_pane(home, seat)
    _note_start(home, seat.name, is_restart)
    server.respawn(pane_id, pane.argv, pane.env, pane.cwd)


def _grid(home: Home, server: Server, seats: Sequence[Seat], window: str) -> list[str]:
    panes = [seat_pane(home, seat) for seat in seats]
    for seat in seats:
        _note_start(home, seat.name, is_restart=False)
    return server.grid(SESSION, panes, window=window, width=WIDTH, height=HEIGHT)


def _panes(server: Server) -> dict[str, PaneInfo]:
    """Seat -> its pane, and `window office`, `window shell`; empty without a server."""
    try:
        panes = server.list_panes()
    except tmux.ServerLost:
        return {}
    found = {pane.seat: pane for pane in panes if pane.seat and pane.window_name.startswith("grid")}
    return found | {f"window {p.window_name}": p for p in panes if p.window_name in roster.WINDOW_NAMES}


# --- what is kept about a pane -----------------------------------------------------------------------------------


def note(home: Home, name: str) -> dict[str, Any]:
    """{"started", "restarts": [...], "stopped"}: UTC times; events before `started` are an earlier program's."""
    row = files.read_json(home.seat_pane(name))
    return row if isinstance(row, dict) else {}


def _note_start(home: Home, name: str, is_restart: bool) -> None:
    now = files.utc_now()
    restarts = [*note(home, name).get("restarts", []), now][-20:] if is_restart else []
    files.replace_json(home.seat_pane(name), {"started": now, "restarts": restarts, "stopped": None})


def note_stopped(home: Home, name: str) -> None:
    """The seat was stopped on purpose: nobody restarts it but `org launch`."""
    files.replace_json(home.seat_pane(name), {**note(home, name), "stopped": files.utc_now()})


def restart_in(row: dict[str, Any], now: datetime) -> float | None:
    """Seconds until a dead pane may be started again: 1, 2, 4, … after each restart; None when it died too often to go
    on, or was stopped on purpose. Pure; row: `note`."""
    if row.get("stopped"):
        return None
    times = [datetime.fromisoformat(t) for t in row.get("restarts", [])]
    recent = [t for t in times if (now - t).total_seconds() < RESTARTS_IN_MIND_S]
    if len(recent) >= RESTARTS_MAX:
        return None
    since = (now - recent[-1]).total_seconds() if recent else float("inf")
    return max(0.0, 2.0 ** (len(recent) - 1) - since) if recent else 0.0


# --- looking -----------------------------------------------------------------------------------------------------


def attach_argv(home: Home, seat: str | None, columns: int, lines: int) -> list[str]:
    """Resize the grid to the larger of 200x50 and the terminal, and return the command that shows it. Raises Busy when
    nothing runs."""
    server = server_of(home)
    panes = server.list_panes()
    wide, high = max(WIDTH, columns), max(HEIGHT, lines - 1)  # the status line takes one
    for window in {p.window: p for p in panes if (p.window_name.startswith("grid"))}.values():
        server.resize(window.window, wide, high)
    target = next((p.id for p in panes if p.seat == seat), None) if seat else None
    return server.attach_argv(SESSION, target)


def utc(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
