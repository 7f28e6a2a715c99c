"""What Codex writes down of a session, and what its screen shows of its input box."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org import times
from org.agents import codex, rollout

SESSION = "01a1fff2-41c6-78b2-a521-ed3081fe7f5a"
NOW = 1_772_000_000.0
LINE = "You have a letter (l-1): read with `org inbox` and act on what it says."
COUNTS = {
    "total_token_usage": {"input_tokens": 3000, "cached_input_tokens": 300, "output_tokens": 60, "total_tokens": 3060},
    "last_token_usage": {"input_tokens": 1000, "output_tokens": 20, "total_tokens": 1020},
    "model_context_window": 190000,
}


def event(kind: str, at: float = NOW, **payload: Any) -> dict[str, Any]:
    return {"timestamp": times.utc(at), "type": "event_msg", "payload": {"type": kind, **payload}}


def said(text: str, at: float = NOW) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    payload = {"type": "message", "role": "user", "content": content}
    return {"timestamp": times.utc(at), "type": "response_item", "payload": payload}


def written(config: Path, *rows: Any, rest: str = "") -> Path:
    path = config / "sessions" / "2026" / "03" / "01" / f"rollout-2026-03-01T00-00-00-{SESSION}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)
    return path


LIMIT = {"message": "You've hit your usage limit. Try again at 10:12 PM.", "codex_error_info": "usage_limit_exceeded"}
MANY = {"message": "exceeded retry limit", "codex_error_info": {"response": {"http_status_code": 429}}}


@pytest.mark.parametrize(
    "rows, state",
    [
        ([event("task_started")], "working"),
        ([event("task_started"), event("token_count", info=COUNTS)], "working"),
        ([event("task_started"), event("task_complete", last_agent_message="done")], "ready"),
        ([event("task_started"), event("turn_aborted", reason="interrupted")], "ready"),
        ([event("task_started"), event("task_complete", error=LIMIT)], "limited"),
        ([event("task_started"), event("task_complete", error=MANY)], "limited"),
        ([event("task_started"), event("task_complete", error={"message": "bad request"})], "ready"),
        ([event("task_complete", error=MANY), event("task_started")], "working"),
    ],
)
def test_the_latest_turn_is_told_by_its_last_event(tmp_path: Path, rows: list[Any], state: str) -> None:
    turn = rollout.last_turn(written(tmp_path, *rows, rest='{"torn": '))
    assert turn is not None and turn.state == state and turn.at == NOW


def test_totals_are_those_of_the_last_count(tmp_path: Path) -> None:
    early = event("token_count", info={"total_token_usage": {"input_tokens": 1}})
    context = {"timestamp": times.utc(NOW), "type": "turn_context", "payload": {"model": "some-model"}}
    nothing = event("token_count", info=None)  # a limit is told in one without counts
    path = written(tmp_path, context, early, event("token_count", info=COUNTS), nothing)
    found = rollout.usage(path)
    assert found is not None and found.session == SESSION and found.model == "some-model" and found.cost_usd is None
    assert (found.input_tokens, found.cached_tokens, found.output_tokens) == (3000, 300, 60)
    assert (found.context_tokens, found.context_limit) == (1020, 190000)
    assert rollout.usage(written(tmp_path, context)) is None


def test_a_line_is_found_in_the_session_only_since_it_was_written_down(tmp_path: Path) -> None:
    written(tmp_path, said(LINE, NOW), event("task_complete"))
    assert rollout.holds(tmp_path, SESSION, LINE, NOW)
    assert not rollout.holds(tmp_path, SESSION, LINE, NOW + 60)  # the same letter, told again
    assert not rollout.holds(tmp_path, SESSION, LINE.replace("l-1", "l-2"), NOW)


def test_a_line_is_found_in_the_queue(tmp_path: Path) -> None:
    assert not rollout.holds(tmp_path, SESSION, LINE, NOW)
    with sqlite3.connect(tmp_path / "queue_1.sqlite") as made:
        made.execute("CREATE TABLE queued_items (thread_id TEXT, payload_json TEXT, created_at_ms INTEGER)")
        payload = json.dumps({"items": [{"type": "text", "text": LINE}]})
        made.execute("INSERT INTO queued_items VALUES (?, ?, ?)", (SESSION, payload, int(NOW * 1000)))
    made.close()
    assert rollout.holds(tmp_path, SESSION, LINE, NOW)
    assert not rollout.holds(tmp_path, SESSION.replace("0", "f"), LINE, NOW)
    (tmp_path / "queue_1.sqlite").write_bytes(b"of another form")
    assert not rollout.holds(tmp_path, SESSION, LINE, NOW)


JUNK = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@pytest.mark.slow  # five seconds of drawn rows
@given(st.lists(st.fixed_dictionaries({"timestamp": JUNK, "type": st.just("event_msg") | JUNK, "payload": JUNK})))
def test_rows_of_any_form_break_nothing(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    config = tmp_path_factory.mktemp("codex")
    path = written(config, *rows)
    rollout.last_turn(path)
    rollout.usage(path)
    assert not rollout.holds(config, SESSION, LINE, time.time())


BOX, DIM, PLAIN = "\x1b[1m\u203a\x1b[0m\x1b[39m\x1b[49m ", "\x1b[2m", "\x1b[0m\x1b[39m\x1b[49m"
HISTORY = (
    "\x1b[1m\x1b[38;5;255m\x1b[48;5;238m\u203a \x1b[0m\x1b[38;5;255man older order\n\n\x1b[2m\u2022 "
    + PLAIN
    + "Done.\n\n"
)
FOOT = f"\n{PLAIN}\n  gpt \u00b7 ~/tree\n  ? for shortcuts\n"
DIALOG = "  Select Model\n\n\u203a 1. One\n  2. Two\n\n  enter select \u00b7 esc back\n"


@pytest.mark.parametrize(
    "screen, stands_there",
    [
        (f"{HISTORY}{BOX}{DIM}Ask Codex to do anything{FOOT}", ""),
        (f"{HISTORY}{BOX}half a thought{FOOT}", "half a thought"),
        (f"{HISTORY}{BOX}a long one that\n  is broken{FOOT}", "a long one that  is broken"),
        (f"{HISTORY}{BOX}{FOOT}", ""),
        (f"{HISTORY}{DIALOG}", "1. One  2. Two"),  # no key is pressed there either: it is not empty
        ("", None),
        ("a shell $ ", None),
    ],
)
def test_what_stands_in_the_box_is_read_off_the_screen(screen: str, stands_there: str | None) -> None:
    assert codex.box(screen) == stands_there
