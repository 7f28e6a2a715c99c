"""The hook of Claude Code and Codex: what it writes down, what it denies, what it tells the model. Run as they run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org import files
from org.agents import hook, statusline, usage
from org.home import Home
from org.records import Seat


def env_of(home: Home) -> dict[str, str]:
    events = home.seat_events("j1")
    events.parent.mkdir(parents=True, exist_ok=True)
    python = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return {"ORG_HOME": str(home.root), "ORG_SEAT": "j1", "ORG_EVENTS": str(events), "PATH": python}


def run(home: Home, given: object, program: str = "") -> tuple[list[dict[str, Any]], Any]:
    """The lines that this call added to the seat's events, and what it said."""
    events = home.seat_events("j1")
    events.unlink(missing_ok=True)
    text = given if isinstance(given, str) else json.dumps(given)
    argv = ["sh", "-c", program or hook.command()]
    done = subprocess.run(argv, input=text, env=env_of(home), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    rows = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    return rows, json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout


def send(home: Home, letter: str) -> None:
    box = home.mailbox("j1") / "new"
    box.mkdir(parents=True, exist_ok=True)
    (box / f"{letter}.md").write_text("x")


def tool(name: str, **given: str) -> dict[str, Any]:
    return {"hook_event_name": "PreToolUse", "session_id": "s-1", "tool_name": name, "tool_input": given}


def test_states_are_told_and_which_letters_were_submitted(tiny_home: Home) -> None:
    send(tiny_home, "l-260101-000000-abc")
    prompt = "You have a letter (l-260101-000000-abc): read with `org inbox`, not l-260101-000000-zzz"
    rows, _ = run(tiny_home, {"hook_event_name": "UserPromptSubmit", "session_id": "s-1", "prompt": prompt})
    assert [row["event"] for row in rows] == ["working", "processed"]
    assert rows[0]["session"] == "s-1" and rows[1]["letters"] == ["l-260101-000000-abc"]
    assert "typed" not in rows[0]  # a doorbell's line
    [typed], _ = run(tiny_home, {"hook_event_name": "UserPromptSubmit", "prompt": "stop that"})
    assert (typed["event"], typed["text"], typed["typed"]) == ("working", "stop that", True)
    [stopped], _ = run(tiny_home, {"hook_event_name": "Interrupt"})
    assert (stopped["event"], stopped["interrupted"]) == ("idle", True)
    asking = {"hook_event_name": "Notification", "notification_type": "permission"}
    for event, said in [
        ({"hook_event_name": "StopFailure", "error": "overloaded"}, ("limited", "overloaded")),
        ({"hook_event_name": "StopFailure", "error": "invalid_request"}, ("idle", "invalid_request")),
        (asking, ("asking", "")),
        ({"hook_event_name": "PreCompact"}, ("working", "its context is being compacted")),
        ({"hook_event_name": "Interrupt"}, ("idle", "")),
        (tool("Bash", command="org results"), ("working", "Bash: org results")),
    ]:
        [row], _ = run(tiny_home, event)
        assert (row["event"], row["text"]) == said


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("PermissionRequest", {"tool_name": "Bash"}, "asking"),
        ("Interrupt", {}, "idle"),
        ("PreCompact", {"trigger": "manual"}, "working"),
        ("PostCompact", {"trigger": "manual"}, "idle"),
        ("PostCompact", {"trigger": "auto"}, None),
        ("SessionStart", {"source": "compact"}, "working"),
    ],
)
def test_codex_own_events_are_known(tiny_home: Home, name: str, more: dict[str, str], said: str | None) -> None:
    rows, _ = run(tiny_home, {"hook_event_name": name, "session_id": "s-1", **more})
    assert [row["event"] for row in rows] == ([said] if said else [])


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"hook_event_name": 3}', '{"hook_event_name": "New"}'])
def test_it_never_fails_a_turn(tiny_home: Home, text: str) -> None:
    assert run(tiny_home, text) == ([], "")


