"""What Codex writes down of a session: its rollout file and its queue. Read only; knows its forms in 0.169 and nothing of panes.

A rollout is `$CODEX_HOME/sessions/YYYY/MM/DD/rollout-<time>-<session>.jsonl`, one event a line, begun with the first
prompt and appended to by every resume. The queue is a table of `queue_1.sqlite`, from which the program takes a line when
its turn has ended. What is not understood is passed over: a new release may write it otherwise.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from org import times
from org.agents.hook import LIMITED
from org.agents.usage import Usage

TAIL = 262_144  # bytes at the end of a rollout in which its latest turn and its totals are looked for
SESSION = r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}"
SLACK_S = 2.0  # between the moment that the office noted and the one that the program writes down


@dataclass(frozen=True)
class Turn:
    """How the latest turn stands. `at`: Unix seconds of that; `text`: what an ended one says of its failure."""

    state: Literal["working", "ready", "limited"]
    at: float
    text: str = ""


def find(config: Path, session: str) -> Path | None:
    """The rollout of a session, None where it has none: before its first prompt there is nothing to resume."""
    found = sorted(config.glob(f"sessions/*/*/*/rollout-*-{session}.jsonl")) if re.fullmatch(SESSION, session) else []
    return found[-1] if found else None


def last_turn(path: Path) -> Turn | None:
    """The latest turn of a session; None where nothing tells. Reads only what has changed."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return _last_turn(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=128)
def _last_turn(path: Path, mtime_ns: int, size: int) -> Turn | None:
    for row in _backwards(path):
        what, payload = _event(row)
        if what == "task_started":
            return Turn("working", _moment(row))
        if what == "turn_aborted":
            return Turn("ready", _moment(row))
        if what == "task_complete":
            error = payload.get("error")
            error = error if isinstance(error, dict) else {}
            text = str(error.get("message") or "")
            is_limited = LIMITED.search(f"{text} {json.dumps(error.get('codex_error_info'))}") is not None
            return Turn("limited" if error and is_limited else "ready", _moment(row), text)
    return None


def usage(path: Path) -> Usage | None:
    """The totals of a session since it began, over every resume. Codex names no price. Reads only what has changed."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return _usage(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=512)
def _usage(path: Path, mtime_ns: int, size: int) -> Usage | None:
    session = re.search(rf"({SESSION})\.jsonl$", path.name)
    counts: dict[str, Any] | None = None
    moment = model = ""
    for row in _backwards(path):
        what, payload = _event(row)
        info = payload.get("info")
        if counts is None and what == "token_count" and isinstance(info, dict):
            counts, moment = info, str(row.get("timestamp", ""))
        if row.get("type") == "turn_context" and isinstance(payload.get("model"), str):
            model = payload["model"]
        if counts is not None and model:
            break
    if session is None or counts is None:
        return None
    total, last = _dict(counts.get("total_token_usage")), _dict(counts.get("last_token_usage"))
    return Usage(
        session=session[1],
        model=model,
        input_tokens=_count(total.get("input_tokens")),
        cached_tokens=_count(total.get("cached_input_tokens")),
        output_tokens=_count(total.get("output_tokens")),
        context_tokens=_count(last.get("total_tokens")),
        context_limit=_count(counts.get("model_context_window")),
        t=moment,
    )


def sessions(config: Path) -> list[Path]:
    """Every session of a configuration home, the one begun first at the front."""
    return sorted(config.glob("sessions/*/*/*/rollout-*.jsonl"))


def holds(config: Path, session: str, text: str, since: float) -> bool:
    """Whether the program has had this line since (Unix seconds): in its queue, or in its session as the user's words."""
    return _is_queued(config, session, text, since - SLACK_S) or _is_told(config, session, text, since - SLACK_S)


def _is_queued(config: Path, session: str, text: str, since: float) -> bool:
    import sqlite3  # slow to import, and needed only where an office died in the middle

    for database in sorted(config.glob("queue_*.sqlite")):
        try:
            with sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0) as asked:
                rows = asked.execute(
                    "SELECT payload_json FROM queued_items WHERE thread_id = ? AND created_at_ms >= ?",
                    (session, since * 1000),
                ).fetchall()
            asked.close()
        except sqlite3.Error:
            continue  # not made yet, or of a form that this version does not know: the session tells later
        if any(text in each for (payload,) in rows for each in _strings(_parsed(payload))):
            return True
    return False


def _is_told(config: Path, session: str, text: str, since: float) -> bool:
    path = find(config, session)
    for row in _backwards(path) if path else ():
        if _moment(row) < since:
            return False
        payload = _dict(row.get("payload"))
        if payload.get("role") == "user" and any(text in each for each in _strings(payload.get("content"))):
            return True
    return False


def _backwards(path: Path) -> Iterator[dict[str, Any]]:
    """The rows in the file's tail, the latest first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read(TAIL).split(b"\n")
    except OSError:
        return
    for line in reversed(lines):
        row = _parsed(line)
        if isinstance(row, dict):
            yield row


def _event(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    payload = _dict(row.get("payload"))
    return (str(payload.get("type")) if row.get("type") == "event_msg" else ""), payload


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _strings(part)]


def _moment(row: dict[str, Any]) -> float:
    return times.seconds(row.get("timestamp")) or 0.0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
