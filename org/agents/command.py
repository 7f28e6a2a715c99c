"""Two simple backends: our own researcher without a network, and any program at all (`cmd:'…'`)."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from org.agents.base import Backend, Start, pane_env, role_file, role_text
from org.errors import BadInput, MissingTool
from org.home import Home
from org.records import Seat


def plan_offline(home: Home, seat: Seat, role_page: str | Path) -> Start:
    page = role_file(home, seat)
    argv = [sys.executable, "-m", "org.agents.offline"]
    return Start(argv, pane_env(home, seat, page), {page: role_text(home, seat, role_page)})


def command(line: str) -> Backend:
    """Any program, started with these words. It finds its role page at $ORG_ROLE, and is rung by a typed line."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadInput(f"--agents cmd:{line!r:.60}: {error}; close the quotes") from None
    if not words:
        raise BadInput("--agents cmd: names no program; write cmd:'PROGRAM ARGUMENTS'")

    def plan(home: Home, seat: Seat, role_page: str | Path) -> Start:
        program = shutil.which(words[0])
        if program is None:
            raise MissingTool(f"'{words[0]:.60}' is not installed or not on the PATH; --agents cmd: needs it")
        page = role_file(home, seat)
        argv = [str(Path(program).absolute()), *words[1:]]
        return Start(argv, pane_env(home, seat, page), {page: role_text(home, seat, role_page)})

    return Backend("cmd", doorbell="typed", readiness="alive", plan=plan, reports=False)


OFFLINE = Backend("offline", doorbell="self", readiness="event", plan=plan_offline, counts="cost")
