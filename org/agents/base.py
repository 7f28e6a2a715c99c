"""What a backend is, and which there are. A backend is data and one function: how a program is started in a seat's pane.

The only module that reads `--agents`. Starts nothing: a launch does, with what `prepare` returns.
"""

from __future__ import annotations

import functools
import os
import re
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from org import files
from org.agents.usage import Usage
from org.errors import BadInput, did_you_mean
from org.home import Home
from org.records import Seat

KNOWN = ("offline", "claude", "codex", "anthropic", "openai", "cmd")
OVER_API = ("anthropic", "openai")  # our own program over a vendor's API: the model's name stands behind the colon
# What real agents need from the person's environment. A pane sees none of it unless it is handed on, by the launch and
# by the office that starts a seat again.
PASSED_ON = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_SECURESTORAGE_CONFIG_DIR",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ORG_OPENAI_API",  # of our own program: which of OpenAI's APIs the server speaks, answers in one turn, its patience
    "ORG_API_STEPS",
    "ORG_API_SILENCE_S",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)
PRICED = ("codex", *OVER_API)  # by models.yaml; the others name their costs themselves, or none
NAMES_MODEL = ("claude", "codex")  # which model: claude=opus, codex=gpt-5
MODEL = r"[A-Za-z0-9][A-Za-z0-9._/@\[\]-]{0,99}"
FORM = "offline, claude:4,codex:4, anthropic:MODEL, openai:MODEL, a name of prompts/backends/ or cmd:'PROGRAM …'"


@dataclass(frozen=True)
class Start:
    """How to start one seat's program. `files` are written anew at every start, `seeds` only where nothing is yet,
    since the program goes on writing into them."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    files: dict[Path, str] = field(default_factory=dict)
    seeds: dict[Path, str] = field(default_factory=dict)
    links: dict[Path, Path] = field(default_factory=dict)  # path -> what of the person's it stands for; never a copy
    private: Path | None = None  # a folder that nobody but its owner may look into
    handed: dict[str, str] = field(default_factory=dict)  # of the person's environment: the office starts it again


@dataclass(frozen=True)
class Stash:
    """How a program puts a half-typed line aside: the keys, pressed before the office types; what its screen then shows (a
    regular expression); and the column of the cursor in an empty box."""

    keys: tuple[str, ...]
    mark: str
    column: int


@dataclass(frozen=True)
class Backend:
    """One kind of program. `doorbell`: `self` watches its own mailbox, `typed` is rung by a line typed into its pane.
    `readiness`: by its own `ready` event, as soon as it lives, or once its screen is known to show a prompt or a turn."""

    name: str
    doorbell: Literal["self", "typed"]
    readiness: Literal["event", "alive", "screen"]
    plan: Callable[
        [Home, Seat, str | Path], Start
    ]  # raises MissingTool when the program is not installed; writes nothing
    ready_s: float | None = None  # a launch waits so long for it, where its own limit is too short
    reports: bool = True  # it says in events what it does; one that does not is believed from its first event on
    gap_s: float = 0.02  # between a typed line, once it is shown, and its Enter; some take both at once for a paste
    stash: Stash | None = None
    queue: Callable[[Home, Seat, str], Start | None] | None = None  # delivers a line without typing, if it can
    # whether its queue or its session has had this line since (Unix seconds): asked where an office or a program died
    holds: Callable[[Home, Seat, str, float], bool] | None = None
    # what stands in its input box by a screen captured with escapes, None where it shows no box: a key would go elsewhere
    box: Callable[[str], str | None] | None = None
    # (regular expression, state) of what the program shows, the first that is found counts; empty: its screen is not
    # looked at. A screen may only contradict what the program's events say: asking, limited, ready or working
    screens: tuple[tuple[str, str], ...] = ()
    screen_lines: int = 60  # so many of the last ones are looked at: what was said before stands further up
    # the same, by what the seat's process wrote down itself
    own_word: Callable[[Home, str, int], str | None] | None = None
    # what each session has used, read from what the program writes down; None where it, or a hook of ours, writes
    # `agents.usage` itself. Asked when the seat has said something new
    usage: Callable[[Home, Seat], list[Usage]] | None = None
    # what can be known of its use: tokens and dollars, tokens alone, or nothing. A limit counts what is known, and says so
    counts: Literal["cost", "tokens", "nothing"] = "nothing"
    start_gap_s: float = 0.0  # after a start of this kind, before the next one: each takes seconds of a core

    def prepare(self, home: Home, seat: Seat, role_page: str | Path) -> Start:
        """The start, its files written: its role page and what the program must find to begin without a dialog."""
        start = self.plan(home, seat, role_page)
        if start.private is not None:
            start.private.mkdir(parents=True, exist_ok=True)
            start.private.chmod(0o700)
        for path, text in start.files.items():
            files.replace(path, text)
        for path, text in start.seeds.items():
            if not path.exists():
                files.replace(path, text)
        for path, target in start.links.items():
            path.unlink(missing_ok=True)
            path.symlink_to(target)
        return start


def parse_agents(text: str, described: Collection[str] = ()) -> list[tuple[str, int | None]]:
    """`--agents` as (spec, how many seats or None for the rest), in order. described: `described.names(home)`. Raises
    BadInput with the allowed form.

    >>> parse_agents("claude:4,codex")
    [('claude', 4), ('codex', None)]
    """
    found = []
    for part in _parts(text):
        spec, count = _spec(part)
        if count == 0:
            raise BadInput(f"--agents {part!r:.60}: a program gets at least one seat")
        kind(spec, described)
        found.append((spec, count))
    return found


def backend(spec: str, home: Home | None = None) -> Backend:
    """The backend that a seat's `backend` names; home: where described ones are looked for. Raises BadInput for an unknown
    one."""
    from org.agents import described

    names = described.names(home) if home is not None else ()
    name = kind(spec, names)
    if home is not None and name in names:
        return described.backend(home, spec)
    if name == "claude":
        from org.agents.claude import CLAUDE

        return CLAUDE
    if name == "codex":
        from org.agents.codex import CODEX

        return CODEX
    if name == "cmd":
        from org.agents.command import command

        return command(spec.partition(":")[2])
    if name in OVER_API:
        from org.agents.api import BACKENDS

        return BACKENDS[name]
    from org.agents.command import OFFLINE

    return OFFLINE


def kind(spec: str, described: Collection[str] = ()) -> str:
    """One of KNOWN, or a described name. Raises BadInput for anything else."""
    name, separator, rest = spec.partition(":")
    before, equals, model = name.partition("=")
    if equals and before in (*KNOWN, *described):
        if before in OVER_API:
            raise BadInput(f"--agents '{spec:.60}': {before} is followed by a colon and a model's name, {before}:MODEL")
        if before not in (*NAMES_MODEL, *described):
            raise BadInput(f"--agents '{spec:.60}': {before} has no model to choose; write {before} or {before}:4")
        if not re.fullmatch(MODEL, model):
            raise BadInput(f"--agents '{spec:.60}': after {before}= stands a model's name, as in {before}=MODEL:4")
        name = before
    if name not in (*KNOWN, *described):
        raise BadInput(f"--agents: no program '{name:.40}'{did_you_mean(name, (*KNOWN, *described))}; use {FORM}")
    if name == "cmd" and not rest.strip():
        raise BadInput("--agents cmd: names no program; write cmd:'PROGRAM ARGUMENTS'")
    if name in OVER_API:
        if not re.fullmatch(r"[A-Za-z0-9][\w.:/@+-]{0,99}", rest) or rest.isdigit():
            raise BadInput(
                f"--agents '{spec:.40}': {name} is followed by a model's name, as in {name}:MODEL or {name}:MODEL:4"
            )
        return name
    if name != "cmd" and separator:  # a number that is one was taken off before
        raise BadInput(f"--agents '{spec:.60}': after the colon stands a number of seats from 1 to 99, as in {name}:4")
    return name


def model_of(spec: str) -> str | None:
    """The model that a spec names, `opus` in `claude=opus`; None for the program's own choice."""
    return spec.partition("=")[2] or None if kind(spec) in NAMES_MODEL else None


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
    try:
        text = page.read_text(encoding="utf-8") if isinstance(page, Path) else page
    except UnicodeDecodeError:
        raise BadInput(f"{page} is not UTF-8 text") from None
    return (
        f"You are seat `{seat.name}` ({seat.role}) of a research organisation. Your worktree is {seat.worktree}; "
        f"your program is `{seat.program}` until a letter moves you.\n\n{text.strip()}\n"
    )


