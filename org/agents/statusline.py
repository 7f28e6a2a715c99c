"""Claude Code's status line: shows the seat, its context and its cost, and writes what the session used (`agents.usage`).

Run as a program by its path after every answer, with no site packages: standard library only. Tokens are summed from the
transcript, a part at a time: how far it was read is kept beside the sums.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MAX_INPUT = 1_000_000
PART = 8_000_000  # bytes of a transcript read at a time; the rest comes with the next answer


def command() -> str:
    """The shell command that runs this file."""
    return shlex.join([sys.executable, "-S", "-E", str(Path(__file__).resolve())])


def used(status: dict[str, Any], before: dict[str, Any], transcript: bytes) -> dict[str, Any]:
    """The usage file's new content: `before` with what the transcript says from `before["read"]` on, and the context and
    cost of `status`. Each answer stands in the transcript once for each of its blocks, every time with the same id: its last
    numbers count, so the open answer's are kept apart from the sums until another begins."""
    sums = {name: _count(before.get(name)) for name in ("input_tokens", "cached_tokens", "output_tokens")}
    last = before.get("last") if isinstance(before.get("last"), dict) else {}
    for name in sums:
        sums[name] -= _count((last or {}).get(name))
    end = transcript.rfind(b"\n") + 1
    for line in transcript[:end].splitlines():
        answer = _answer(line)
        if answer is None:
            continue
        if last and last.get("id") != answer["id"]:
            sums = {name: sums[name] + _count(last.get(name)) for name in sums}
        last = answer
    window = _dict(status.get("context_window"))
    limit, part = _count(window.get("context_window_size")), window.get("used_percentage")
    shown = _amount(_dict(status.get("cost")).get("total_cost_usd"))
    earlier, seen = _amount(before.get("cost_earlier")) or 0.0, _amount(before.get("cost_seen"))
    if shown is not None and seen is not None and shown < seen:
        earlier += seen  # the program was killed and counts anew, in the same session
    seen = seen if shown is None else shown
    return {
        "session": str(status.get("session_id", "")),
        "model": str(_dict(status.get("model")).get("id", "")),
        **{name: sums[name] + _count((last or {}).get(name)) for name in sums},
        "cost_usd": None if seen is None else earlier + seen,
        "cost_seen": seen,
        "cost_earlier": earlier,
        "context_tokens": round(limit * part / 100) if isinstance(part, int | float) else 0,
        "context_limit": limit,
        "read": _count(before.get("read")) + end,
        "last": last or {},
    }


def line(seat: str, usage: dict[str, Any]) -> str:
    """What the pane shows."""
    limit = usage["context_limit"]
    parts = [seat, f"context {100 * usage['context_tokens'] / limit:.0f} %" if limit else ""]
    parts.append(f"${usage['cost_usd']:.2f}" if usage["cost_usd"] is not None else "")
    return " · ".join(part for part in [*parts, usage["model"]] if part)


def _answer(text: bytes) -> dict[str, Any] | None:
    if b'"usage"' not in text:
        return None
    try:
        row = json.loads(text)
    except ValueError:
        return None
    message = _dict(_dict(row).get("message"))
    usage = _dict(message.get("usage"))
    if _dict(row).get("type") != "assistant" or not usage:
        return None
    cached = _count(usage.get("cache_read_input_tokens"))
    sent = _count(usage.get("input_tokens")) + _count(usage.get("cache_creation_input_tokens")) + cached
    tokens = {"input_tokens": sent, "cached_tokens": cached, "output_tokens": _count(usage.get("output_tokens"))}
    return {"id": str(message.get("id", "")), **tokens}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _amount(value: Any) -> float | None:
    is_amount = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if is_amount else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _part(path: str, start: int) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - bytes from a place on
            file.seek(start)
            return file.read(PART)
    except OSError:
        return b""


def _replace(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=1) + "\n")
    Path(temporary).replace(path)


def main() -> int:
    try:
        status = _dict(json.loads(sys.stdin.read(MAX_INPUT)))
        seat, home = os.environ["ORG_SEAT"], Path(os.environ["ORG_HOME"])
        named = re.sub(r"[^0-9A-Za-z-]", "-", str(status.get("session_id", "")))[:64] or "unknown"
        path = home / "comms" / "seats" / seat / "usage" / f"{named}.json"
        try:
            before = _dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            before = {}
        usage = used(status, before, _part(str(status.get("transcript_path", "")), _count(before.get("read"))))
        usage["t"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        _replace(path, usage)
        print(line(seat, usage))
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
        pass  # an empty status line is no reason to stop
    return 0


if __name__ == "__main__":
    sys.exit(main())
