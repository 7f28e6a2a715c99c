"""The hook that Claude Code and Codex run at each prompt, tool call and turn's end: their events become lines of the seat's
events file, a tool call that reaches for what is not the seat's is denied, and the model is told of budget and mail.

Run as a program by its path, with no site packages, all day: standard library only. It never fails a turn.
"""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

TYPE_CHECKING = False  # typing itself costs 3 ms of every tool call
if TYPE_CHECKING:
    from typing import Any

    Hook = dict[str, Any]

MAX_INPUT = 4_000_000
ASKS = re.compile(r'"hook_event_name"\s*:\s*"PreToolUse"')
UNREADABLE = "this call cannot be read, or is too long to be looked at: do it in smaller pieces"
BRIEF_S = 10.0
STATES = {
    "SessionStart": "ready",
    "UserPromptSubmit": "working",
    "PreToolUse": "working",
    "Stop": "idle",
    "StopFailure": "idle",
    "Interrupt": "idle",
    "SessionEnd": "exit",
}
TOLD = ("SessionStart", "UserPromptSubmit", "PostToolUse")  # the events whose answer the model reads
# what a model's service says when it will not answer for a while: HTTP 429 and 529, and their words
LIMITED = re.compile(
    r"\b(?:429|529)\b|overloaded|(?:rate|usage|request|session|weekly|hourly)[ _-]?limit|too many requests|quota",
    re.IGNORECASE,
)


def command() -> str:
    """The shell command that runs this file."""
    import shlex

    return shlex.join([sys.executable, "-S", "-E", str(Path(__file__).resolve())])


# --- what happened -----------------------------------------------------------------------------------------------


def events(hook: Hook, mailbox: Path | None, denied: str | None = None) -> list[dict[str, object]]:
    """What one hook call says. A letter is processed when a prompt that names it was really submitted."""
    name = str(hook.get("hook_event_name", ""))
    session = str(hook.get("session_id", ""))
    if denied is not None:
        return [{"event": "denied", "text": denied[:300], "tool": str(hook.get("tool_name", ""))[:60]}]
    if is_compacted(hook):
        return [{"event": "working", "text": "its context was compacted", "session": session}]
    if name == "PreCompact":
        return [{"event": "working", "text": "its context is being compacted", "session": session}]
    if name == "PostCompact" and hook.get("trigger") == "manual":  # else its turn goes on
        return [{"event": "idle", "text": "its context was compacted", "session": session}]
    if name == "PermissionRequest":
        return [{"event": "asking", "text": f"to use {hook.get('tool_name')}"[:300], "session": session}]
    if name == "Notification":
        is_idle = hook.get("notification_type") == "idle_prompt"
        return [{"event": "idle" if is_idle else "asking", "text": str(hook.get("message", ""))[:300]}]
    if name not in STATES:
        return []
    is_limited = name == "StopFailure" and LIMITED.search(f"{hook.get('error')} {hook.get('last_assistant_message')}")
    said = "limited" if is_limited else STATES[name]
    rows: list[dict[str, object]] = [{"event": said, "text": _text(name, hook)[:300], "session": session}]
    if name == "UserPromptSubmit":
        letters = named(str(hook.get("prompt", "")), mailbox)
        if letters:
            rows.append({"event": "processed", "letters": letters})
        else:
            rows[0]["typed"] = True  # not by the doorbell, which names letters
    if name == "Interrupt":
        rows[0]["interrupted"] = True
    return rows


def is_compacted(hook: Hook) -> bool:
    return hook.get("hook_event_name") == "SessionStart" and hook.get("source") == "compact"


def named(prompt: str, mailbox: Path | None) -> list[str]:
    """The letters of this mailbox whose ids stand in the prompt."""
    words = dict.fromkeys(re.findall(r"[a-z0-9][a-z0-9_-]{0,31}", prompt))
    if mailbox is None:
        return []
    return [w for w in words if any((mailbox / part / f"{w}.md").exists() for part in ("new", "cur"))]


def _text(name: str, hook: Hook) -> str:
    if name == "PreToolUse":
        given = hook.get("tool_input")
        first = next((v for v in given.values() if isinstance(v, str)), "") if isinstance(given, dict) else ""
        return f"{hook.get('tool_name')}: {first}"
    return str(hook.get("error") or hook.get("last_assistant_message") or hook.get("prompt") or "")


# --- what may not be ---------------------------------------------------------------------------------------------


