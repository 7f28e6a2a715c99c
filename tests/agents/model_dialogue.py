"""What a model is asked, read alike from three APIs: Anthropic Messages, OpenAI Responses and OpenAI Chat Completions.

A request is a list of pieces in order: what was told to the model, what it said, what it called, what came back. Bodies are
read as they come: what has another shape than expected is left out or turned into text, and never raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

API = Literal["messages", "responses", "chat"]
Who = Literal["user", "assistant", "call", "result"]
SHELLS = ("Bash", "exec_command", "shell", "shell_command", "bash", "run_shell_command", "local_shell")
COMMAND_FIELDS = ("command", "cmd")
SEAT = re.compile(r"You are (?:seat )?`?([a-z0-9][a-z0-9_-]{0,31})`?(?: \(([a-z][a-z0-9_-]{0,31})\)|[.,])")
ENDED = (
    "[Request interrupted",
    "[Tool call interrupted",
    "<turn_aborted>",
)  # how Claude Code and Codex tell the model that its last turn was stopped
RUNNING = re.compile(r"Process running with session ID (\d+)")  # Codex, of a command that takes longer than it waits
POLL = "write_stdin"  # Codex: with no characters it waits for the output
REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """One step of the conversation. `id` ties a call to its result; `name` is a call's tool, its `text` the arguments as JSON."""

    who: Who
    text: str
    name: str = ""
    id: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool that the request offers. `fields`: the names of its arguments."""

    name: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """One request to the model, whichever API it came by."""

    api: API
    model: str
    system: str
    pieces: tuple[Piece, ...]
    tools: tuple[Tool, ...]
    is_streamed: bool
    wants_usage: bool = True  # a chat's stream tells its usage only when asked

    @property
    def seat(self) -> str | None:
        return self._who()[0]

    @property
    def role(self) -> str | None:
        return self._who()[1]

    @property
    def shell(self) -> tuple[str, str] | None:
        """The tool that runs a command, and the name of its argument; None when no such tool is offered."""
        by_name = {tool.name: tool for tool in self.tools}
        for name in SHELLS:
            if name in by_name:
                fields = by_name[name].fields
                return name, next((f for f in COMMAND_FIELDS if f in fields), COMMAND_FIELDS[0])
        return None

    @property
    def users(self) -> list[str]:
        """What was told to the model, without what its program only reminds it of."""
        texts = (REMINDER.sub("", piece.text).strip() for piece in self.pieces if piece.who == "user")
        return [text for text in texts if text]

    @property
    def turn(self) -> tuple[Piece, ...]:
        """What belongs to the turn that goes on: since the model last ended one by a text without a call, or was stopped.

        A text that arrives between a tool's result and the next answer belongs to the same turn: the person, or the
        doorbell, wrote while the model was at work.
        """
        start = 0
        for at, piece in enumerate(self.pieces):
            following = self.pieces[at + 1 : at + 2]
            if piece.who == "assistant" and following and following[0].who == "user":
                start = at + 1
            elif piece.text.lstrip().startswith(ENDED):
                start = at + (piece.who != "user" or piece.text.rstrip().endswith(("]", ">")))
            elif piece.who == "user" and following and following[0].who == "user" and not self._is_reminder(at + 1):
                earlier = [p.who for p in self.pieces[start:at]]
                if "call" not in earlier:
                    start = at + 1  # the answer to the one before never came
        return self.pieces[start:]

    @property
    def running(self) -> int | None:
        """The session of a command that Codex left running, when that was the last thing that came back."""
        last = self.pieces[-1] if self.pieces else None
        found = RUNNING.search(last.text) if last is not None and last.who == "result" else None
        return int(found[1]) if found and any(tool.name == POLL for tool in self.tools) else None

    @property
    def without_polls(self) -> Request:
        """The same with what a command printed later as part of its one result: polls are no steps."""
        kept: list[Piece] = []
        polls: dict[str, str] = {}  # id of a poll -> id of the call that it belongs to
        first: dict[str, str] = {}  # session -> id of the call that began it
        for piece in self.pieces:
            if piece.who == "call" and piece.name == POLL:
                found = re.search(r'"session_id":\s*(\d+)', piece.text)
                polls[piece.id] = first.get(found[1] if found else "", "")
            elif piece.who == "result" and piece.id in polls:
                at = next((n for n, p in enumerate(kept) if p.who == "result" and p.id == polls[piece.id]), None)
                if at is not None:
                    kept[at] = replace(kept[at], text=f"{RUNNING.sub('', kept[at].text)}\n{piece.text}")
            else:
                if piece.who == "result" and (found := RUNNING.search(piece.text)):
                    first[found[1]] = piece.id
                kept.append(piece)
        return replace(self, pieces=tuple(kept))

    def _is_reminder(self, at: int) -> bool:
        text = self.pieces[at].text
        return not REMINDER.sub("", text).strip()

    def _who(self) -> tuple[str | None, str | None]:
        for text in (self.system, *(piece.text for piece in self.pieces if piece.who == "user")):
            if found := SEAT.search(text):
                return found[1], found[2] or ("chief" if found[1].startswith("chief") else "junior")
        return None, None


# --- reading bodies ----------------------------------------------------------------------------------------------


def read(api: API, body: dict[str, Any]) -> Request:
    system, pieces = {"messages": _messages, "responses": _responses, "chat": _chat}[api](body)
    return Request(
        api=api,
        model=str(body.get("model") or "stub-1"),
        system="\n\n".join(text for text in system if text),
        pieces=tuple(pieces),
        tools=tuple(_tools(body)),
        is_streamed=body.get("stream") is True,
        wants_usage=api != "chat" or bool(_dict(body.get("stream_options")).get("include_usage")),
    )


def _messages(body: dict[str, Any]) -> tuple[list[str], list[Piece]]:
    pieces: list[Piece] = []
    system = [text_of(body.get("system"))]
    for message in _dicts(body.get("messages")):
        who: Who = "assistant" if message.get("role") == "assistant" else "user"
        if message.get("role") == "system":
            system.append(text_of(message.get("content")))
            continue
        content = message.get("content")
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else _dicts(content):
            kind = block.get("type")
            if kind == "tool_use":
                pieces.append(Piece("call", _json(block.get("input")), str(block.get("name")), str(block.get("id"))))
            elif kind == "tool_result":
                text = text_of(block.get("content"))
                pieces.append(Piece("result", text, id=str(block.get("tool_use_id"))))
            elif kind == "text":
                pieces.append(Piece(who, str(block.get("text") or "")))
    return system, pieces


def _responses(body: dict[str, Any]) -> tuple[list[str], list[Piece]]:
    system, pieces = [text_of(body.get("instructions"))], []
    given = body.get("input")
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else _dicts(given):
        kind, role = item.get("type") or "message", item.get("role")
        if kind == "message" and role in ("system", "developer"):
            system.append(text_of(item.get("content")))
        elif kind == "message":
            pieces.append(Piece("assistant" if role == "assistant" else "user", text_of(item.get("content"))))
        elif kind in ("function_call", "custom_tool_call", "local_shell_call"):
            arguments = item.get("arguments") or item.get("input") or item.get("action") or "{}"
            name = str(item.get("name") or "local_shell")
            pieces.append(Piece("call", _json(arguments), name, str(item.get("call_id"))))
        elif str(kind).endswith("_output"):
            pieces.append(Piece("result", text_of(item.get("output")), id=str(item.get("call_id"))))
    return system, pieces


def _chat(body: dict[str, Any]) -> tuple[list[str], list[Piece]]:
    system, pieces = [], []
    for message in _dicts(body.get("messages")):
        role, text = message.get("role"), text_of(message.get("content"))
        if role in ("system", "developer"):
            system.append(text)
        elif role == "tool":
            pieces.append(Piece("result", text, id=str(message.get("tool_call_id"))))
        else:
            if text or role != "assistant":
                pieces.append(Piece("assistant" if role == "assistant" else "user", text))
            for call in _dicts(message.get("tool_calls")):
                function = _dict(call.get("function"))
                arguments = _json(function.get("arguments") or "{}")
                pieces.append(Piece("call", arguments, str(function.get("name")), str(call.get("id"))))
    return system, pieces


def _tools(body: dict[str, Any]) -> Iterator[Tool]:
    for row in _dicts(body.get("tools")):
        inner = _dict(row.get("function")) or row
        schema = _dict(inner.get("input_schema")) or _dict(inner.get("parameters"))
        name = inner.get("name") or (row.get("type") if row.get("type") == "local_shell" else None)
        if isinstance(name, str):
            yield Tool(name, tuple(str(field) for field in _dict(schema.get("properties"))))


def text_of(content: Any) -> str:
    """A text, or the texts of blocks, one below the other; everything else as JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [block.get("text") if isinstance(block, dict) else block for block in content]
        return "\n".join(text for text in texts if isinstance(text, str))
    return _json(content)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
