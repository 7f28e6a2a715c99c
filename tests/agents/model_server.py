"""A model server on loopback that needs no model: Anthropic Messages, OpenAI Responses and Chat Completions, with streams
and tools, for real agent programs and SDKs. What it answers a script in the prompt says (`model_scripts`), else a policy
(`model_policies`). Keeps every request that came.

    with ModelServer(policy="obey") as server:  # base URL: server.url for Anthropic, server.url + "/v1" for OpenAI
    python tests/agents/model_server.py --port 18080 --policy competent --log requests.jsonl
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from agents import model_speech
from agents.model_dialogue import API, Request, read
from agents.model_policies import obey
from agents.model_policies import policy as policy_of
from agents.model_proxy import RefusingProxy
from agents.model_scripts import Fault, Policy, Reply, poll, scripted

__all__ = ["ModelServer", "Recorded", "RefusingProxy", "Reply"]

PATHS: dict[str, API] = {
    "/v1/messages": "messages",
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
}
MAX_BODY = 64 * 1024 * 1024
TITLE = "A research seat at work"  # the answer to a request without tools, such as Codex's for a thread's title


@dataclass
class Recorded:
    """One request as it came, and what became of it. `texts`: (user | assistant | call | result, text) in order."""

    api: API
    seat: str | None
    role: str | None
    model: str
    system: str
    texts: list[tuple[str, str]]
    tools: list[str]
    at: float  # Unix seconds
    body: dict[str, Any] = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    status: int = 0
    reply: Reply | None = None
    is_whole: bool = False  # the answer went out to its end

    @property
    def users(self) -> list[str]:
        """What was told to the model."""
        return [text for who, text in self.texts if who == "user"]

    @property
    def last(self) -> str:
        """The newest text of the user's."""
        return next((text for who, text in reversed(self.texts) if who == "user"), "")


