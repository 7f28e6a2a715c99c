"""What a backend is, and which there are. A backend is data and one function: how a program is started in a seat's pane.

The only module that reads `--agents`. Starts nothing: a launch does, with what `prepare` returns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from org import files
from org.errors import BadInput, did_you_mean
from org.home import Home
from org.records import Seat

KNOWN = ("offline", "claude", "codex", "cmd")
# What real agents need from the person's environment. A pane sees none of it unless it is handed on, by the launch and
# by the office that starts a seat again.
PASSED_ON = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)
LATER = ("anthropic", "openai", "api")
FORM = "offline, claude:4,codex:4 or cmd:'PROGRAM …'"


@dataclass(frozen=True)
class Start:
    """How to start one seat's program. `files` are written anew at every start, `seeds` only where nothing is yet,
    since the program goes on writing into them."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    files: dict[Path, str] = field(default_factory=dict)
    seeds: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Backend:
    """One kind of program. `doorbell`: `self` watches its own mailbox, `typed` is rung by a line typed into its pane.
    `readiness`: by its own `ready` event, or as soon as it lives."""

    name: str
    doorbell: Literal["self", "typed"]
    readiness: Literal["event", "alive"]
    plan: Callable[
        [Home, Seat, str | Path], Start
    ]  # raises MissingTool when the program is not installed; writes nothing
    stash_keys: tuple[str, ...] = ()  # pressed before the line: a half-typed draft is put aside and restored after it
    queue: Callable[[Home, Seat, str], Start | None] | None = None  # delivers a line without typing, if it can

    def prepare(self, home: Home, seat: Seat, role_page: str | Path) -> Start:
        """The start, its files written: its role page and what the program must find to begin without a dialog."""
        start = self.plan(home, seat, role_page)
        for path, text in start.files.items():
            files.replace(path, text)
        for path, text in start.seeds.items():
            if not path.exists():
                files.replace(path, text)
        return start


def parse_agents(text: str) -> list[tuple[str, int | None]]:
    """`--agents` as (spec, how many seats or None for the rest), in order. Raises BadInput with the allowed form.

    >>> parse_agents("claude:4,codex")
    [('claude', 4), ('codex', None)]
    """
    found = []
    for part in _parts(text):
        spec, count = _spec(part)
        if count == 0:
            raise BadInput(f"--agents {part!r:.60}: a program gets at least one seat")
        kind(spec)
        found.append((spec, count))
    return found


def backend(spec: str) -> Backend:
    """The backend that a seat's `backend` names. Raises BadInput for an unknown one."""
    name = kind(spec)
    if name == "claude":
        from org.agents.claude import CLAUDE

        return CLAUDE
    if name == "codex":
        from org.agents.codex import CODEX

        return CODEX
    if name == "cmd":
        from org.agents.command import command

        return command(spec.partition(":")[2])
    from org.agents.command import OFFLINE

    return OFFLINE


def kind(spec: str) -> str:
    """`offline`, `claude`, `codex` or `cmd`. Raises BadInput for anything else."""
    name, separator, rest = spec.partition(":")
    if name in LATER:
        raise BadInput(f"--agents '{spec:.40}': '{name}' is not in this version; use {FORM}")
    if name not in KNOWN:
        raise BadInput(f"--agents: no program '{name:.40}'{did_you_mean(name, KNOWN)}; use {FORM}")
    if name == "cmd" and not rest.strip():
        raise BadInput("--agents cmd: names no program; write cmd:'PROGRAM ARGUMENTS'")
    if name != "cmd" and separator:
        raise BadInput(f"--agents '{spec:.40}': {name} takes a number of seats after the colon, as in {name}:4")
    return name


def pane_env(home: Home, seat: Seat, role_file: Path) -> dict[str, str]:
    """What every seat's program finds in its environment."""
    return {
        "ORG_HOME": str(home.root),
        "ORG_SEAT": seat.name,
        "ORG_EVENTS": str(home.seat_events(seat.name)),
        "ORG_ROLE": str(role_file),
    }


def role_file(home: Home, seat: Seat) -> Path:
    """Where the seat's role page lies while it runs; rewritten at every start."""
    return home.seat(seat.name) / "role.md"


def role_text(home: Home, seat: Seat, page: str | Path) -> str:
    """The role page, headed by who this seat is: one page serves eight juniors."""
    text = page.read_text(encoding="utf-8") if isinstance(page, Path) else page
    return (
        f"You are seat `{seat.name}` ({seat.role}) of a research organisation. Your worktree is {seat.worktree}; "
        f"your program is `{seat.program}` until a letter moves you.\n\n{text.strip()}\n"
    )


def first_prompt(seat: Seat, is_resumed: bool) -> str:
    """The line that begins, or goes on with, a session of somebody else's program."""
    if is_resumed:
        return "The organisation started you again. Run `org brief`, then `org inbox`, and go on."
    return f"You are {seat.name}. Run `org brief`, then `org inbox`, and begin."


def last_session(home: Home, seat: Seat) -> str | None:
    """The program's own session id, as its hooks last reported it."""
    path = home.seat_events(seat.name)
    start = max(0, path.stat().st_size - 262_144) if path.is_file() else 0
    rows, _ = files.read_lines(path, start)
    found = [row["session"] for row in rows if isinstance(row.get("session"), str)]
    return found[-1] if found and re.fullmatch(r"[0-9a-fA-F-]{8,64}", found[-1]) else None


def passed_on(prefix: str = "") -> dict[str, str]:
    """Those of PASSED_ON that are set here: all, or a vendor's own (`ANTHROPIC`) with the proxies."""
    vendors = {"": ("",), "ANTHROPIC": ("ANTHROPIC", "CLAUDE"), "OPENAI": ("OPENAI",)}[prefix]
    wanted = [n for n in PASSED_ON if n.startswith(vendors) or n.endswith("PROXY")]
    return {name: os.environ[name] for name in wanted if os.environ.get(name)}


def _parts(text: str) -> list[str]:
    """Split at commas outside quotes."""
    parts = re.findall(r"""(?:[^,'"]|'[^']*'|"[^"]*")+""", text)
    if not text.strip() or ",".join(parts) != text or not all(part.strip() for part in parts):
        raise BadInput(f"--agents {text!r:.60} is not in the form {FORM}")
    return [part.strip() for part in parts]


def _spec(part: str) -> tuple[str, int | None]:
    quoted = re.fullmatch(r"""cmd:(?:'([^']*)'|"([^"]*)")(?::([0-9]{1,2}))?""", part)
    if quoted:
        inner = quoted[1] if quoted[1] is not None else quoted[2]
        return f"cmd:{inner}", int(quoted[3]) if quoted[3] else None
    counted = re.fullmatch(r"([A-Za-z]\w*):([0-9]{1,2})", part)
    if counted and counted[1] != "cmd":
        return counted[1], int(counted[2])
    return part, None
