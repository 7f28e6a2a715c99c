"""The conversation of a seat with its model, a row a line in a file of the seat: what a killed program goes on with.

Rows of `kind` `user` (who, text, letters), `assistant` (text, calls, raw) and `tool` (id, name, text, is_error) are what the
model is shown; `begun` says that a call was started. A file is one conversation; the last one is in force.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from org import files

SHOWN = ("user", "assistant", "tool")
INTERRUPTED = (
    "interrupted: the program ended while this ran. It may have taken effect or not, wholly or in part, and was not "
    "repeated. Look before you do it again."
)

Row = dict[str, Any]


class Talk:
    """`created`: of the seat; a seat that was made anew does not go on with what another of its name said."""

    def __init__(self, folder: Path, created: str) -> None:
        self.folder, self.created = folder, created
        self.rows: list[Row] = []
        self.begun: dict[str, Row] = {}
        paths = sorted(folder.glob("[0-9]*.jsonl"))
        rows = files.read_lines(paths[-1])[0] if paths else []
        self.is_new = not rows or rows[0].get("created") != created
        if self.is_new:
            self.number = int(paths[-1].stem) if paths and paths[-1].stem.isdigit() else 0
            return  # `fresh` begins it
        self.number = int(paths[-1].stem)
        self.rows = [row for row in rows if row.get("kind") in SHOWN]
        self.begun = {str(row.get("id")): row for row in rows if row.get("kind") == "begun"}

    @property
    def name(self) -> str:
        return f"{self.number:04d}"

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.jsonl"

    def fresh(self, text: str) -> None:
        """Begin another conversation with these words of the org and what the model has not answered yet. One write: a kill
        leaves the old conversation or the whole beginning of this one. The old one stays as a file."""
        self.number += 1
        self.rows, self.begun = [_row("user", text, who="org"), *self.unanswered], {}
        self._append({"kind": "talk", "created": self.created}, *self.rows)

    def add(self, kind: str, text: str = "", **more: Any) -> None:
        row = _row(kind, text, **more)
        self.rows.append(row)
        self._append(row)

    def begin(self, call: str, pid: int) -> None:
        """A call is being run, in the process group `pid`."""
        self.begun[call] = {"kind": "begun", "id": call, "pid": pid, "start": _started(pid)}
        self._append(self.begun[call])

    # --- what it says

    @property
    def pending(self) -> list[dict[str, Any]]:
        """Calls of the last answer that have no result yet, in their order."""
        last = next((at for at in reversed(range(len(self.rows))) if self.rows[at]["kind"] == "assistant"), None)
        if last is None:
            return []
        done = {row.get("id") for row in self.rows[last + 1 :] if row["kind"] == "tool"}
        return [call for call in self.rows[last].get("calls") or () if call["id"] not in done]

    @property
    def owes(self) -> bool:
        """Whether the model has yet to speak."""
        if not self.rows:
            return False
        last = self.rows[-1]
        return last["kind"] != "assistant" or bool(last.get("calls"))

    @property
    def unanswered(self) -> list[Row]:
        """What was told since the model last spoke."""
        last = max((at for at, row in enumerate(self.rows) if row["kind"] == "assistant"), default=-1)
        return [row for row in self.rows[last + 1 :] if row["kind"] == "user"]

    @property
    def answers(self) -> int:
        return sum(row["kind"] == "assistant" for row in self.rows)

    def letters(self) -> set[str]:
        return {letter for row in self.rows for letter in row.get("letters") or ()}

    def tail(self, characters: int, each: int = 1500) -> str:
        """The end of it as plain text, long rows cut: for a model that can no longer be shown the whole."""
        found: list[str] = []
        left = characters
        for row in reversed(self.rows):
            calls = [f"{c['name']} {json.dumps(c['input'])[:300]}" for c in row.get("calls") or ()]
            text = f"[{row['kind']}] {(row.get('text') or '')[:each]} {' '.join(calls)}".strip()
            if len(text) > left:
                break
            left -= len(text)
            found.append(text)
        return "\n".join(reversed(found))

    # --- what a former life left

    def settle(self, why: Callable[[str], str] = lambda call: INTERRUPTED) -> int:
        """Calls without a result get one that says so, and what they left running is ended. Returns how many there were."""
        pending = self.pending
        for call in pending:
            if (row := self.begun.get(call["id"])) and row.get("start") and _started(row["pid"]) == row["start"]:
                try:
                    os.killpg(row["pid"], signal.SIGKILL)
                except OSError:
                    pass  # it ended by itself meanwhile
            self.add("tool", why(call["id"]), id=call["id"], name=call["name"], is_error=True)
        return len(pending)

    def _append(self, *rows: Row) -> None:
        files.append_line(self.path, "\n".join(json.dumps(row, ensure_ascii=True) for row in rows))


def _row(kind: str, text: str, **more: Any) -> Row:
    return {"kind": kind, "text": text, **{k: v for k, v in more.items() if v}}


def _started(pid: int) -> str:
    """When the process began, in the kernel's ticks; empty where that cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError, ValueError):
        return ""
