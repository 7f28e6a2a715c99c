"""One question to a model's service over its official SDK: a conversation in, streamed text and calls of tools out.

The only module that calls anthropic and openai; each is imported by the first question. A conversation is plain rows (see
`talk`), so that it can go on with another service. Nothing here tries again: `Trouble` says whether that makes sense.
"""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from org.agents.prices import Terms, Tokens

SILENCE_S = 300.0  # a stream that says nothing for so long is given up
TOO_LONG = re.compile(
    r"prompt is too long|context.?(?:length|window|limit|size)|maximum context|input is too long|too many (?:input )?tokens"
    r"|string_above_max_length|request_too_large",
    re.IGNORECASE,
)
BUSY = re.compile(r"overloaded|rate.?limit|api_error|server_error|timeout|unavailable", re.IGNORECASE)

Row = dict[str, Any]


class Cut(Exception):
    """The question was taken back while it was answered."""


class Trouble(Exception):
    """No answer. `kind`: `busy` (ask again later), `network` (so too), `too_long` (the conversation does not fit), `denied`
    (the key), `bad` (asking again would not help)."""

    def __init__(
        self,
        kind: Literal["busy", "network", "too_long", "denied", "bad"],
        text: str,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(text)
        self.kind, self.retry_after_s = kind, retry_after_s


@dataclass(frozen=True)
class Tool:
    """What the model may call. `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass
class Answer:
    """`calls`: id, name and input of each tool called; `input` is None where it was no JSON object. `raw` is the service's
    own form of it, which it wants back word for word (thinking is signed)."""

    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    raw: list[dict[str, Any]] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    stop: Literal["end", "length", "refusal", "too_long"] = "end"


@dataclass(frozen=True)
class Question:
    """`say` gets the text as it comes, `is_cut` is asked between pieces, `counted` gets the tokens as soon as known."""

    system: str
    rows: Sequence[Row]
    tools: Sequence[Tool]
    say: Callable[[str], None] = lambda text: None
    is_cut: Callable[[], bool] = lambda: False
    counted: Callable[[Tokens], None] = lambda tokens: None
    may_call: bool = True


class Model(ABC):
    """One model of one service. `api` names the form of raw answers."""

    api = ""

    def __init__(self, name: str, terms: Terms) -> None:
        self.name, self.terms = name, terms
        self._client: Any = None

    @property
    def client(self) -> Any:
        if self._client is None:
            self._client = self.connect()
        return self._client

    @abstractmethod
    def connect(self) -> Any:
        """The SDK's client. It reads its key and its base URL from the environment."""

    @abstractmethod
    def answer(self, question: Question) -> Answer:
        """May raise what the SDK raises."""

    def ask(self, question: Question) -> Answer:
        """Raises Trouble, or Cut."""
        try:
            answer = self.answer(question)
        except (Cut, Trouble):
            raise
        except Exception as error:  # SDKs, their HTTP library and the JSON in between each have their own trees
            raise trouble(error) from error
        if not answer.text.strip() and not answer.calls and answer.stop == "end":
            answer.text = "(nothing)"
        return answer

    def own(self, row: Row) -> list[dict[str, Any]]:
        """The row as this very model said it, empty for what another did."""
        raw = row.get("raw") or {}
        return list(raw.get("items") or ()) if (raw.get("api"), raw.get("model")) == (self.api, self.name) else []


class Anthropic(Model):
    api = "anthropic"

    def connect(self) -> Any:
        import anthropic

        key = None if os.environ.get("ANTHROPIC_AUTH_TOKEN") else os.environ.get("ANTHROPIC_API_KEY") or "none"
        return anthropic.Anthropic(api_key=key, max_retries=0, timeout=silence_s())

    def answer(self, question: Question) -> Answer:
        choice = {"type": "auto" if question.may_call else "none"}
        stream = self.client.messages.create(
            model=self.name,
            max_tokens=self.terms.answer,
            system=[{"type": "text", "text": question.system, "cache_control": {"type": "ephemeral"}}],
            messages=self.messages(question.rows),
            tools=[
                {"name": t.name, "description": t.description, "input_schema": t.parameters} for t in question.tools
            ],
            tool_choice=choice,
            stream=True,
        )
        blocks: dict[int, dict[str, Any]] = {}
        parts: dict[int, str] = {}  # of the JSON of calls
        usage: dict[str, Any] = {}
        reason, is_whole = "", False
        with stream:
            for event in stream:
                if question.is_cut():
                    question.counted(_anthropic_tokens(usage))
                    raise Cut
                row = event.to_dict()
                kind, at = row.get("type"), row.get("index", 0)
                if kind == "message_start":
                    usage.update(row["message"].get("usage") or {})
                elif kind == "content_block_start":
                    blocks[at] = row["content_block"]
                elif kind == "content_block_delta":
                    _add(blocks.setdefault(at, {"type": "text", "text": ""}), row["delta"], parts, at, question.say)
                elif kind == "message_delta":
                    usage.update({k: v for k, v in (row.get("usage") or {}).items() if v is not None})
                    reason = (row.get("delta") or {}).get("stop_reason") or reason
                elif kind == "message_stop":
                    is_whole = True
        tokens = _anthropic_tokens(usage)
        question.counted(tokens)
        if not is_whole:
            raise Trouble("network", "the connection ended in the middle of the answer")
        answer = Answer(tokens=tokens, stop=_stop(reason))
        for at, block in sorted(blocks.items()):
            if block.get("type") == "tool_use":
                found = _object(parts.get(at, "")) if parts.get(at) else block.get("input") or {}
                block["input"] = found or {}
                answer.calls.append({"id": block["id"], "name": block["name"], "input": found})
            elif block.get("type") == "text":
                answer.text += block.get("text") or ""
            if block.get("type") != "text" or (block.get("text") or "").strip():
                answer.raw.append(block)  # an empty text is refused when it comes back
        return answer

    def messages(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for row in rows:
            who, content = "user", [{"type": "text", "text": row.get("text") or "(nothing)"}]
            if row["kind"] == "assistant":
                calls = row.get("calls") or []
                uses = [
                    {"type": "tool_use", "id": c["id"], "name": c["name"], "input": c["input"] or {}} for c in calls
                ]
                who, content = "assistant", self.own(row) or [*(content if row.get("text") else []), *uses]
            elif row["kind"] == "tool":
                is_error = bool(row.get("is_error"))
                content = [{"type": "tool_result", "tool_use_id": row["id"], "content": content, "is_error": is_error}]
            if found and found[-1]["role"] == who:
                found[-1]["content"] += content
            else:
                found.append({"role": who, "content": list(content)})
        if found:  # all that comes before is read from the cache by the next question
            found[-1]["content"][-1] = {**found[-1]["content"][-1], "cache_control": {"type": "ephemeral"}}
        return found


def _add(
    block: dict[str, Any], delta: dict[str, Any], parts: dict[int, str], at: int, say: Callable[[str], None]
) -> None:
    kind = delta.get("type")
    if kind == "text_delta":
        block["text"] = (block.get("text") or "") + delta["text"]
        say(delta["text"])
    elif kind == "input_json_delta":
        parts[at] = parts.get(at, "") + delta["partial_json"]
    elif kind == "thinking_delta":
        block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
    elif kind == "signature_delta":
        block["signature"] = (block.get("signature") or "") + delta["signature"]


def _anthropic_tokens(usage: dict[str, Any]) -> Tokens:
    cached, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    return Tokens((usage.get("input_tokens") or 0) + cached + written, cached, written, usage.get("output_tokens") or 0)


# --- what every service has in common --------------------------------------------------------------------------------


def trouble(error: Exception) -> Trouble:
    """What an SDK raised, in one line that holds no key."""
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else {}
    inner = inner if isinstance(inner, dict) else {}
    words = [str(inner.get(name)) for name in ("type", "code", "message") if inner.get(name)]
    said = redacted(" ".join(str(inner.get("message") or error).split()))[:200]
    text = f"HTTP {status}: {said}" if isinstance(status, int) and status != 200 else said or type(error).__name__
    if status != 429 and TOO_LONG.search(f"{words} {text}"):
        return Trouble("too_long", text)
    if status in (401, 403):
        return Trouble("denied", text)
    if status in (408, 409, 425, 429) or (isinstance(status, int) and status >= 500):
        return Trouble("busy", text, retry_after_s(getattr(getattr(error, "response", None), "headers", {})))
    if status in (None, 200):
        if words and not BUSY.search(" ".join(words)):
            return Trouble("bad", text)
        is_ours = isinstance(error, TypeError | KeyError | AttributeError | ImportError | IndexError | UnicodeError)
        return Trouble("bad" if is_ours else "busy" if words else "network", text)
    return Trouble("bad", text)


def retry_after_s(headers: Any) -> float | None:
    """Seconds that the service asks for, by either of its headers; None where it says nothing that can be read."""
    import time

    try:
        if (ms := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(ms) / 1000)
        after = headers.get("retry-after")
        if after is None:
            return None
        if re.fullmatch(r"[\d.]+", after.strip()):
            return float(after)
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError, AttributeError):
        return None


def redacted(text: str) -> str:
    """Without any key of the environment, and without what looks like one."""
    for name, value in os.environ.items():
        if name.endswith(("_KEY", "_TOKEN")) and len(value) > 6:
            text = text.replace(value, "[key]")
    return re.sub(r"\bsk-[\w*.-]{6,}", "[key]", text)


def silence_s() -> float:
    try:
        return float(os.environ.get("ORG_API_SILENCE_S") or SILENCE_S)
    except ValueError:
        return SILENCE_S


def _object(text: str) -> dict[str, Any] | None:
    """None also for what no service would take back (an endless number, half a character): every later question of the
    conversation would fail with it."""
    try:
        found = json.loads(text or "{}")
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _stop(reason: str) -> Literal["end", "length", "refusal", "too_long"]:
    if reason == "model_context_window_exceeded":
        return "too_long"
    if reason in ("max_tokens", "length", "max_output_tokens"):
        return "length"
    return "refusal" if reason in ("refusal", "content_filter") else "end"
