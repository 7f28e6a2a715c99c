"""Codex in a seat: its flags, its configuration home, its hooks, its queue, and what its screen shows.

Every undocumented detail here is one that a new release may change: the marked tests watch them. The configuration home
is the seat's own and written anew at every start. The person's login is not copied into it: `auth.json` there is a link to
theirs, so that a token that one session renews is renewed for all. Without a login a key in the environment is used, which
the commands that the model runs do not see.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

from org.agents import pins, prices, rollout
from org.agents.base import (
    Backend,
    Start,
    first_prompt,
    last_session,
    model_of,
    pane_env,
    passed_on,
    role_file,
    role_text,
)
from org.agents.hook import command as hook_command
from org.agents.limited import limit_ends
from org.agents.usage import Usage
from org.errors import MissingTool, OrgError
from org.files import printable
from org.home import Home
from org.records import Seat

EVENTS = (
    "SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PermissionRequest", "PreCompact", "PostCompact", "Stop",
    "Interrupt", "SessionEnd",
)  # fmt: skip
FLAGS = ["--no-alt-screen", "--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust"]
VENDOR_URL = "https://api.openai.com/v1"
CONFIG = """\
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
disable_paste_burst = true  # without it text and Enter typed at once stay in the box
allow_login_shell = false  # a login shell sets PATH anew, and `org` is not found any more
"""
TABLES = """
[shell_environment_policy]
exclude = ["OPENAI_*"]
[analytics]
enabled = false
[feedback]
enabled = false
[otel]
exporter = "none"
metrics_exporter = "none"
trace_exporter = "none"
[tui]
show_tooltips = false
notifications = false
animations = false
[features]
apps = false
plugins = false
remote_plugin = false
daemon_auto_start = false
shell_snapshot = false  # of a login shell, see above
multi_agent = false  # seats are what there is of agents
goals = false  # a seat at rest makes no call to the model
sleep_tool = false
instant_interrupt = false  # a letter must not cut an answer off: it is read after it
"""
SCREENS = (
    # the last line of a dialog; what models say and people type does not begin so
    (r"^ {0,4}(?:tab to add notes \| )?(?:[Pp]ress )?enter (?:to )?(?:select|confirm|continue|submit)\b", "asking"),
)
STYLE = re.compile(r"\x1b\[([0-9;:]*)m")
PROMPT = "\u203a"  # before what is typed, at the beginning of a line


def plan(home: Home, seat: Seat, role_page: str | Path) -> Start:
    """Start, or resume the session that its hooks last named. Raises MissingTool."""
    program, config, page = binary(), config_home(home, seat), role_file(home, seat)
    role = role_text(home, seat, role_page)
    session = resumable(home, seat)
    argv = [program, *(["resume", session] if session else []), *FLAGS, first_prompt(seat, session is not None)]
    hooks = {"hooks": {e: [{"hooks": [{"type": "command", "command": hook_command(), "timeout": 20}]}] for e in EVENTS}}
    login = login_of(config)
    env = {name: value for name, value in passed_on("OPENAI_").items() if not (login and name == "OPENAI_API_KEY")}
    return Start(
        argv,
        {**pane_env(home, seat, page), **env, "CODEX_HOME": str(config)},
        files={
            page: role,
            config / "config.toml": config_toml(seat, role, is_logged_in=login is not None),
            config / "hooks.json": json.dumps(hooks, indent=1) + "\n",
        },
        links={config / "auth.json": login} if login not in (None, config / "auth.json") else {},
        private=config,
    )


def queue(home: Home, seat: Seat, text: str) -> Start | None:
    """The command that hands `text` to the running session as the person's own words, untyped; None before its first turn."""
    session = resumable(home, seat)
    if session is None:
        return None
    env = {"CODEX_HOME": str(config_home(home, seat))}
    return Start([binary(), "queue", "--thread", session, "--message", text], env)


def holds(home: Home, seat: Seat, text: str, since: float) -> bool:
    """Whether the program has had this line since then, in its queue or in its session."""
    session = seat.session or last_session(home, seat.name)
    return session is not None and rollout.holds(config_home(home, seat), session, text, since)


def resumable(home: Home, seat: Seat) -> str | None:
    """The session to go on with: the last that its hooks named, if anything of it was written down."""
    session = seat.session or last_session(home, seat.name)
    return session if session and rollout.find(config_home(home, seat), session) else None


def own_word(home: Home, seat: str, pid: int) -> str | None:
    """How the seat's turn stands by its session: `working`, `ready`, or `limited` until that is over. No hook tells of a turn
    that failed."""
    session = last_session(home, seat)
    path = rollout.find(home.seat(seat) / "codex", session) if session else None
    turn = rollout.last_turn(path) if path else None
    if turn is None:
        return None
    is_over = turn.state == "limited" and time.time() >= limit_ends(turn.text, turn.at)
    return "ready" if is_over else turn.state


