"""The model server with the SDKs of the vendors, and with what no SDK would send."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from agents.model_client import APIS, schema, turn
from agents.model_server import ModelServer, RefusingProxy
from waiting import wait_for

BASH: Any = {"name": "Bash", "description": "", "input_schema": schema("command")}
EXEC: Any = {"type": "function", "name": "exec_command", "parameters": schema("cmd"), "strict": False}
KINDS = ("messages", "responses", "chat")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as made:
        yield made


def claude(server: ModelServer, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="stub", **options)


def gpt(server: ModelServer, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="stub", **options)


def ask(server: ModelServer, text: str, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return claude(server, **options).messages.create(model="stub-1", max_tokens=99, messages=messages, tools=[BASH])


# --- scripts, by every API ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", KINDS)
def test_a_script_runs_step_by_step_and_its_results_come_back(server: ModelServer, api: str, tmp_path: Path) -> None:
    said: list[str] = []
    model = APIS[api](server.url, "You are seat `j3` (junior).")
    turn(
        model,
        f"[[say: first]] [[bash: echo one > '{tmp_path}/a b']] [[bash: cat '{tmp_path}/a b']] [[say: end]]",
        said.append,
    )
    assert [line for line in said if line.startswith("*")] == ["* first", "* end"]
    rows = server.turns("j3")
    assert [row.api for row in rows] == [api] * 3
    assert "one" in rows[-1].texts[-1][1] and rows[-1].texts[-1][0] == "result"
    assert all(row.status == 200 and row.is_whole and row.role == "junior" for row in rows)


@pytest.mark.parametrize("api", KINDS)
def test_text_survives_the_way_whole(server: ModelServer, api: str) -> None:
    said: list[str] = []
    turn(APIS[api](server.url, ""), '[[say: é 漢字 \U0001f600 "quoted" \\ back]]', said.append)
    assert said == ['* é 漢字 \U0001f600 "quoted" \\ back']


def test_the_same_answer_comes_without_a_stream(server: ModelServer) -> None:
    text = "[[say: hello]] [[bash: ls]]"
    reply = ask(server, text)
    assert reply.stop_reason == "tool_use" and reply.content[1].input["command"] == "ls"
    response = gpt(server).responses.create(model="stub-1", input=text, tools=[EXEC])
    assert response.output_text == "hello" and json.loads(response.output[1].arguments) == {"cmd": "ls"}
    messages: Any = [{"role": "user", "content": text}]
    tools: Any = [{"type": "function", "function": {"name": "shell", "parameters": schema("command")}}]
    chat = gpt(server).chat.completions.create(model="stub-1", messages=messages, tools=tools)
    assert chat.choices[0].finish_reason == "tool_calls" and chat.choices[0].message.content == "hello"


def test_any_tool_can_be_called_by_name(server: ModelServer) -> None:
    reply = ask(server, '[[tool: org_send {"to": "chief", "text": "hi"}]]')
    assert (reply.content[0].name, reply.content[0].input) == ("org_send", {"to": "chief", "text": "hi"})


def test_a_request_without_tools_gets_a_title_and_is_no_turn(server: ModelServer) -> None:
    response = gpt(server).responses.create(model="stub-1", input="Generate a title for this thread")
    assert response.output_text and len(response.output_text) < 60
    assert server.turns() == [] and len(server.requests) == 1


def test_a_text_that_arrives_while_a_tool_runs_belongs_to_the_turn(server: ModelServer) -> None:
    model = APIS["responses"](server.url, "")
    model.told("[[bash: first]] [[bash: second]]")
    _, calls = model.ask()
    model.done([(calls[0][0], "ok")])
    model.told("a person types in between")
    assert model.ask()[1][0][1] == "second"


def test_a_stopped_turn_is_not_gone_on_with(server: ModelServer) -> None:
    model = APIS["messages"](server.url, "")
    model.told("[[bash: first]] [[bash: second]]")
    _, calls = model.ask()
    model.done([(calls[0][0], "cut off")])
    model.history[-1]["content"].append({"type": "text", "text": "[Request interrupted by user for tool use]"})
    model.told("[[say: something else]]")
    assert model.ask() == ("something else", [])


def test_letters_are_read_and_obeyed(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "org"
    program.write_text("#!/bin/sh\necho 'l-1  task from chief'\necho '[[bash: touch done]] [[say: I did]]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    with ModelServer("obey") as obeying:
        bell = "You have a letter (l-1): read with `org inbox` and act on what it says."
        turn(APIS["messages"](obeying.url, ""), bell, said.append)
    assert (tmp_path / "done").exists() and said[-1] == "* I did"


# --- what goes wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "kind"), [(429, anthropic.RateLimitError), (500, anthropic.InternalServerError)])
def test_an_error_without_a_number_stays(server: ModelServer, status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        ask(server, f"[[err: {status} after 0.05]]", max_retries=2)
    assert [row.status for row in server.requests] == [status] * 3
    assert caught.value.response.headers["retry-after"] == "0.05"  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_an_error_with_a_number_is_over_after_so_many_tries(server: ModelServer, status: int) -> None:
    text = f"[[err: {status} x2 after 0.01]] [[say: here]]"
    assert ask(server, text, max_retries=3).content[0].text == "here"
    assert [row.status for row in server.requests] == [status, status, 200]
    response = gpt(server, max_retries=3).responses.create(model="stub-1", input=text, tools=[EXEC])
    assert response.output_text == "here" and len(server.requests) == 6


def test_a_test_can_order_failures_of_one_seat(server: ModelServer) -> None:
    server.fail(400, seat="j2")
    assert ask(server, "You are j1. [[say: fine]]").content[0].text == "fine"
    with pytest.raises(anthropic.BadRequestError):
        ask(server, "You are j2. [[say: fine]]")
    assert ask(server, "You are j2. [[say: fine]]").content[0].text == "fine"


def test_a_connection_that_ends_halfway_is_seen_as_one(server: ModelServer) -> None:
    model = APIS["messages"](server.url, "")
    model.told("[[say: a rather long sentence]] [[cut: x1]]")
    with pytest.raises((anthropic.APIConnectionError, Exception)) as caught:
        model.ask()
    assert "peer closed" in str(caught.value) or isinstance(caught.value, anthropic.APIConnectionError)
    assert model.ask()[0] == "a rather long sentence"
    assert [row.is_whole for row in server.requests] == [False, True]


def test_a_stalled_answer_sends_its_headers_at_once(server: ModelServer) -> None:
    body = json.dumps({"stream": True, "tools": [BASH], "messages": [{"role": "user", "content": "[[stall: 600]]"}]})
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    line.request("POST", "/v1/messages", body, {"content-type": "application/json"})
    assert line.getresponse().status == 200
    line.close()


def test_a_stalled_answer_comes_after_its_stall(server: ModelServer) -> None:
    started = time.monotonic()
    ask(server, "[[stall: 0.5]] [[say: here]]")
    assert time.monotonic() - started >= 0.5


def test_a_slow_answer_trickles(server: ModelServer) -> None:
    times = []
    messages: Any = [{"role": "user", "content": "[[slow: 0.8]] [[say: one two three four five six]]"}]
    with claude(server).messages.stream(model="m", max_tokens=9, messages=messages) as stream:
        for _ in stream.text_stream:
            times.append(time.monotonic())
    assert len(times) > 2 and times[-1] - times[0] > 0.2


def test_the_end_of_the_block_wakes_who_waits() -> None:
    with ModelServer() as server:
        thread = threading.Thread(target=lambda: ask(server, "[[stall: 600]]"), daemon=True)
        thread.start()
        wait_for(lambda: server.requests, what="its request")
        started = time.monotonic()
    assert time.monotonic() - started < 60


# --- numbers -----------------------------------------------------------------------------------------------------


def test_usage_grows_with_the_conversation_and_can_be_ordered(server: ModelServer) -> None:
    model = APIS["messages"](server.url, "x" * 400)
    turn(model, "[[bash: echo]]", lambda text: None)
    first, second = (row.reply for row in server.turns())
    assert first and second
    usage = ask(server, "a short text").usage
    assert 0 < usage.input_tokens < 500 and usage.output_tokens > 0
    near = ask(server, "[[tokens: 190000]] [[say: full]]").usage
    assert near.input_tokens + near.cache_read_input_tokens == 190_000
    response = gpt(server).responses.create(model="stub-1", input="[[tokens: 190000]]", tools=[EXEC])
    assert response.usage and response.usage.input_tokens == 190_000
    count = claude(server).messages.count_tokens(model="m", messages=[{"role": "user", "content": "y" * 4000}])
    assert 1000 <= count.input_tokens < 1100


def test_a_chat_tells_its_usage_in_a_stream_when_asked(server: ModelServer) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    for options, count in (({}, 0), ({"stream_options": {"include_usage": True}}, 1)):
        chunks = list(gpt(server).chat.completions.create(model="m", messages=messages, stream=True, **options))
        assert sum(chunk.usage is not None for chunk in chunks) == count


# --- many at once, and rubbish -----------------------------------------------------------------------------------


@pytest.mark.slow  # two seconds of requests
def test_many_agents_share_a_port(server: ModelServer) -> None:
    def work(number: int) -> list[str]:
        said: list[str] = []
        model = APIS[KINDS[number % 3]](server.url, f"You are seat `j{number}` (junior).")
        for round_ in range(3):
            turn(model, f"[[bash: echo {number}.{round_}]] [[say: {number} {round_}]]", said.append)
        return [line for line in said if line.startswith("*")]

    with ThreadPoolExecutor(12) as pool:
        for number, said in enumerate(pool.map(work, range(12))):
            assert said == [f"* {number} {round_}" for round_ in range(3)]
    assert len(server.turns()) == 12 * 3 * 2 and len(server.turns("j7")) == 6


def test_a_turn_has_an_end() -> None:
    with ModelServer() as server:
        said: list[str] = []
        turn(APIS["messages"](server.url, ""), "[[bash: true]]" * 200, said.append)
        assert said[-1] == "* That is enough for one turn."


ODD = [
    ("POST", "/v1/messages", b"", 400),
    ("POST", "/v1/messages", b"{", 400),
    ("POST", "/v1/messages", b"[1]", 400),
    ("POST", "/v1/responses", b"\xff\xfe", 400),
    ("POST", "/v1/messages", b"[" * 100_000, 400),
    ("POST", "/v1/nothing", b"{}", 404),
    ("GET", "/", b"", 404),
    ("POST", "/v1/messages", b"{}", 200),
    ("POST", "/v1/responses", b'{"input": 5, "tools": "no", "stream": "yes"}', 200),
    ("POST", "/v1/messages", b'{"messages": [null, 1, {"role": 7, "content": [{"type": "tool_result"}, "x"]}]}', 200),
    ("POST", "/v1/chat/completions", b'{"messages": [{"role": "tool"}, {"tool_calls": [{"function": 3}]}]}', 200),
    ("POST", "/v1/responses", b'{"input": [{"type": "function_call"}, {"type": "x_output", "output": {"a": 1}}]}', 200),
    ("POST", "/v1/messages", b'{"messages": [{"role": "user", "content": "[[err: 999x]] [[tokens: many]] [[slow: -]]"}]}', 200),
    ("POST", "/v1/messages", b'{"messages": [{"role": "user", "content": "\\ud800 [[say: \\udfff]]"}]}', 200),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status"), ODD)
@pytest.mark.parametrize("policy", ["quiet", "competent"])
def test_rubbish_is_answered_and_harms_nobody(method: str, path: str, body: bytes, status: int, policy: str) -> None:
    with ModelServer(policy) as server:
        request = urllib.request.Request(f"{server.url}{path}", body or None, method=method)
        if method == "POST" and not body:
            request.data = b""
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == status and answer.read()
        except urllib.error.HTTPError as error:
            assert error.code == status and json.loads(error.read())["error"]["message"]
        assert ask(server, "[[say: still here]]").content[0].text == "still here"


def test_half_a_request_and_silence_hold_nobody_up(server: ModelServer) -> None:
    lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for line in lines[:10]:
        line.sendall(b"POST /v1/messages HTTP/1.1\r\ncontent-length: 900\r\n\r\n{")
    assert ask(server, "[[say: still here]]").content[0].text == "still here"
    for line in lines:
        line.close()
    assert ask(server, "[[say: still here]]").content[0].text == "still here"


# --- as a program, and the proxy ---------------------------------------------------------------------------------


def test_the_program_serves_and_writes_its_log(tmp_path: Path) -> None:
    script, log = Path(__file__).with_name("model_server.py"), tmp_path / "log.jsonl"
    argv = [sys.executable, str(script), "--port", "0", "--policy", "competent,j2=sloppy", "--log", str(log)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as program:
        assert program.stdout
        try:
            url = program.stdout.readline().strip()
            client = anthropic.Anthropic(base_url=url, api_key="stub")
            text = "You are j2. Run `org brief`, then `org inbox`, and begin."
            reply = client.messages.create(
                model="m", max_tokens=9, messages=[{"role": "user", "content": text}], tools=[BASH]
            )
            assert reply.content[-1].input["command"] == "org brief"
            # the line is written when the answer is out already
            wait_for(lambda: log.is_file() and log.read_text().endswith("\n"), what="the line in the log")
        finally:
            program.terminate()
    row = json.loads(log.read_text())
    assert (row["seat"], row["status"], row["reply"]["calls"][0]["name"]) == ("j2", 200, "Bash")


def test_the_proxy_lets_nothing_through_and_says_who_tried() -> None:
    with RefusingProxy() as proxy, ModelServer() as server:
        code = "import urllib.request, sys\ntry: urllib.request.urlopen(sys.argv[1], timeout=5)\nexcept OSError as e: print(e)"
        env = {**os.environ, **proxy.env()}
        for url in ("https://api.anthropic.com/v1/messages", "http://example.com/"):
            done = subprocess.run(
                [sys.executable, "-c", code, url], env=env, capture_output=True, text=True, check=True
            )
            assert "403" in done.stdout
        argv = [sys.executable, "-c", code, f"{server.url}/v1/models"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "", "what is on this machine needs no proxy"
        tunnel, plain = proxy.attempts
        assert tunnel.startswith("CONNECT api.anthropic.com:443 ") and plain.startswith("GET http://example.com/ ")
        assert server.refused == []