def test_what_is_not_the_seats_is_denied_and_written_down(tiny_home: Home) -> None:
    other = tiny_home.worktree("j2") / "nanochat" / "train.py"
    for call in (
        tool("Bash", command=f"echo '{{}}' >> {quote(str(tiny_home.ledger))}"),
        tool("exec_command", cmd=f"cat > {quote(str(tiny_home.mailbox('j1') / 'new' / 'x.md'))} <<E\nfrom: chief\nE"),
        tool("Edit", file_path=str(other), old_string="a", new_string="b"),
        tool("Write", file_path=str(tiny_home.root / "prompts" / "charter.yaml"), content=""),
    ):
        [row], said = run(tiny_home, call)
        decision = said["hookSpecificOutput"]
        assert decision["permissionDecision"] == "deny" and decision["permissionDecisionReason"]
        assert row["event"] == "denied" and row["text"] == decision["permissionDecisionReason"][:300]
    for call in (tool("Bash", command="org run -m x --no-wait"), tool("Read", file_path="train.py")):
        [row], said = run(tiny_home, call)
        assert said == "" and row["event"] == "working"


def test_a_call_that_cannot_be_looked_at_is_denied(tiny_home: Home) -> None:
    """What makes the hook itself fail is no way past it."""
    much = tool("Write", file_path=str(tiny_home.ledger), content="x" * hook.MAX_INPUT)
    deep = json.dumps(tool("Bash", command="rm train.py")).replace('"rm train.py"', "[" * 200_000)
    odd = tool("Bash", command=f"echo x >> {quote(str(tiny_home.ledger))}; cat \ud800/x")
    for call in (much, deep, odd):
        [row], said = run(tiny_home, call)
        assert row["event"] == "denied" and said["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert run(tiny_home, {"hook_event_name": "PostToolUse", "tool_response": "x" * hook.MAX_INPUT}) == ([], "")


def test_a_letter_counts_as_submitted_where_nothing_else_can_be_written(tiny_home: Home) -> None:
    (tiny_home.seat("j1") / "told").mkdir(parents=True)
    send(tiny_home, "l-1")
    rows, said = run(tiny_home, {"hook_event_name": "UserPromptSubmit", "prompt": "read l-1"})
    assert [row["event"] for row in rows] == ["working", "processed"] and "1 letter waits" in str(said)


def test_the_model_is_told_of_the_budget_and_of_mail_once(tiny_home: Home) -> None:
    prompt = {"hook_event_name": "UserPromptSubmit", "prompt": "hello"}
    after = {"hook_event_name": "PostToolUse", "tool_name": "Bash", "tool_input": {}, "tool_response": {}}
    told = lambda given: (run(tiny_home, given)[1] or {"hookSpecificOutput": {"additionalContext": ""}})[
        "hookSpecificOutput"
    ]["additionalContext"]
    assert told(prompt) == told(after) == ""
    begun = (datetime.now(UTC) - timedelta(seconds=60)).isoformat()
    files.replace_json(tiny_home.org_file, {"budget": {"seconds": 1860, "runs": None, "from": begun}})
    assert told(prompt) == "[org] 30 min of the budget are left."
    assert told(after) == "", "the clock alone is no news"
    send(tiny_home, "l-1")
    assert told(after) == "[org] 1 letter waits unread; `org inbox` reads and acknowledges."
    assert told(after) == "", "said already"
    send(tiny_home, "l-2")
    assert "2 letters wait" in told(after)
    assert told(prompt).startswith("[org] 30 min") and "2 letters" in told(prompt)


def test_after_a_compaction_it_is_primed_again(tiny_home: Home) -> None:
    seat = Seat(
        "j1", "junior", "claude", "main", "program/main/j1", str(tiny_home.worktree("j1")), None, files.utc_now()
    )
    files.replace_json(tiny_home.seat_file("j1"), seat.to_dict())
    rows, said = run(tiny_home, {"hook_event_name": "SessionStart", "source": "compact", "session_id": "s-1"})
    assert rows[0]["event"] == "working"
    assert "# Brief: j1" in said["hookSpecificOutput"]["additionalContext"]


def test_it_starts_fast(tiny_home: Home) -> None:
    """Its cost beside a Python that does nothing: agents wait for it at each tool call. Processor time: the machine is busy."""

    def cpu(argv: list[str], text: str) -> float:
        def used() -> float:
            times = os.times()
            return times.children_user + times.children_system

        spent = []
        for _ in range(7):
            before = used()
            subprocess.run(argv, input=text, env=env_of(tiny_home), capture_output=True, text=True, check=True)
            spent.append(used() - before)
        return sorted(spent)[1]

    bare = cpu([sys.executable, "-S", "-E", "-c", "import json, re, pathlib, datetime, subprocess"], "")
    assert cpu(["sh", "-c", hook.command()], json.dumps(tool("Bash", command="org results | head"))) < 2 * bare + 0.02


# --- the status line ---------------------------------------------------------------------------------------------


def status(transcript: Path, **more: Any) -> dict[str, Any]:
    window = {"context_window_size": 200_000, "used_percentage": 12.5}
    return {
        "session_id": "abc-1",
        "transcript_path": str(transcript),
        "model": {"id": "model-a"},
        "context_window": window,
        "cost": {"total_cost_usd": 0.75},
        **more,
    }


def answer(name: str, sent: int, out: int) -> str:
    tokens = {
        "input_tokens": sent,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 10,
        "output_tokens": out,
    }
    return json.dumps({"type": "assistant", "message": {"id": name, "usage": tokens}}) + "\n"


def test_the_status_line_sums_the_transcript_and_is_shown(tiny_home: Home, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    transcript.write_text(answer("m1", 5, 1) + answer("m1", 5, 7) + '{"type": "user"}\nnot json\n')
    _, shown = run(tiny_home, status(transcript), statusline.command())
    assert shown == "j1 · context 12 % · $0.75 · model-a\n"
    with transcript.open("a") as file:
        file.write(answer("m1", 5, 9) + answer("m2", 6, 2) + answer("m3", 1, 1)[:20])
    run(tiny_home, status(transcript), statusline.command())
    [one] = usage.of_seat(tiny_home, "j1")
    assert (one.input_tokens, one.cached_tokens, one.output_tokens) == (115 + 116, 200, 9 + 2)
    assert (one.cost_usd, one.context_tokens, one.context_limit, one.model) == (0.75, 25_000, 200_000, "model-a")
    assert abs(datetime.fromisoformat(one.t).timestamp() - time.time()) < 60


def test_a_program_that_was_killed_and_counts_anew_has_not_become_cheaper() -> None:
    kept: dict[str, Any] = {}
    costs = []
    for shown in (0.5, 0.75, 0.25, None, 0.5):
        kept = statusline.used({"cost": {"total_cost_usd": shown}}, kept, b"")
        costs.append(kept["cost_usd"])
    assert costs == [0.5, 0.75, 1.0, 1.0, 1.25]
    assert statusline.used({}, {}, b"")["cost_usd"] is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99)), max_size=8), st.lists(st.integers(1, 400)))
def test_read_in_parts_the_sums_are_those_of_the_whole(rows, parts) -> None:
    text = "".join(answer(name, sent, 1) for name, sent in rows).encode()
    whole = statusline.used({}, {}, text)
    kept: dict[str, Any] = {}
    for part in [*parts, len(text)]:
        start = kept.get("read", 0)
        kept = statusline.used({}, kept, text[start : start + part])
    assert {**kept, "last": {}} == {**whole, "last": {}}


@pytest.mark.parametrize("text", ["", "[]", "7", '{"session_id": [], "context_window": 3, "cost": "x"}'])
def test_a_status_line_of_nonsense_stops_nobody(tiny_home: Home, text: str) -> None:
    run(tiny_home, text, statusline.command())
