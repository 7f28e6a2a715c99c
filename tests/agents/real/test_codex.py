"""Codex in a seat, under the real office, against the loopback model server."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents.model_server import ModelServer, RefusingProxy
from agents.real.deliveries import measure, summary
from agents.real.stage import KEY, RealOrg, bell, counted
from waiting import wait_for

from org import files
from org.agents.codex import usage_of
from org.team import launch, seats

pytestmark = pytest.mark.agents

SPEC = "codex=stub-1"  # a model that Codex does not know: it offers plain tools then
QUESTION = {
    "questions": [{"id": "q", "header": "Pick", "question": "Which?", "options": [{"label": "A", "description": "a"}]}]
}
VENDOR = "api.openai.com"
ANNOUNCEMENT = "CONNECT raw.githubusercontent.com:443 HTTP/1.1"  # tried once a start; no switch is known


@pytest.fixture
def proxy() -> Iterator[RefusingProxy]:
    """What would leave loopback is refused; all that tries is the program's look for an announcement."""
    with RefusingProxy() as made:
        yield made
        assert set(made.attempts) <= {ANNOUNCEMENT}


def test_the_first_screen_is_a_prompt_and_the_role_is_in_the_request(stage: RealOrg) -> None:
    stage.start(SPEC)
    [first] = stage.server.turns("j1")
    assert first.model == "stub-1"
    assert (stage.home.seat("j1") / "role.md").read_text().strip() in first.system
    assert first.users[-1].startswith("You are j1. Run `org brief`")
    assert "\u203a Ask Codex" in stage.screen("j1")