def read(text: str) -> Hook:
    """What the program says. Of a tool call that was cut off here, or is nested without end, that it is one: it is refused,
    since a hook that fails lets the call through. Raises ValueError for anything else that is no JSON."""
    try:
        hook: Hook = json.loads(text)
    except (ValueError, RecursionError):
        if ASKS.search(text[:4000]) is None:
            raise ValueError("no JSON") from None
        return {"hook_event_name": "PreToolUse", "is_unreadable": True}
    return hook


def denied(hook: Hook, home: str, seat: str) -> str | None:
    """Why the tool call that the hook asks about is refused."""
    if hook.get("hook_event_name") != "PreToolUse":
        return None
    if hook.get("is_unreadable") is True:
        return UNREADABLE
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from org.agents.limits import refusal

    given = hook.get("tool_input")
    return refusal(home, seat, str(hook.get("tool_name", "")), given if isinstance(given, dict) else {})


# --- what the model is told --------------------------------------------------------------------------------------


def context(hook: Hook, home: Path, seat: str, now: float) -> str:
    """Budget and waiting mail in a line; the whole brief where the context was compacted. After a tool call only what has
    changed since the model was last told, so that a turn of a hundred calls does not repeat it."""
    if is_compacted(hook):
        return _brief()
    mail, left = _mail(home, seat), _left(home, now)
    note = home / "comms" / "seats" / seat / "told"
    if hook.get("hook_event_name") == "PostToolUse":
        return mail if mail and mail != _read(note) and _keep(note, mail) else ""
    _keep(note, mail)
    return " ".join(part for part in (left, mail) if part)


def _mail(home: Path, seat: str) -> str:
    count = sum(1 for name in _names(home / "comms" / "mail" / seat / "new") if name.endswith(".md"))
    letters = "1 letter waits" if count == 1 else f"{count} letters wait"
    return f"{letters} unread; `org inbox` reads and acknowledges." if count else ""


def _left(home: Path, now: float) -> str:
    """Of a budget of time; how many runs are left, `org brief` says."""
    try:
        budget = json.loads(_read(home / "comms" / "org.json"))["budget"]
        left = float(budget["seconds"]) - (now - datetime.fromisoformat(budget["from"]).timestamp())
    except (ValueError, KeyError, TypeError):
        return ""
    if left <= 0:
        return "The budget is used up: nothing new is started."
    return (
        f"{left / 3600:.1f} h of the budget are left."
        if left >= 7200
        else f"{left / 60:.0f} min of the budget are left."
    )


def _brief() -> str:
    """`org brief` as this seat, in a process of its own: once a compaction, and its words are the ones of a fresh start."""
    import subprocess

    argv = [sys.executable, "-P", "-m", "org", "brief"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=BRIEF_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return "Your context was compacted: run `org brief`."
    return f"Your context was compacted. This is where you stand:\n\n{done.stdout}"


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - this file is started all day
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _keep(path: Path, text: str) -> bool:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        pass  # said once more than needed
    return True


def answer(hook: Hook, refused: str | None, told: str) -> dict[str, Any] | None:
    """What Claude Code and Codex read on stdout."""
    name = hook.get("hook_event_name")
    if refused is not None:
        said = {"hookEventName": name, "permissionDecision": "deny", "permissionDecisionReason": refused}
    elif told:
        said = {"hookEventName": name, "additionalContext": f"[org] {told}"}
    else:
        return None
    return {"hookSpecificOutput": said}


def main() -> int:
    try:
        _serve(read(sys.stdin.read(MAX_INPUT)), datetime.now(UTC))
    except (OSError, KeyError, ValueError, AttributeError, TypeError):
        pass  # a turn of the agent is worth more than a line about it
    return 0


def _serve(hook: Hook, now: datetime) -> None:
    """A refusal is said first and what happened is written down next: no failure of what follows undoes these."""
    root, seat = os.environ.get("ORG_HOME"), os.environ.get("ORG_SEAT")
    refused = denied(hook, root, seat) if root and seat else None
    if refused is not None:
        print(json.dumps(answer(hook, refused, "")), flush=True)
    mailbox = Path(root, "comms", "mail", seat) if root and seat else None
    t = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    lines = [json.dumps({"t": t, **row}) for row in events(hook, mailbox, refused)]
    with Path(os.environ["ORG_EVENTS"]).open("a", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))  # one write: lines of two hooks never mix
    if root and seat and hook.get("hook_event_name") in TOLD:
        told = context(hook, Path(root), seat, now.timestamp())
        if (said := answer(hook, None, told)) is not None:
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    sys.exit(main())
