"""What goes wrong between a seat and its model: limits, errors, silence, a kill, a context that is full."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents.api_seat import ApiSeat
from agents.model_server import ModelServer, Reply
from waiting import wait_for

from org import files
from org.agents import usage
from org.agents.limited import limit_ends
from org.world import process


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def seat(tmp_path: Path, server: ModelServer) -> Iterator[ApiSeat]:
    seat = ApiSeat(tmp_path, server)
    yield seat
    seat.close()


@pytest.fixture(params=["anthropic:stub-small", "openai:stub-small"])
def small(request: pytest.FixtureRequest, tmp_path: Path, server: ModelServer) -> Iterator[ApiSeat]:
    """A model that takes 10,000 tokens."""
    seat = ApiSeat(tmp_path, server, request.param)
    yield seat
    seat.close()


def writes_notes(server: ModelServer) -> None:
    """From now on it writes a handover note when asked for one, and else does what scripts say, or says `carried on`."""
    decide = server.decide
    server.policy = lambda request: Reply("carried on")
    server.decide = lambda request: (  # type: ignore[method-assign]
        Reply("the plan is xylophone") if request.users[-1].endswith("Call no tool.") else decide(request)
    )


@pytest.mark.slow  # a real program in a terminal
@pytest.mark.parametrize("spec", ["anthropic:stub-1", "openai:stub-1"])
@pytest.mark.parametrize("status", [429, 529, 500])
def test_a_busy_service_is_waited_for_in_sight(tmp_path: Path, server: ModelServer, spec: str, status: int) -> None:
    seat = ApiSeat(tmp_path, server, spec)
    try:
        pane = seat.ready()
        before = len(server.turns())
        server.fail(status, times=2, retry_after_s=2)
        pane.type("hello\r")
        pane.until(f"HTTP {status}")
        pane.until("asks again in 1 s")
        pane.type("half a dra")
        pane.until(lambda: pane.seen.rstrip().endswith("half a dra"))  # while it waits
        seat.until_idle(pane, 2)
        rows = server.turns()[before:]
        assert [row.status for row in rows] == [status, status, 200]
        assert all(after.at - one.at > 1.9 for one, after in itertools.pairwise(rows))
        assert seat.states()[-5:] == ["working", "limited", "working", "limited", "working", "idle"][-5:]
        said = seat.events("limited")[0]
        assert f"HTTP {status}" in said["text"] and limit_ends(said["text"], 0.0) == 2, "as long as it really waits"
        assert seat.talk()[-2]["text"] == "hello"
    finally:
        seat.close()


@pytest.mark.slow  # a real program in a terminal
def test_a_refused_key_is_said_once_and_asked_about(seat: ApiSeat) -> None:
    pane = seat.ready()
    seat.server.fail(401)
    pane.type("hello\r")
    pane.until("check the key")
    pane.until(lambda: seat.states()[-1] == "asking")
    before = len(seat.server.turns())
    pane.read(1.0)
    assert len(seat.server.turns()) == before
    pane.type("again\r")
    seat.until_idle(pane, 2)
    assert seat.server.turns()[-1].users[-2:] == ["hello", "again"]


@pytest.mark.slow  # a real program in a terminal
@pytest.mark.parametrize("api", ["anthropic", "openai", "chat"])
def test_a_cut_connection_and_silence_are_asked_again(tmp_path: Path, server: ModelServer, api: str) -> None:
    seat = ApiSeat(tmp_path, server, "openai:stub-1" if api == "chat" else f"{api}:stub-1")
    try:
        pane = seat.ready(ORG_API_SILENCE_S="1.5", ORG_OPENAI_API="chat" if api == "chat" else "")
        server.fail(0)
        pane.type("first\r")
        seat.until_idle(pane, 2)
        stalls = [5.0]
        server.policy = lambda request: Reply("there", stall_s=stalls.pop() if stalls else 0)
        pane.type("second\r")
        seat.until_idle(pane, 3)
        pane.until("there")
        assert len(seat.events("limited")) == 2
        assert [row["kind"] for row in seat.talk()[1:]] == ["user", "assistant"] * 3  # no half answer was kept
    finally:
        seat.close()


@pytest.mark.slow  # a real program in a terminal
def test_a_server_that_knows_only_chat_is_spoken_to_in_chat(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agents import model_server

    monkeypatch.delitem(model_server.PATHS, "/v1/responses")
    seat = ApiSeat(tmp_path, server, "openai:stub-1")
    try:
        pane = seat.ready()
        pane.type("[[bash: echo hi]]\r")
        seat.until_idle(pane, 2)
        assert {row.api for row in server.turns()} == {"chat"} and len(server.refused) == 1
    finally:
        seat.close()


def test_a_killed_seat_goes_on_with_its_history_and_repeats_no_call(seat: ApiSeat) -> None:
    pane = seat.ready()
    pane.type("remember the word xylophone\r")
    seat.until_idle(pane, 2)
    pane.type("[[bash: echo once >> ran; sleep 300]]\r")
    ran = seat.worktree / "ran"
    pane.until(ran.exists)
    pane.until(lambda: any(row["kind"] == "begun" and row["pid"] for row in seat.talk()))
    child = next(row["pid"] for row in seat.talk() if row["kind"] == "begun")
    spent = seat.used()
    pane.kill()
    pane = seat.open()
    seat.until_idle(pane, 3)
    last = seat.server.turns()[-1]
    assert "interrupted: the program ended" in seat.results()[0]["text"] and ran.read_text() == "once\n"
    assert any("xylophone" in text for _, text in last.texts) and "started you again" in last.last
    wait_for(lambda: process.identity(child) is None, what="the end of its command")
    used = seat.used()
    assert used and spent and used.input_tokens > spent.input_tokens
    assert len(usage.of_seat(seat.home, "j1")) == 1


@pytest.mark.slow  # a real program in a terminal
@pytest.mark.parametrize("moment", ["before the answer", "in its middle"])
def test_a_letter_outlives_a_kill_and_is_told_once(seat: ApiSeat, moment: str) -> None:
    pane = seat.ready()
    kind = {"stall_s": 30.0} if moment == "before the answer" else {"slow_s": 30.0}
    seat.server.policy = lambda request: Reply("I will see to it " * 30, **kind)
    letter = seat.letter("water the plants")
    pane.until(lambda: seat.server.heard("water the plants"))
    if moment == "in its middle":
        pane.until("I will see")
    pane.kill()
    assert not seat.events("processed")
    seat.server.policy = lambda request: Reply("I watered them")
    pane = seat.open()
    seat.until_idle(pane, 2)
    last = seat.server.turns()[-1]
    assert sum("water the plants" in text for _, text in last.texts) == 1
    assert [row["letters"] for row in seat.events("processed")] == [[letter]]
    assert not list((seat.home.mailbox("j1") / "new").glob("*.md"))


@pytest.mark.slow  # a real program in a terminal
def test_a_finished_seat_that_is_started_again_asks_nothing(seat: ApiSeat) -> None:
    seat.ready().kill()
    before = len(seat.server.turns())
    pane = seat.open()
    pane.until("I remember our conversation")
    pane.read(1.5)
    assert len(seat.server.turns()) == before and seat.states()[-1] == "ready"


@pytest.mark.slow  # a real program in a terminal
def test_a_torn_conversation_file_is_read_as_far_as_it_goes(seat: ApiSeat) -> None:
    seat.ready().kill()
    path = next(seat.home.seat_talks("j1").glob("*.jsonl"))
    path.write_bytes(path.read_bytes() + b'{"kind": "user", "te')
    pane = seat.open()
    pane.until("I remember our conversation")
    pane.type("hello\r")
    seat.until_idle(pane, 2)
    assert seat.server.turns()[-1].last == "hello"


@pytest.mark.slow  # a real program in a terminal
def test_at_four_fifths_of_the_context_it_hands_over_and_carries_on(small: ApiSeat) -> None:
    pane = small.ready()
    pane.type("work [[tokens: 8200]][[bash: echo first-step]][[bash: echo second-step]]\r")
    writes_notes(small.server)
    pane.until("carried on")
    note = small.home.handover("j1").read_text()
    assert "the plan is xylophone" in note
    last = small.server.turns()[-1]
    assert "the plan is xylophone" in last.users[0] and "`org brief` says" in last.users[0] and len(last.texts) == 1
    assert not any(row.last.startswith("work") and row.texts[-1][0] == "user" for row in small.server.turns()[3:])
    pane.until(lambda: small.states()[-1] == "idle")
    assert len(usage.of_seat(small.home, "j1")) == 2 and len(list(small.home.seat_talks("j1").glob("*"))) == 2
    used = small.used()
    assert used and used.context_tokens < 8000 and small.events("handover")
    assert len(small.results()) == 0  # of the fresh conversation


@pytest.mark.slow  # a real program in a terminal
def test_what_was_typed_meanwhile_is_told_to_the_fresh_conversation(small: ApiSeat) -> None:
    pane = small.ready()
    pane.type("[[tokens: 9000]][[say: nearly full]]\r")
    small.until_idle(pane, 2)
    writes_notes(small.server)
    letter = small.letter("a letter for the next one")
    pane.until("carried on")
    assert "a letter for the next one" in small.server.turns()[-1].last
    pane.until(lambda: small.events("processed"))
    assert small.events("processed")[-1]["letters"] == [letter]


@pytest.mark.slow  # a real program in a terminal
def test_a_kill_between_two_conversations_loses_no_letter(small: ApiSeat) -> None:
    """The letter is read already, and stands in neither mailbox nor answer: the page for the fresh conversation is awaited."""
    slow, there, command = (small.home.root / name for name in ("slow", "there", "org.sh"))
    command.write_text(
        f'#!/bin/sh\n[ "$1" = brief ] && [ -e "{slow}" ] && touch "{there}" && exec sleep 60\n'
        f'exec "{sys.executable}" -m org "$@"\n'
    )
    command.chmod(0o755)
    small.env["ORG_COMMAND"] = json.dumps([str(command)])
    pane = small.ready()
    pane.type("[[tokens: 7500]][[say: nearly full]]\r")
    small.until_idle(pane, 2)
    writes_notes(small.server)
    slow.touch()
    letter = small.letter("water the plants " + "very well " * 300)
    pane.until(there.exists)
    assert not list((small.home.mailbox("j1") / "new").glob("*.md")) and not small.events("processed")
    pane.kill()
    slow.unlink()
    pane = small.open()
    pane.until("carried on")
    assert sum(text.count("water the plants") for _, text in small.server.turns()[-1].texts) == 1
    pane.until(lambda: [row["letters"] for row in small.events("processed")] == [[letter]])


@pytest.mark.slow  # a real program in a terminal
def test_a_conversation_that_does_not_fit_is_handed_over_from_its_end(small: ApiSeat) -> None:
    pane = small.ready()
    pane.type("remember the word xylophone\r")
    small.until_idle(pane, 2)
    writes_notes(small.server)
    refuse = small.server.fault
    limit = 7000

    def fault(request, reply):
        from agents.model_scripts import Fault

        return (
            Fault(413) if len(json.dumps([piece.text for piece in request.pieces])) > limit else refuse(request, reply)
        )

    small.server.fault = fault  # type: ignore[method-assign]
    pane.type("[[bash: seq 2000]]\r")
    pane.until("carried on", 40)
    assert "xylophone" in small.home.handover("j1").read_text()


@pytest.mark.slow  # a real program in a terminal
def test_keys_are_in_no_file_and_on_no_screen_when_the_service_repeats_them(seat: ApiSeat) -> None:
    pane = seat.ready()
    seat.server.fail(400)
    pane.type("hello\r")
    pane.until("does not answer")
    assert "sk-test-key" not in pane.seen + seat.all_files()


@pytest.mark.slow  # a real program in a terminal
def test_a_closed_terminal_ends_it_and_its_command(seat: ApiSeat) -> None:
    pane = seat.ready()
    pane.type("[[bash: echo $$ > shell; sleep 300]]\r")
    pane.until(lambda: (seat.worktree / "shell").exists() and (seat.worktree / "shell").read_text().strip())
    shell = int((seat.worktree / "shell").read_text())
    os.kill(pane.process.pid, signal.SIGHUP)
    assert pane.process.wait(15) == 0
    wait_for(lambda: process.identity(shell) is None, what="the end of its command")


def test_prices_are_read_from_the_home_first(seat: ApiSeat) -> None:
    from org.agents import prices

    assert prices.terms(seat.home, "stub-1").context == 100_000
    ours = prices.terms(seat.home, "claude-opus-5-20260724")
    assert ours.cost(prices.Tokens(1_000_000, 500_000, 100_000, 100_000)) == pytest.approx(2 + 0.25 + 0.625 + 2.5)
    assert prices.terms(seat.home, "nobody-knows").cost(prices.Tokens(5, 0, 0, 5)) is None
    files.replace(seat.home.prompts / "models.yaml", "stub*: {input: cheap}\n")
    with pytest.raises(prices.BadInput, match="input is a number"):
        prices.terms(seat.home, "stub-1")
