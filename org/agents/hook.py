"""The hook that Claude Code and Codex run at each turn: their events become lines of the seat's events file.

Run as a program by its path, with no site packages, many times a day: standard library only, and it never fails a turn.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path

MAX_INPUT = 4_000_000
STATES = {
    "SessionStart": "ready",
    "UserPromptSubmit": "working",
    "Stop": "idle",
    "StopFailure": "idle",
    "Interrupt": "idle",
    "SessionEnd": "exit",
}


def command() -> str:
    """The shell command that runs this file."""
    return shlex.join([sys.executable, "-S", "-E", str(Path(__file__).resolve())])


def events(hook: dict[str, object], mailbox: Path | None) -> list[dict[str, object]]:
    """What one hook call says. A letter is processed when a prompt that names it was really submitted."""
    name = str(hook.get("hook_event_name", ""))
    session = str(hook.get("session_id", ""))
    if name == "SessionStart" and hook.get("source") == "compact":
        return [{"event": "working", "text": "its context was compacted", "session": session}]
    if name == "Notification":
        is_idle = hook.get("notification_type") == "idle_prompt"
        return [{"event": "idle" if is_idle else "asking", "text": str(hook.get("message", ""))[:300]}]
    if name not in STATES:
        return []
    text = str(hook.get("error") or hook.get("last_assistant_message") or hook.get("prompt") or "")
    rows: list[dict[str, object]] = [{"event": STATES[name], "text": text[:300], "session": session}]
    if name == "UserPromptSubmit":
        letters = named(str(hook.get("prompt", "")), mailbox)
        if letters:
            rows.append({"event": "processed", "letters": letters})
    return rows


def named(prompt: str, mailbox: Path | None) -> list[str]:
    """The letters of this mailbox whose ids stand in the prompt."""
    words = dict.fromkeys(re.findall(r"[a-z0-9][a-z0-9_-]{0,31}", prompt))
    if mailbox is None:
        return []
    return [w for w in words if any((mailbox / part / f"{w}.md").exists() for part in ("new", "cur"))]


def main() -> int:
    try:
        hook = json.loads(sys.stdin.read(MAX_INPUT))
        home, seat = os.environ.get("ORG_HOME"), os.environ.get("ORG_SEAT")
        mailbox = Path(home, "comms", "mail", seat) if home and seat else None
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")  # noqa: UP017 - any Python 3
        lines = [json.dumps({"t": now, **row}) for row in events(hook, mailbox)]
        with Path(os.environ["ORG_EVENTS"]).open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))  # one write: lines of two hooks never mix
    except (OSError, KeyError, ValueError, AttributeError):
        pass  # a turn of the agent is worth more than a line about it
    return 0


if __name__ == "__main__":
    sys.exit(main())
