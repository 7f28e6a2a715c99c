"""A reply in the words of three APIs: a JSON document, or the events of a stream. Keeps nothing."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from typing import Any

from agents.model_dialogue import API, Request
from agents.model_scripts import Call, Reply

WORDS = 5  # pieces that a text or a call's arguments are streamed in
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
Event = tuple[str | None, Any]  # name (None in a chat's stream) and data


def document(request: Request, reply: Reply) -> dict[str, Any]:
    return {"messages": _message, "responses": _response, "chat": _completion}[request.api](request, reply)


def stream(request: Request, reply: Reply) -> Iterator[Event]:
    return {"messages": _message_events, "responses": _response_events, "chat": _chat_events}[request.api](
        request, reply
    )


def error(api: API | None, status: int, message: str) -> dict[str, Any]:
    kind = KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    if api == "messages":
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": _id("req")}
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


# --- usage -------------------------------------------------------------------------------------------------------


def tokens(text: str) -> int:
    return math.ceil(len(text) / 4)


def usage(request: Request, reply: Reply) -> tuple[int, int, int]:
    """Input tokens in all, those of them that a cache had (all but what is new since the model's last word), and output."""
    texts = [piece.text for piece in request.pieces]
    last = max((at for at, piece in enumerate(request.pieces) if piece.who in ("assistant", "call")), default=-1)
    head = tokens(request.system) + 60 * len(request.tools)
    cached = head + sum(map(tokens, texts[: last + 1])) if last >= 0 else 0
    total = head + sum(map(tokens, texts)) + 4 * len(texts) + 1
    if reply.input_tokens is not None:
        total = reply.input_tokens
    out = tokens(reply.text) + sum(tokens(json.dumps(call.arguments)) + 10 for call in reply.calls)
    return total, min(cached, total - 1 if total else 0), max(1, out)


# --- Anthropic Messages ------------------------------------------------------------------------------------------


def _message(request: Request, reply: Reply) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text or not reply.calls else []
    content += [
        {"type": "tool_use", "id": _id("toolu"), "name": call.name, "input": call.arguments} for call in reply.calls
    ]
    total, cached, out = usage(request, reply)
    return {
        "id": _id("msg"),
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": "tool_use" if reply.calls else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": total - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": out,
            "service_tier": "standard",
        },
    }


def _message_events(request: Request, reply: Reply) -> Iterator[Event]:
    whole = _message(request, reply)

    def event(kind: str, **more: Any) -> Event:
        return kind, {"type": kind, **more}

    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield event("message_start", message=begun)
    for index, block in enumerate(whole["content"]):
        is_text = block["type"] == "text"
        empty = {**block, "text": ""} if is_text else {**block, "input": {}}
        yield event("content_block_start", index=index, content_block=empty)
        for part in _parts(block["text"] if is_text else json.dumps(block["input"])):
            delta = {"type": "text_delta", "text": part} if is_text else _json_delta(part)
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": whole["usage"]["output_tokens"]})
    yield event("message_stop")


def _json_delta(part: str) -> dict[str, str]:
    return {"type": "input_json_delta", "partial_json": part}


# --- OpenAI Responses --------------------------------------------------------------------------------------------


def _response(request: Request, reply: Reply) -> dict[str, Any]:
    total, cached, out = usage(request, reply)
    output: list[dict[str, Any]] = []
    if reply.text or not reply.calls:
        part = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        output.append(
            {"type": "message", "id": _id("msg"), "role": "assistant", "status": "completed", "content": [part]}
        )
    output += [
        {
            "type": "function_call",
            "id": _id("fc"),
            "call_id": _id("call"),
            "name": call.name,
            "arguments": json.dumps(call.arguments),
            "status": "completed",
        }
        for call in reply.calls
    ]
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": request.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": total,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": total + out,
        },
    }


def _response_events(request: Request, reply: Reply) -> Iterator[Event]:
    whole = _response(request, reply)
    number = -1

    def event(kind: str, **more: Any) -> Event:
        nonlocal number
        number += 1
        return kind, {"type": kind, "sequence_number": number, **more}

    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(whole["output"]):
        place = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            yield event(
                "response.output_item.added",
                output_index=index,
                item={**item, "status": "in_progress", "content": []},
            )
            part = item["content"][0]
            yield event("response.content_part.added", **place, content_index=0, part={**part, "text": ""})
            for piece in _parts(part["text"]):
                yield event("response.output_text.delta", **place, content_index=0, delta=piece, logprobs=[])
            yield event("response.output_text.done", **place, content_index=0, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **place, content_index=0, part=part)
        else:
            yield event(
                "response.output_item.added",
                output_index=index,
                item={**item, "status": "in_progress", "arguments": ""},
            )
            for piece in _parts(item["arguments"]):
                yield event("response.function_call_arguments.delta", **place, delta=piece)
            yield event(
                "response.function_call_arguments.done", **place, name=item["name"], arguments=item["arguments"]
            )
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.completed", response=whole)


# --- OpenAI Chat Completions -------------------------------------------------------------------------------------


def _completion(request: Request, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.calls:
        message["tool_calls"] = [_chat_call(call) for call in reply.calls]
    reason = "tool_calls" if reply.calls else "stop"
    return {
        **_chat_head(request, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": _chat_usage(request, reply),
    }


def _chat_events(request: Request, reply: Reply) -> Iterator[Event]:
    head = _chat_head(request, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], reason: str | None = None) -> Event:
        return None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    yield chunk({"role": "assistant", "content": ""})
    for part in _parts(reply.text) if reply.text else ():
        yield chunk({"content": part})
    for index, call in enumerate(reply.calls):
        whole = _chat_call(call)
        function = whole["function"]
        yield chunk({"tool_calls": [{"index": index, **whole, "function": {**function, "arguments": ""}}]})
        for part in _parts(function["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield chunk({}, "tool_calls" if reply.calls else "stop")
    if request.wants_usage:
        yield None, {**head, "choices": [], "usage": _chat_usage(request, reply)}
    yield None, "[DONE]"


def _chat_head(request: Request, kind: str) -> dict[str, Any]:
    return {"id": _id("chatcmpl"), "object": kind, "created": 1_700_000_000, "model": request.model}


def _chat_call(call: Call) -> dict[str, Any]:
    return {
        "id": _id("call"),
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
    }


def _chat_usage(request: Request, reply: Reply) -> dict[str, Any]:
    total, cached, out = usage(request, reply)
    return {
        "prompt_tokens": total,
        "completion_tokens": out,
        "total_tokens": total + out,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


# --- small things ------------------------------------------------------------------------------------------------


def _parts(text: str) -> list[str]:
    """At most WORDS pieces; one, perhaps empty, at least."""
    size = max(1, math.ceil(len(text) / WORDS))
    return [text[at : at + size] for at in range(0, len(text), size)] or [""]


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:24]}"
