"""Claude Code in a seat: its flags, its seeded configuration home, its hooks. Follows version 2.1.329.

Every undocumented detail here is one that a new release may change: the marked tests watch them. The configuration home
is the seat's own, so a login kept in the person's is not seen: set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN, or log in
once in the pane.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from org.agents.base import Backend, Start, first_prompt, pane_env, passed_on, role_file, role_text
from org.agents.hook import command as hook_command
from org.errors import MissingTool
from org.home import Home
from org.records import Seat

INSTALL = "claude is not installed; install it with `npm install -g @anthropic-ai/claude-code@2.1.329`"
EVENTS = ("SessionStart", "UserPromptSubmit", "Stop", "StopFailure", "Notification", "SessionEnd")
ENV = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_BUG_COMMAND": "1",
}


def plan(home: Home, seat: Seat, role_page: str | Path) -> Start:
    """Start, or resume when the session has a transcript. Raises MissingTool."""
    program = shutil.which("claude")
    if program is None:
        raise MissingTool(INSTALL)
    config, page = config_home(home, seat), role_file(home, seat)
    session = session_id(home, seat)
    is_resumed = any(config.glob(f"projects/*/{session}.jsonl"))
    env = {**pane_env(home, seat, page), **passed_on("ANTHROPIC"), **ENV, "CLAUDE_CONFIG_DIR": str(config)}
    if os.geteuid() == 0:
        env["IS_SANDBOX"] = "1"  # without it root may not skip permissions
    argv = [
        program,
        "--dangerously-skip-permissions",
        *(["--resume", session] if is_resumed else ["--session-id", session, "--name", seat.name]),
        "--append-system-prompt-file",
        str(page),
        first_prompt(seat, is_resumed),
    ]
    return Start(
        argv,
        env,
        files={page: role_text(home, seat, role_page), config / "settings.json": _json(settings())},
        seeds={config / ".claude.json": _json(onboarded(seat))},
    )


def config_home(home: Home, seat: Seat) -> Path:
    return home.seat(seat.name) / "claude"


def session_id(home: Home, seat: Seat) -> str:
    """The same at every start of the same seat, so that a seat killed before it said anything can be resumed."""
    return seat.session or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{home.root}#{seat.name}#{seat.created}"))


def settings() -> dict[str, Any]:
    hook = {"hooks": [{"type": "command", "command": hook_command(), "timeout": 20}]}
    return {
        "skipDangerousModePermissionPrompt": True,
        "cleanupPeriodDays": 3650,
        "hooks": {event: [hook] for event in EVENTS},
    }


def onboarded(seat: Seat) -> dict[str, Any]:
    """State of a program that has met its person: without it the first screen is a dialog, and offline it ends there."""
    key = os.environ.get("ANTHROPIC_API_KEY", "")
    project = {
        "hasTrustDialogAccepted": True,
        "hasCompletedProjectOnboarding": True,
        "projectOnboardingSeenCount": 4,
        "allowedTools": [],
    }
    return {
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "numStartups": 5,
        "autoUpdates": False,
        "bypassPermissionsModeAccepted": True,
        "customApiKeyResponses": {"approved": [key[-20:]] if key else [], "rejected": []},
        "projects": {str(Path(seat.worktree).resolve()): project},
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


CLAUDE = Backend("claude", doorbell="typed", readiness="event", plan=plan, stash_keys=("C-s",))
