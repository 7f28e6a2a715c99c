"""Codex in a seat: its flags, its seeded configuration home, its hooks and its queue. Follows version 0.169.0.

Every undocumented detail here is one that a new release may change: the marked tests watch them.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path

from org.agents.base import Backend, Start, first_prompt, last_session, pane_env, passed_on, role_file, role_text
from org.agents.hook import command as hook_command
from org.errors import MissingTool
from org.files import printable
from org.home import Home
from org.records import Seat

INSTALL = "codex is not installed; install it with `npm install -g @openai/codex@0.169.0`"
EVENTS = ("SessionStart", "UserPromptSubmit", "Stop", "Interrupt", "SessionEnd")
FLAGS = ["--no-alt-screen", "--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust"]
CONFIG = """\
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
disable_paste_burst = true  # without it text and Enter typed at once stay in the box
"""
TABLES = """
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
"""


def plan(home: Home, seat: Seat, role_page: str | Path) -> Start:
    """Start, or resume the session that its hooks last named. Raises MissingTool."""
    program, config, page = binary(), config_home(home, seat), role_file(home, seat)
    role = role_text(home, seat, role_page)
    session = seat.session or last_session(home, seat)
    argv = [program, *(["resume", session] if session else []), *FLAGS, first_prompt(seat, bool(session))]
    hooks = {"hooks": {e: [{"hooks": [{"type": "command", "command": hook_command(), "timeout": 20}]}] for e in EVENTS}}
    return Start(
        argv,
        {**pane_env(home, seat, page), **passed_on("OPENAI"), "CODEX_HOME": str(config)},
        files={
            page: role,
            config / "config.toml": config_toml(seat, role),
            config / "hooks.json": json.dumps(hooks, indent=1) + "\n",
        },
    )


def queue(home: Home, seat: Seat, text: str) -> Start | None:
    """The command that hands `text` to the running session as the person's own words, untyped; None before its first turn."""
    session = seat.session or last_session(home, seat)
    if session is None:
        return None
    env = {"CODEX_HOME": str(config_home(home, seat))}
    return Start([binary(), "queue", "--thread", session, "--message", text], env)


def config_home(home: Home, seat: Seat) -> Path:
    return home.seat(seat.name) / "codex"


def config_toml(seat: Seat, role: str) -> str:
    """The whole configuration; strict about keys, so it may be checked with --strict-config."""
    text = CONFIG + f"developer_instructions = {_toml(role)}\n"
    gateway = os.environ.get("OPENAI_BASE_URL")
    if gateway:
        text += (
            'model_provider = "gateway"\n[model_providers.gateway]\nname = "gateway"\n'
            f'base_url = {_toml(gateway)}\nwire_api = "responses"\nenv_key = "OPENAI_API_KEY"\n'
            "supports_websockets = false\n"
        )
    worktree = str(Path(seat.worktree).resolve())
    return text + f'[projects.{_toml(worktree)}]\ntrust_level = "trusted"\n' + TABLES


def binary() -> str:
    """The native program behind npm's Node wrapper, which costs 44 MB and a process; else the wrapper. Raises MissingTool."""
    found = shutil.which("codex")
    if found is None:
        raise MissingTool(INSTALL)
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
CODEX = Backend("codex", doorbell="typed", readiness="alive", plan=plan, queue=queue)