@pytest.mark.parametrize("kinds", [("idle",), ("tool", "stream"), ("draft",)], ids=" ".join)
def test_every_letter_is_heard_once_and_in_its_exact_words(stage: RealOrg, kinds: tuple[str, ...]) -> None:
    stage.start(SPEC, juniors=2)
    count = counted(20 if kinds == ("draft",) else 50)
    row = summary(measure(stage, ("j1", "j2"), [kinds[at // 2 % len(kinds)] for at in range(count)]))
    print(row)
    assert row["faults"] == []


def test_a_letter_does_not_cut_an_answer_off(stage: RealOrg) -> None:
    stage.start(SPEC)
    stage.order("j1", "[[slow: 4]] [[say: a long answer, which is worth its tokens]]")
    wait_for(lambda: stage.heard("j1", "slow: 4"), 20, "the answer to begin")
    letter = stage.letter("j1").id
    wait_for(lambda: stage.heard("j1", letter), 30, "the model to hear of it")
    [cut, *_] = [row for row in stage.server.turns("j1") if "slow: 4" in row.last]
    assert cut.is_whole and not any("interrupted" in text for text in stage.told("j1"))


def test_the_state_shown_is_the_true_one(stage: RealOrg) -> None:
    """Every state by what the program really does; what no hook tells comes from its screen and its session."""
    stage.start(SPEC)
    stage.order("j1", "[[bash: sleep 3]] [[say: slept]]")
    stage.wait_state("j1", "working")
    stage.wait_state("j1", "ready")

    stage.order("j1", "/model")  # a list to choose from: a letter must not choose
    stage.wait_state("j1", "asking")
    letter = stage.letter("j1").id
    time.sleep(3)
    assert stage.state("j1") == "asking" and not stage.heard("j1", letter)
    stage.keys("j1", "Escape")
    wait_for(lambda: stage.heard("j1", letter) == 1, 20, "the letter to come once the list is closed")
    stage.acknowledge("j1", letter)
    stage.wait_state("j1", "ready")

    stage.order("j1", "/plan")  # the model may ask the person there
    wait_for(lambda: "Plan mode" in stage.screen("j1"), 10, "plan mode")
    stage.order("j1", f"[[tool: request_user_input {json.dumps(QUESTION)}]]")
    stage.wait_state("j1", "asking")
    stage.keys("j1", "Escape")  # interrupted
    stage.wait_state("j1", "ready")
    stage.order("j1", "[[slow: 30]] [[say: never ends]]")
    stage.wait_state("j1", "working")
    stage.keys("j1", "Escape")
    stage.wait_state("j1", "ready")

    stage.order("j1", "/compact")
    wait_for(lambda: "compacted" in str(stage.events("j1")[-1].get("text")), 20, "the compaction to end")
    assert "is being compacted" in str([row.get("text") for row in stage.events("j1")])
    stage.wait_state("j1", "ready")
    stage.order("j1", "[[say: and now]]")
    wait_for(lambda: stage.was_sent("This is where you stand:"), 20, "the brief, after the compaction")
    stage.wait_state("j1", "ready")

    stage.order("j1", "[[err: 503 x2]] [[say: there again]]")  # it waits and tries again
    stage.wait_state("j1", "working")
    stage.wait_state("j1", "ready", 40)
    stage.order("j1", "[[err: 429]]")
    stage.wait_state("j1", "limited")
    assert stage.status("j1")["quiet"] == "rate limited"
    stage.order("j1", "a person goes on all the same")
    stage.wait_state("j1", "ready")

    killed = stage.pid("j1")
    os.kill(killed, signal.SIGKILL)
    stage.wait_restarted("j1", killed)
    stage.wait_state("j1", "ready", 30)


def test_killed_in_a_turn_it_goes_on_with_its_history_and_no_letter_twice(stage: RealOrg) -> None:
    stage.start(SPEC)
    read, told = stage.letter("j1").id, stage.letter("j1").id
    wait_for(lambda: stage.heard("j1", read) and stage.heard("j1", told), 30, "the model to hear of both")
    stage.acknowledge("j1", read)
    stage.wait_state("j1", "ready")
    runs = stage.home.worktree("j1") / "runs.txt"  # elsewhere the hook would not let it be
    stage.order("j1", f"number one [[bash: echo run >> '{runs}'; sleep 30]]")
    wait_for(runs.exists, 20, "the tool call to begin")
    stage.order("j1", "typed while it works")
    before = stage.pid("j1")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: stage.heard("j1", "started you again"), 40, "the session to be resumed")
    stage.wait_state("j1", "ready")
    told_all = stage.told("j1")
    assert sum("number one" in text for text in told_all) == 1 and stage.pid("j1") != before
    assert [stage.heard("j1", letter) for letter in (read, told)] == [1, 1]
    assert runs.read_text() == "run\n"
    later = stage.letter("j1").id
    wait_for(lambda: stage.heard("j1", later) == 1, 30, "a letter to the resumed session")
    assert [stage.heard("j1", letter) for letter in (read, told)] == [1, 1]


def test_an_office_killed_while_it_hands_a_line_over_does_not_hand_it_over_again(
    stage: RealOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORG_FAILPOINT", "doorbell.handed")
    stage.start(SPEC)
    stage.tmux("send-keys", "-t", stage.pane("j1"), "-l", "--", "half a thought")
    wait_for(lambda: "half a thought" in stage.screen("j1"), 10, "the draft to stand there")
    letter = stage.letter("j1").id
    wait_for(lambda: not files.is_locked(stage.home.office_lock), 20, "the office to be killed")
    monkeypatch.setenv("ORG_FAILPOINT", "none")  # tmux keeps what the first pane got
    stage.launch()
    wait_for(lambda: stage.heard("j1", letter), 30, "the model to hear of it")
    time.sleep(14)  # the queue is looked at every 10 s
    assert stage.heard("j1", letter) == 1 and "half a thought" in stage.screen("j1")
    said = json.loads(stage.home.bell("j1").read_text())
    assert said["line"] is None and said["letters"][letter]["told"] == "accepted"


def test_a_line_in_the_queue_of_a_killed_program_comes_once(stage: RealOrg) -> None:
    stage.start(SPEC)
    stage.order("j1", "[[slow: 30]] [[say: a long answer]]")
    stage.wait_state("j1", "working")
    stage.tmux("send-keys", "-t", stage.pane("j1"), "-l", "--", "half a thought")
    wait_for(lambda: "half a thought" in stage.screen("j1"), 10, "the draft to stand there")
    letter = stage.letter("j1").id
    bell = stage.home.bell("j1")
    wait_for(lambda: bell.exists() and '"is_queued": true' in bell.read_text(), 20, "the line to be handed over")
    wait_for(lambda: not files.is_locked(stage.home.seat("j1") / "queue.lock"), 20, "the queue to take it")
    os.kill(stage.pid("j1"), signal.SIGKILL)
    wait_for(lambda: stage.heard("j1", "started you again"), 40, "the session to be resumed")
    wait_for(lambda: stage.heard("j1", letter), 40, "the model to hear of it")
    time.sleep(14)
    assert stage.heard("j1", letter) == 1


def test_what_it_used_is_read_from_its_session(stage: RealOrg) -> None:
    stage.start(SPEC)
    stage.order("j1", "[[tokens: 4000]] [[say: counted]]")
    wait_for(lambda: stage.heard("j1", "tokens: 4000"), 20, "the order to be heard")
    stage.wait_state("j1", "ready")
    seat = seats.require(stage.home, "j1")
    found = wait_for(lambda: [u for u in usage_of(stage.home, seat) if u.input_tokens >= 4000], 10, "the counts")
    assert len(found) == 1 and found[0].model == "stub-1" and found[0].output_tokens > 0
    assert 4000 <= found[0].context_tokens <= 4100 and found[0].context_limit > 100_000 and found[0].cost_usd is None
    before = found[0].tokens
    os.kill(stage.pid("j1"), signal.SIGKILL)
    wait_for(lambda: stage.heard("j1", "started you again"), 40, "the session to be resumed")
    stage.wait_state("j1", "ready")
    [after] = wait_for(lambda: [u for u in usage_of(stage.home, seat) if u.tokens > before], 10, "more to be counted")
    assert after.session == found[0].session


def test_the_key_is_the_programs_alone(stage: RealOrg) -> None:
    """Commands that the model runs do not see it, and it lies nowhere in the organisation's folders."""
    stage.start(SPEC)
    stage.order("j1", '[[bash: echo "key=$OPENAI_API_KEY seat=$ORG_SEAT $(command -v org)"]] [[say: seen]]')
    wait_for(lambda: stage.heard("j1", "seat=j1"), 20, "the command's output")
    assert any(f"key= seat=j1 {Path(sys.executable).parent}/org" in text for text in stage.told("j1"))
    stage.wait_state("j1", "ready")
    for path in stage.home.root.rglob("*"):
        assert path.is_symlink() or not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert stage.home.seat("j1").joinpath("codex").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("has_login", [True, False])
def test_a_person_needs_no_configuration(
    place: Path, proxy: RefusingProxy, monkeypatch: pytest.MonkeyPatch, has_login: bool
) -> None:
    """With a login, or else a key, it starts at its prompt and asks the vendor, which the proxy refuses here."""
    if has_login:
        theirs = place / "person" / ".codex"
        theirs.mkdir(mode=0o700)
        (theirs / "auth.json").write_text(json.dumps({"auth_mode": "apikey", "OPENAI_API_KEY": KEY}))
    else:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ModelServer() as nobody:  # not asked
        stage = RealOrg(place, nobody)
        try:
            stage.launch(chief=0, juniors=1, agents=[("codex", None)])
            wait_for(lambda: any(VENDOR in attempt for attempt in proxy.attempts), 30, "the vendor to be asked")
            assert "sign in" not in stage.screen("j1").lower() and "You are j1." in stage.screen("j1")
            assert nobody.requests == []
            for path in stage.home.root.rglob("*"):
                assert path.is_symlink() or not path.is_file() or KEY.encode() not in path.read_bytes(), path
        finally:
            launch.stop(stage.home, lambda line: None)
            asked, proxy.attempts[:] = set(proxy.attempts), []
    assert asked <= {ANNOUNCEMENT, *(f"CONNECT {name}:443 HTTP/1.1" for name in (VENDOR, "chatgpt.com"))}


def test_without_a_login_or_a_key_it_asks_the_person(place: Path) -> None:
    """Nothing is typed into that dialog, and the seat shows that somebody is needed."""
    with ModelServer() as nobody:
        stage = RealOrg(place, nobody)
        try:
            stage.launch(chief=0, juniors=1, agents=[("codex", None)])
            stage.wait_state("j1", "asking", 30)
            letter = stage.letter("j1").id
            time.sleep(3)
            assert letter not in stage.screen("j1") and stage.is_unread("j1", letter)
        finally:
            launch.stop(stage.home, lambda line: None)


def test_the_vendors_own_model_is_driven_too(stage: RealOrg) -> None:
    """Its tools come in another form than those of a model that the program does not know."""
    stage.start("codex")
    letter = stage.letter("j1").id

    def heard() -> list[str]:
        mine = [row for row in list(stage.server.requests) if row.seat == "j1"]
        return [text for text in mine[-1].users if letter in text] if mine else []

    assert wait_for(heard, 20, "the model to hear of it") == [bell(letter)]
    stage.wait_state("j1", "ready")