def first_prompt(seat: Seat, is_resumed: bool) -> str:
    """The line that begins, or goes on with, a session of somebody else's program."""
    if is_resumed:
        return "The organisation started you again. Run `org brief`, then `org inbox`, and go on."
    return f"You are {seat.name}. Run `org brief`, then `org inbox`, and begin."


def last_session(home: Home, seat: str) -> str | None:
    """The program's own session id, as its hooks last reported it."""
    path = home.seat_events(seat)
    try:
        facts = path.stat()
    except OSError:
        return None
    return _last_session(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=128)  # asked each second, of files that change a few times a turn
def _last_session(path: Path, mtime_ns: int, size: int) -> str | None:
    rows = files.read_tail(path, 262_144)
    found = [row["session"] for row in rows if isinstance(row.get("session"), str)]
    return found[-1] if found and re.fullmatch(r"[0-9a-fA-F-]{8,64}", found[-1]) else None


def own_session(home: Home, seat: Seat) -> str:
    """An id for programs that let others choose it: the same at every start of the same seat, so that one killed before it
    said anything can be resumed."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{home.root}#{seat.name}#{seat.created}"))


def passed_on(*prefixes: str) -> dict[str, str]:
    """Those of PASSED_ON that are set here and begin so (`ANTHROPIC_`), and the proxies."""
    wanted = [name for name in PASSED_ON if name.startswith(prefixes) or name.endswith("PROXY")]
    return {name: os.environ[name] for name in wanted if os.environ.get(name)}


def _parts(text: str) -> list[str]:
    """Split at commas outside quotes."""
    parts = re.findall(r"""(?:[^,'"]|'[^']*'|"[^"]*")+""", text)
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
        raise BadInput(f"--agents {text!r:.60} holds a control character; write {FORM}")
    if not text.strip() or ",".join(parts) != text or not all(part.strip() for part in parts):
        raise BadInput(f"--agents {text!r:.60} is not in the form {FORM}")
    return [part.strip() for part in parts]


def _spec(part: str) -> tuple[str, int | None]:
    quoted = re.fullmatch(r"""cmd:(?:'([^']*)'|"([^"]*)")(?::([0-9]{1,2}))?""", part)
    if quoted:
        inner = quoted[1] if quoted[1] is not None else quoted[2]
        return f"cmd:{inner}", int(quoted[3]) if quoted[3] else None
    counted = re.fullmatch(rf"([A-Za-z0-9][\w-]*(?:={MODEL})?):([0-9]{{1,2}})", part)
    if counted and counted[1] not in ("cmd", *OVER_API):
        return counted[1], int(counted[2])
    named = re.fullmatch(rf"((?:{'|'.join(OVER_API)}):.+):([0-9]{{1,2}})", part)
    if named:
        return named[1], int(named[2])
    return part, None
