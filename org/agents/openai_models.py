"""Models behind OpenAI's APIs: Responses, or Chat Completions where the server knows nothing else, as most local ones.

Which one: `ORG_OPENAI_API=responses` or `chat`; without it Responses is tried, and Chat Completions when that is not there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any

from org.agents.models import Answer, Cut, Model, Question, Row, Trouble, _object, _stop, silence_s
from org.agents.prices import Terms, Tokens

REASONS = re.compile(r"(?:o\d|gpt-[5-9](?!-chat)|codex)")  # others refuse to hand out their encrypted reasoning
IN_STREAM = re.compile(r"rate_limit|overload|server_error|timeout|unavailable|slow_down")


class OpenAI(Model):
    api = "openai"

    def __init__(self, name: str, terms: Terms) -> None:
        super().__init__(name, terms)
        wanted = os.environ.get("ORG_OPENAI_API", "")
        self.is_chat = wanted == "chat"
        self.is_open = wanted not in ("chat", "responses")  # which API it is has yet to be found out

    def connect(self) -> Any:
        import openai

        return openai.OpenAI(api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=0, timeout=silence_s())

    def answer(self, question: Question) -> Answer:
        if not self.is_chat:
            try:
                answer = self.by_responses(question)
            except Exception as error:
                if not (self.is_open and _is_unknown(error)):
                    raise
                self.is_chat = True
            else:
                self.is_open = False
                return answer
        return self.by_chat(question)

    # --- Responses

    def by_responses(self, question: Question) -> Answer:
        options: dict[str, Any] = {"include": ["reasoning.encrypted_content"]} if REASONS.match(self.name) else {}
        stream = self.client.responses.create(
            model=self.name,
            instructions=question.system,
            input=self.items(question.rows),
            tools=[
                {
                    "type": "function",
                    "name": t.name,
                    "description": t.description,
                    "parameters": t.parameters,
                    "strict": False,
                }
                for t in question.tools
            ],
            tool_choice="auto" if question.may_call else "none",
            store=False,
            stream=True,
            **options,
        )
        answer, is_whole = Answer(), False
        with stream:
            for event in stream:
                if question.is_cut():
                    raise Cut
                row = event.to_dict()
                kind = row.get("type")
                if kind in ("response.output_text.delta", "response.refusal.delta"):
                    answer.text += row["delta"]
                    question.say(row["delta"])
                elif kind == "response.output_item.done":
                    self._keep(answer, row["item"])
                elif kind in ("response.completed", "response.incomplete"):
                    is_whole = True
                    done = row["response"]
                    answer.tokens = _tokens(done.get("usage") or {})
                    question.counted(answer.tokens)
                    if kind == "response.incomplete":
                        answer.stop = _stop((done.get("incomplete_details") or {}).get("reason") or "length")
                elif kind in ("response.failed", "error"):
                    _raise((row.get("response") or row).get("error") or row)
        if not is_whole:
            raise Trouble("network", "the connection ended in the middle of the answer")
        return answer

    @staticmethod
    def _keep(answer: Answer, item: dict[str, Any]) -> None:
        if item.get("type") == "function_call":
            found = _object(item.get("arguments") or "")
            answer.calls.append({"id": item["call_id"], "name": item["name"], "input": found})
            answer.raw.append({k: item[k] for k in ("type", "call_id", "name", "arguments")})
        elif item.get("type") == "message":
            answer.raw.append({k: v for k, v in item.items() if k not in ("id", "status")})
        elif item.get("type") == "reasoning" and item.get("encrypted_content"):
            answer.raw.append({k: v for k, v in item.items() if k != "status"})  # others are kept by nobody

    def items(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for row in rows:
            text = row.get("text") or ""
            if row["kind"] == "user":
                found.append({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
            elif row["kind"] == "tool":
                found.append({"type": "function_call_output", "call_id": row["id"], "output": text})
            elif raw := self.own(row):
                found += raw
            else:
                if text:
                    said = [{"type": "output_text", "text": text}]
                    found.append({"type": "message", "role": "assistant", "content": said})
                for c in row.get("calls") or []:
                    arguments = json.dumps(c["input"] or {})
                    call = {"type": "function_call", "call_id": c["id"], "name": c["name"], "arguments": arguments}
                    found.append(call)
        return found

    # --- Chat Completions

    def by_chat(self, question: Question) -> Answer:
        tools = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
            for t in question.tools
        ]
        stream = self.client.chat.completions.create(
            model=self.name,
            messages=[{"role": "system", "content": question.system}, *self.messages(question.rows)],
            tools=tools,
            tool_choice="auto" if question.may_call else "none",
            stream=True,
            stream_options={"include_usage": True},
        )
        answer, reason = Answer(), ""
        calls: dict[int, dict[str, str]] = {}
        with stream:
            for event in stream:
                if question.is_cut():
                    raise Cut
                row = event.to_dict()
                if row.get("error"):
                    _raise(row["error"])
                if row.get("usage"):
                    answer.tokens = _tokens(row["usage"])
                for choice in row.get("choices") or []:
                    delta = choice.get("delta") or {}
                    if delta.get("content"):
                        answer.text += delta["content"]
                        question.say(delta["content"])
                    for at, part in enumerate(delta.get("tool_calls") or []):
                        call = calls.setdefault(part.get("index", at), {"id": "", "name": "", "arguments": ""})
                        call["id"] = part.get("id") or call["id"]
                        function = part.get("function") or {}
                        call["name"] += function.get("name") or ""
                        call["arguments"] += function.get("arguments") or ""
                    reason = choice.get("finish_reason") or reason
        question.counted(answer.tokens)
        if not reason:
            raise Trouble("network", "the connection ended in the middle of the answer")
        for at, call in sorted(calls.items()):
            name = call["id"] or f"call_{len(question.rows)}_{at}"
            answer.calls.append({"id": name, "name": call["name"], "input": _object(call["arguments"])})
        answer.stop = _stop(reason)
        return answer

    def messages(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for row in rows:
            text = row.get("text") or ""
            if row["kind"] == "tool":
                found.append({"role": "tool", "tool_call_id": row["id"], "content": text})
            elif row["kind"] == "user":
                found.append({"role": "user", "content": text})
            else:
                said: dict[str, Any] = {"role": "assistant", "content": text or None}
                calls = [
                    {
                        "id": c["id"],
                        "type": "function",
                        "function": {"name": c["name"], "arguments": json.dumps(c["input"] or {})},
                    }
                    for c in row.get("calls") or []
                ]
                found.append({**said, "tool_calls": calls} if calls else {**said, "content": text or "(nothing)"})
        return found


def _is_unknown(error: Exception) -> bool:
    """Whether the server has no such API, as opposed to no such model."""
    status, words = getattr(error, "status_code", None), str(error).lower()
    return status in (404, 405, 501) and not re.search(
        r"model\b.{0,80}(?:not.{0,3}exist|not.{0,3}found)|model_not_found", words
    )


def _raise(error: dict[str, Any]) -> None:
    """An error that came inside a stream."""
    code, text = str(error.get("code") or error.get("type") or ""), str(error.get("message") or "the service failed")
    if "context_length" in code:
        raise Trouble("too_long", text)
    raise Trouble("busy" if IN_STREAM.search(code) else "bad", " ".join(f"{code}: {text}".split())[:200])


def _tokens(usage: dict[str, Any]) -> Tokens:
    """Of either API: they name the same things differently."""
    sent = usage.get("input_tokens", usage.get("prompt_tokens")) or 0
    said = usage.get("output_tokens", usage.get("completion_tokens")) or 0
    details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details") or {}
    return Tokens(sent, details.get("cached_tokens") or 0, 0, said)