def usage_of(home: Home, seat: Seat) -> list[Usage]:
    """What each session of the seat has used, the one begun first at the front, at the price of its latest model."""
    found = (rollout.usage(path) for path in rollout.sessions(config_home(home, seat)))
    return [replace(each, cost_usd=_cost(home, each)) for each in found if each is not None]


def _cost(home: Home, used: Usage) -> float | None:
    """By models.yaml, None where the model is not in it. Codex names no price itself."""
    try:
        terms = prices.terms(home, used.model)
    except OrgError:
        return None  # its lines are being edited: the price is as good as unknown
    return terms.cost(prices.Tokens(used.input_tokens, used.cached_tokens, 0, used.output_tokens))


def box(screen: str) -> str | None:
    """What stands in the input box, "" for an empty one, which shows a dim hint; None where no box is to be seen. Blanks of
    broken lines are lost. screen: captured with escapes.

    >>> box("\\x1b[1m\\u203a\\x1b[0m \\x1b[2mAsk Codex to do anything\\n\\x1b[0m  gpt · ~/tree")
    ''
    """
    lines = screen.split("\n")
    begin = next((n for n in range(len(lines) - 1, -1, -1) if STYLE.sub("", lines[n]).startswith(PROMPT)), None)
    if begin is None:
        return None
    text, is_dim, is_hint = "", False, False
    for line in lines[begin:]:
        plain = ""
        for part in re.split(r"(\x1b\[[0-9;:]*m)", line):
            style = STYLE.fullmatch(part)
            if style is None:
                plain += part
                if not text and not is_hint and part.strip(f" {PROMPT}"):
                    is_hint = is_dim
            else:
                codes = style[1].split(";")
                is_dim = "2" in codes or (is_dim and not {"", "0", "22"} & set(codes))
        if not plain.strip():
            break
        text += plain
    return "" if is_hint else text.strip(f" {PROMPT}")


def config_home(home: Home, seat: Seat) -> Path:
    return home.seat(seat.name) / "codex"


def login_of(config: Path) -> Path | None:
    """The login file to use: the one that is in the seat's home already, else the person's; None without any, and where a
    base URL names another service."""
    if os.environ.get("OPENAI_BASE_URL"):
        return None
    theirs = Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex")
    return next((path for path in (config / "auth.json", theirs / "auth.json") if path.is_file()), None)


def config_toml(seat: Seat, role: str, is_logged_in: bool = False) -> str:
    """The whole configuration; strict about keys, so it may be checked with --strict-config."""
    text = CONFIG + f"developer_instructions = {_toml(role)}\n"
    if model := model_of(seat.backend):
        text += f"model = {_toml(model)}\n"
    key, gateway = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    if gateway or (key and not is_logged_in):  # with a provider of its own it does not ask for a login
        text += (
            'model_provider = "gateway"\n[model_providers.gateway]\nname = "gateway"\n'
            f'base_url = {_toml(gateway or VENDOR_URL)}\nwire_api = "responses"\nsupports_websockets = false\n'
        ) + ('env_key = "OPENAI_API_KEY"\n' if key else "")
    worktree = str(Path(seat.worktree).resolve())
    return text + f'[projects.{_toml(worktree)}]\ntrust_level = "trusted"\n' + TABLES


def binary() -> str:
    """The native program behind npm's Node wrapper, which costs 44 MB and a process; else the wrapper. Raises MissingTool."""
    found = shutil.which("codex")
    if found is None:
        raise MissingTool(pins.CODEX.missing)
    package = Path(found).resolve().parent.parent  # …/@openai/codex
    for folder in (package.parent, package / "node_modules" / "@openai"):
        for native in sorted(folder.glob("codex-*/vendor/*/bin/codex")):
            if platform.machine() in native.parts[-3] and os.access(native, os.X_OK):
                return str(native)
    return found


def _toml(text: str) -> str:
    """A TOML basic string: JSON's form is one once no control character but newline and tab is left."""
    return json.dumps(printable(text), ensure_ascii=False)


# SessionStart is fired with the first prompt only, so that it lives is all that can be waited for.
CODEX = Backend(
    "codex",
    doorbell="typed",
    readiness="alive",
    plan=plan,
    gap_s=0.2,
    queue=queue,
    holds=holds,
    box=box,
    screens=SCREENS,
    own_word=own_word,
    usage=usage_of,
    counts="cost",
    start_gap_s=0.3,
)
