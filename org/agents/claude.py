"""Claude Code in a seat: its flags, its seeded configuration home, its hooks.

Every undocumented detail here is one that a new release may change: the marked tests watch them. The configuration home
is the seat's own. The person's login is not: the program is told to look for it where they keep it (`login_home`), so that
nothing is copied, and a token that one session renews is renewed for all. A key in the environment goes before.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from org import files
from org.agents import pins, statusline
from org.agents.base import (
    Backend,
    Start,
    Stash,
    first_prompt,
    model_of,
    own_session,
    pane_env,
    passed_on,
    role_file,
    role_text,
)
from org.agents.hook import command as hook_command
from org.errors import MissingTool
from org.home import Home
from org.records import Seat

EVENTS = (
    "SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "StopFailure", "Notification", "PreCompact",
    "SessionEnd",
)  # fmt: skip
LOGIN = "CLAUDE_SECURESTORAGE_CONFIG_DIR"
ENV = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_BUG_COMMAND": "1",
    "CLAUDE_CODE_DISABLE_FEEDBACK_SURVEY": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",  # what is worth keeping goes into the wiki, where the others find it
}
# Tools that wait for a person, leave the worktree, wake the seat by a clock or talk to other sessions past the mail; and
# three whose descriptions fill a third of a fresh session's context (15,000 of 44,000 characters).
WITHHELD = (
    "AskUserQuestion", "EnterPlanMode", "ExitPlanMode", "EnterWorktree", "ExitWorktree",
    "CronCreate", "ScheduleWakeup", "SendMessage",
    "Skill", "Workflow", "ListAgents",
)  # fmt: skip
SCREENS = (
    # the last line of a dialog; a model's own words are indented
    (r"^ ?(?:Enter|Esc) to \w+ · .*\b(?:Enter|Esc) to ", "asking"),
    (r"^\S .* · retrying in \d+ ?[smh] · attempt \d+/\d+$", "limited"),
)
OWN_WORDS = {"idle": "ready", "busy": "working", "waiting": "asking"}


def plan(home: Home, seat: Seat, role_page: str | Path) -> Start:
    """Start, or resume when the session has a transcript. Raises MissingTool."""
    program = shutil.which("claude")
    if program is None:
        raise MissingTool(pins.CLAUDE.missing)
    config, page = config_home(home, seat), role_file(home, seat)
    session = seat.session or own_session(home, seat)
    is_resumed = any(config.glob(f"projects/*/{session}.jsonl"))
    env = {**pane_env(home, seat, page), **passed_on("ANTHROPIC_", "CLAUDE_"), **ENV, "CLAUDE_CONFIG_DIR": str(config)}
    env[LOGIN] = login_home()
    if os.geteuid() == 0:
        env["IS_SANDBOX"] = "1"  # without it root may not skip permissions
    argv = [
        program,
        "--dangerously-skip-permissions",
        *(["--resume", session] if is_resumed else ["--session-id", session, "--name", seat.name]),
        *(["--model", model] if (model := model_of(seat.backend)) else []),
        "--append-system-prompt-file",
        str(page),
        first_prompt(seat, is_resumed),
    ]
    return Start(
        argv,
        env,
        files={
            page: role_text(home, seat, role_page),
            config / "settings.json": _json(settings()),
            config / ".claude.json": _json(onboarded(seat, files.read_json(config / ".claude.json"))),
        },
        private=config,
    )


def own_word(home: Home, seat: str, pid: int) -> str | None:
    """What the program with this process id wrote down of itself: `ready`, `working` or `asking`; None when nothing is
    known. It knows what no hook tells: a turn that a person interrupted, and a dialog at once."""
    row = files.read_json(home.seat(seat) / "claude" / "sessions" / f"{pid}.json")
    return OWN_WORDS.get(str(row.get("status"))) if isinstance(row, dict) else None


def login_home() -> str:
    """Where the person's login is: their own configuration home, or nothing for the usual one."""
    return os.environ.get(LOGIN, os.environ.get("CLAUDE_CONFIG_DIR", ""))


def config_home(home: Home, seat: Seat) -> Path:
    return home.seat(seat.name) / "claude"


def settings() -> dict[str, Any]:
    hook = {"hooks": [{"type": "command", "command": hook_command(), "timeout": 20}]}
    return {
        "skipDangerousModePermissionPrompt": True,
        "cleanupPeriodDays": 3650,
        "permissions": {"deny": list(WITHHELD)},
        "includeCoAuthoredBy": False,
        "prefersReducedMotion": True,
        "spinnerTipsEnabled": False,
        "hooks": {event: [hook] for event in EVENTS},
        "statusLine": {"type": "command", "command": statusline.command(), "padding": 0},
    }


def onboarded(seat: Seat, before: Any = None) -> dict[str, Any]:
    """State of a program that has met its person: without it the first screen is a dialog, and offline it ends there.
    before: what the program wrote there itself, which is kept; a key that is another one now is approved like the first."""
    state: dict[str, Any] = dict(before) if isinstance(before, dict) else {"theme": "dark", "numStartups": 5}
    key = os.environ.get("ANTHROPIC_API_KEY", "")
    worktree = str(Path(seat.worktree).resolve())
    known, projects = _dict(state.get("customApiKeyResponses")), _dict(state.get("projects"))
    trusted = {
        "hasTrustDialogAccepted": True,
        "hasCompletedProjectOnboarding": True,
        "projectOnboardingSeenCount": 4,
    }
    return {
        **state,
        "hasCompletedOnboarding": True,
        "autoUpdates": False,
        "bypassPermissionsModeAccepted": True,
        # two dialogs that stand in the program and that no test has met: at five dollars, and where a session of 100,000
        # tokens is resumed after 70 minutes
        "hasAcknowledgedCostThreshold": True,
        "resumeReturnDismissed": True,
        "customApiKeyResponses": {**known, "approved": [key[-20:]] if key else [], "rejected": []},
        "projects": {**projects, worktree: {"allowedTools": [], **_dict(projects.get(worktree)), **trusted}},
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


CLAUDE = Backend(
    "claude",
    doorbell="typed",
    readiness="event",
    plan=plan,
    gap_s=0.2,
    stash=Stash(("C-s",), r"^ {8}.*\bdraft stashed\b", column=2),
    screens=SCREENS,
    own_word=own_word,
    counts="cost",
    start_gap_s=0.6,
)
