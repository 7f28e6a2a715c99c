"""Claude Code in a seat, under the real office, against the loopback model server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from agents.model_server import RefusingProxy
from agents.real.deliveries import measure, summary
from agents.real.stage import KEY, RealOrg, bell, counted
from waiting import wait_for

from org.agents import claude
from org.agents.base import own_session

pytestmark = pytest.mark.agents

WORK = "[[bash: python3 -c 'import time; time.sleep(6)']] [[say: done]]"
QUESTION = {
    "question": "Which one?",
    "header": "Pick",
    "multiSelect": False,
    "options": [{"label": "one", "description": "the first"}, {"label": "two", "description": "the second"}],
}
ASK = f"[[tool: AskUserQuestion {json.dumps({'questions': [QUESTION]})}]] [[say: thanks]]"


def config(stage: RealOrg) -> Path:
    return stage.home.seat("j1") / "claude"


def test_the_first_screen_is_a_prompt_and_the_role_is_the_systems(stage: RealOrg) -> None:
    stage.start("claude=claude-opus-4-6")
    [first] = stage.server.turns("j1")
    assert first.model == "claude-opus-4-6"
    assert (stage.home.seat("j1") / "role.md").read_text().strip() in first.system
    assert first.users[-1].startswith("You are j1. Run `org brief`")
    assert not set(first.tools) & set(claude.WITHHELD)
    assert config(stage).stat().st_mode & 0o077 == 0


def test_a_key_that_is_another_one_at_the_next_start_opens_no_dialog(
    stage: RealOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.start("claude")
    stage.stop()
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY[:-4] + "1234")
    stage.launch()
    wait_for(lambda: stage.heard("j1", "started you again"), 60, "the second start's first turn")
    assert stage.server.turns("j1")[-1].headers.get("X-Api-Key", KEY[:-4] + "1234").endswith("1234")


def test_the_persons_own_login_is_used_where_it_lies_and_copied_nowhere(
    stage: RealOrg, proxy: RefusingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    secret = "sk-ant-oat01-not-a-real-token-0000000000"
    login = {
        "accessToken": secret,
        "refreshToken": "sk-ant-ort01-not-a-real-token-0000000000",
        "expiresAt": int((time.time() + 30 * 86400) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    path = Path(os.environ["HOME"]) / ".claude" / ".credentials.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"claudeAiOauth": login}))
    path.chmod(0o600)
    stage.start("claude")
    headers = {name.lower(): value for name, value in stage.server.turns("j1")[0].headers.items()}
    assert headers.get("authorization") == f"Bearer {secret}", sorted(headers)
    found = subprocess.run(
        ["grep", "-rl", "not-a-real-token", stage.home.root], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    stage.stop()
    assert set(proxy.attempts) <= {
        "CONNECT api.anthropic.com:443 HTTP/1.1"
    }  # who it is that logged in: refused, no harm
    proxy.attempts.clear()


@pytest.mark.parametrize("kinds", [("idle",), ("tool", "stream"), ("draft",), ("stalled",)], ids=" ".join)
def test_every_letter_is_heard_once_and_in_its_exact_words(stage: RealOrg, kinds: tuple[str, ...]) -> None:
    stage.start("claude", juniors=2)
    count = counted(20 if kinds[0] in ("draft", "stalled") else 50)
    row = summary(measure(stage, ("j1", "j2"), [kinds[at // 2 % len(kinds)] for at in range(count)]))
    print(json.dumps(row))
    assert row["faults"] == []


def test_killed_in_the_middle_of_a_turn_it_goes_on_with_its_history_and_hears_no_letter_twice(stage: RealOrg) -> None:
    stage.start("claude")
    first = stage.letter("j1").id
    wait_for(lambda: stage.heard("j1", first), 60, "the first letter")
    stage.acknowledge("j1", first)
    mark = stage.home.root.parent / "mark"  # within the home the hook denies it
    stage.order("j1", f"an order of before [[bash: touch {mark}; python3 -c 'import time; time.sleep(60)']]")
    wait_for(mark.exists, 20, "its tool call")
    session, pid = own_session(stage.home, stage.seat("j1")), stage.pid("j1")
    os.kill(pid, signal.SIGKILL)
    second = stage.letter("j1").id
    wait_for(lambda: stage.heard("j1", "The organisation started you again"), 60, "its next start")
    wait_for(lambda: stage.heard("j1", second), 60, "the second letter")
    stage.acknowledge("j1", second)
    stage.wait_state("j1", "ready")
    assert stage.pid("j1") != pid
    assert [stage.heard("j1", bell(letter)) for letter in (first, second)] == [1, 1]
    assert [stage.heard("j1", letter) for letter in (first, second)] == [1, 1]
    assert stage.heard("j1", "an order of before") == 1
    assert stage.server.turns("j1")[-1].headers.get("X-Claude-Code-Session-Id", session) == session


def test_the_state_shown_is_the_truth(stage: RealOrg, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = "AskUserQuestion"  # else withheld, so that no seat waits for a person
    monkeypatch.setattr(claude, "WITHHELD", tuple(name for name in claude.WITHHELD if name != asking))
    stage.start("claude")

    stage.order("j1", f"a tool call {WORK}")
    stage.wait_state("j1", "working", 15)
    stage.wait_state("j1", "ready")

    stage.order("j1", f"to be interrupted {WORK.replace('6', '60')}")
    stage.wait_state("j1", "working", 15)
    time.sleep(2)  # the tool call is under way
    stage.keys("j1", "Escape")
    stage.wait_state("j1", "ready", 15)

    stage.order("j1", f"a question {ASK}")
    stage.wait_state("j1", "asking", 30)
    letter = stage.letter("j1").id
    time.sleep(3)
    assert stage.state("j1") == "asking" and "dialog" in str(stage.status("j1")["quiet"])
    assert stage.heard("j1", letter) == 0
    stage.keys("j1", "Enter")
    wait_for(lambda: stage.heard("j1", bell(letter)), 30, "the letter after the dialog")
    assert stage.heard("j1", "[Request interrupted by user")
    stage.acknowledge("j1", letter)
    stage.wait_state("j1", "ready")

    stage.server.fail(529, times=4, seat="j1")
    stage.order("j1", "overloaded [[say: at last]]")
    stage.wait_state("j1", "limited", 30)
    stage.wait_state("j1", "ready", 60)

    stage.order("j1", "/compact")
    wait_for(lambda: any("compacted" in str(row.get("text")) for row in stage.events("j1")), 20, "the compaction")
    stage.wait_state("j1", "ready", 30)
    stage.order("j1", "[[say: and now]]")
    wait_for(lambda: stage.was_sent("This is where you stand:"), 20, "the brief, after the compaction")
    stage.wait_state("j1", "ready", 30)

    killed = stage.pid("j1")
    os.kill(killed, signal.SIGKILL)
    stage.wait_restarted("j1", killed)
    stage.wait_state("j1", "ready", 60)