class ModelServer:
    """Serves from a port of its own in threads from the beginning of the block to its end."""

    def __init__(self, policy: str | Policy = "quiet", port: int = 0, log: Path | None = None) -> None:
        self.policy = policy_of(policy) if isinstance(policy, str) else policy
        self.log = log
        self.requests: list[Recorded] = []
        self.refused: list[tuple[str, str]] = []  # (method, path) of what is no model's API
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._failed: Counter[str] = Counter()
        self._faults: list[tuple[str | None, Fault]] = []
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    # --- for tests

    def turns(self, seat: str | None = None) -> list[Recorded]:
        """Requests of agents at work, a seat's or all: those that offer tools."""
        with self._lock:
            return [row for row in self.requests if row.tools and seat in (None, row.seat)]

    def heard(self, text: str, seat: str | None = None) -> list[Recorded]:
        """The requests in which the model was told, or got back from a tool, `text`."""
        return [
            row for row in self.turns(seat) if any(text in said for who, said in row.texts if who in ("user", "result"))
        ]

    def wait(
        self, condition: Callable[[], Any], limit_s: float = 30.0, what: str = "the model server's request"
    ) -> Any:
        """The condition's first true value. Raises AssertionError after the limit."""
        end = time.monotonic() + limit_s
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"not within {limit_s:.0f} s: {what}")
            time.sleep(0.02)
        return value

    def fail(self, status: int, times: int = 1, seat: str | None = None, retry_after_s: float | None = None) -> None:
        """Answer the next requests (a seat's, or any) with this status; 0 cuts the connection halfway."""
        with self._lock:
            self._faults.append((seat, Fault(status, times, retry_after_s)))

    # --- what is answered

    def decide(self, request: Request) -> Reply:
        """The script's answer, else the policy's; a request without tools gets a title."""
        if not request.tools:
            return scripted(request) or Reply(TITLE)
        if (waiting := poll(request)) is not None:
            return waiting
        request = request.without_polls
        if self.policy is obey:  # it reads the scripts in letters too, in their order
            return obey(request)
        return scripted(request) or self.policy(request)

    def record(self, row: Recorded) -> None:
        with self._lock:
            self.requests.append(row)

    def write(self, row: Recorded) -> None:
        """The log's line of a request that is over."""
        if self.log is None:
            return
        line = {
            "at": round(row.at, 3),
            "api": row.api,
            "seat": row.seat,
            "status": row.status,
            "whole": row.is_whole,
            "last": row.texts[-1:],
            "reply": row.reply and {"text": row.reply.text, "calls": [vars(call) for call in row.reply.calls]},
        }
        with self._lock, self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def fault(self, request: Request, reply: Reply) -> Fault | None:
        """The failure that is due now: one that a test ordered, or the script's. Counted by the conversation, which a
        retry repeats word for word."""
        with self._lock:
            for at, (seat, fault) in enumerate(self._faults):
                if seat in (None, request.seat) and request.tools:
                    left = (fault.times or 1) - 1
                    self._faults[at : at + 1] = [(seat, replace(fault, times=left))] if left else []
                    return fault
            digest = hashlib.sha256(
                repr((request.api, request.model, request.system, request.pieces)).encode()
            ).hexdigest()
            for at, fault in enumerate(reply.faults):
                key = f"{digest} {at}"
                if fault.times is None or self._failed[key] < fault.times:
                    self._failed[key] += 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    owner: ModelServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)  # a client that went away is ordinary, a bug is not


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 600
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `requests` has it all."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/v1/models":
            row = {"id": "stub-1", "object": "model", "type": "model", "created": 1_700_000_000, "owned_by": "stub"}
            self._send(200, {"object": "list", "data": [row], "has_more": False, "first_id": None, "last_id": None})
            return
        self._refuse(404, f"no {path:.80} here")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        api = PATHS.get(path.removesuffix("/count_tokens"))
        if api is None:
            self._refuse(404, f"no {path:.80} here")
            return
        body = self._body(api)
        if body is None:
            return
        request = read(api, body)
        if path.endswith("/count_tokens"):
            self._send(200, {"input_tokens": model_speech.usage(request, Reply())[0]})
            return
        owner = self.server.owner
        row = Recorded(
            api=api,
            seat=request.seat,
            role=request.role,
            model=request.model,
            system=request.system,
            texts=[(piece.who, f"{piece.name} {piece.text}".strip()) for piece in request.pieces],
            tools=[tool.name for tool in request.tools],
            at=time.time(),
            body=body,
            headers={name.lower(): value for name, value in self.headers.items()},
        )
        owner.record(row)
        row.reply = owner.decide(request)
        try:
            self._answer(request, row.reply, row)
        except BaseException:
            row.is_whole = False
            raise
        finally:
            owner.write(row)

    def _answer(self, request: Request, reply: Reply, row: Recorded) -> None:
        """What became of it stands in `row` before the client can know it."""
        owner = self.server.owner
        fault = owner.fault(request, reply)
        row.status = fault.status if fault is not None and fault.status else 200
        if fault is not None and fault.status:
            headers = {}
            if fault.retry_after_s is not None or fault.status == 429:
                headers["retry-after"] = f"{1 if fault.retry_after_s is None else fault.retry_after_s:g}"
            text = f"the stand-in model was asked to fail with {fault.status}"
            row.is_whole = True
            self._send(fault.status, model_speech.error(request.api, fault.status, text), headers)
        elif request.is_streamed:
            self._stream(request, reply, row, fault is not None)
        elif fault is None:
            owner.closing.wait(reply.stall_s + reply.slow_s)
            row.is_whole = True
            self._send(200, model_speech.document(request, reply))
        else:
            self.close_connection = True
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "4096")
            self.end_headers()
            self.wfile.write(b'{"id": ')

    def _stream(self, request: Request, reply: Reply, row: Recorded, is_cut: bool) -> None:
        owner = self.server.owner
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("cache-control", "no-cache")
        self.send_header("request-id", "req_stub")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        owner.closing.wait(reply.stall_s)
        events = list(model_speech.stream(request, reply))
        for number, (name, data) in enumerate(events):
            if is_cut and number == len(events) // 2:
                self.close_connection = True
                return
            row.is_whole = number == len(events) - 1
            text = data if isinstance(data, str) else json.dumps(data)
            self._chunk((f"event: {name}\n" if name else "") + f"data: {text}\n\n")
            if reply.slow_s and number < len(events) - 1:
                owner.closing.wait(reply.slow_s / (len(events) - 1))
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _body(self, api: API) -> dict[str, Any] | None:
        """The JSON object that came, or None when it was none and the client was told so."""
        try:
            size = int(self.headers.get("content-length") or -1)
        except ValueError:
            size = -1
        if not 0 <= size <= MAX_BODY:
            self.close_connection = True
            status = 413 if size > MAX_BODY else 411
            self._send(status, model_speech.error(api, status, "a body with a content-length is needed"))
            return None
        data = self.rfile.read(size)
        try:
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            body = json.loads(data)
        except (ValueError, OSError, EOFError, RecursionError):
            body = None
        if not isinstance(body, dict):
            self._send(400, model_speech.error(api, 400, "the body is no JSON object"))
            return None
        return body

    def _refuse(self, status: int, message: str) -> None:
        self.server.owner.refused.append((self.command, self.path))
        self.close_connection = True
        self._send(status, model_speech.error(None, status, message))

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-type": "application/json", "request-id": "req_stub", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
            self.wfile.flush()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=18080, help="on loopback; 0: any that is free")
    parser.add_argument("--policy", default="quiet", help="what answers without a script: see model_policies")
    parser.add_argument("--log", type=Path, help="a line of JSON for each request is added to this file")
    options = parser.parse_args(argv)
    with ModelServer(options.policy, options.port, options.log) as server:
        print(server.url, flush=True)
        parent = os.getppid()
        while os.getppid() == parent:  # it ends with who started it
            time.sleep(0.5)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
