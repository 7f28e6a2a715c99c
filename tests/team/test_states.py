"""What a seat is doing, by histories: events and looks in, states out."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org import times
from org.agents import limited
from org.agents.hook import events as hook_events
from org.team import states
from org.world.tmuxwords import PaneInfo

T0 = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
SCREENS = ((r"\(y/n\)", "asking"), (r"Rate limited until", "limited"), (r"^> $", "ready"), (r"esc to stop", "working"))


def pane(**changes: Any) -> PaneInfo:
    alive = PaneInfo(
        id="%1", window="@0", window_name="grid", pid=1, dead=False, dead_status=None, in_mode=False,
        input_off=False, width=80, height=20, active=True, seat="j1", title="j1",
    )  # fmt: skip
    return dataclasses.replace(alive, **changes)


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row(seconds: float, event: str, **more: str) -> dict[str, str]:
    return {"t": utc(seconds), "event": event, **more}


def state(
    events: list[dict[str, str]], at: PaneInfo | None, *, started: str | None = None, reports: bool = True, **facts: Any
) -> str:
    """What the reader makes of a program's events, those before `started` left out, and of its pane."""
    progress = max(facts.pop("progress", 0.0), times.seconds(started) or 0.0)
    return states.state_of(states.told(events, started, reports), at, progress=progress, **facts)


def of(events: list[dict[str, str]], at: float, looks: list[tuple[float, str | None]] = [], **facts: Any) -> str:  # noqa: B006
    given = {"is_held": False, "is_human": False, "started": utc(0), "now": T0 + at, **facts}
    seen: states.Looks = ()
    for when, verdict in looks:
        seen = states.looked(seen, verdict, T0 + when)
    return state(events, given.pop("pane", pane()), looks=seen, **given)


# --- histories


@pytest.mark.parametrize(
    ("events", "at", "expected"),
    [
        ([], 1, "starting"),
        ([(1, "ready"), (2, "limited")], 3, "limited"),
        ([(1, "ready"), (2, "limited"), (4, "working")], 5, "working"),
        ([(2, "limited")], 2 + limited.LIMITED_S - 1, "limited"),
        ([(2, "limited")], 2 + limited.LIMITED_S, "ready"),
        ([(1, "working")], states.STUCK_S, "working"),
        ([(1, "working")], states.STUCK_S + 2, "stuck"),
        ([(1, "working"), (500, "note")], states.STUCK_S + 2, "working"),
        ([(1, "working"), (500, "processed")], states.STUCK_S + 502, "stuck"),
        ([], states.STUCK_S + 2, "stuck"),
        ([(1, "ready")], 90_000, "ready"),
        ([(1, "asking")], 90_000, "asking"),
        ([(1, "waiting")], 90_000, "waiting-for-run"),
        ([(1, "ready"), (2, "exit")], 9, "gone"),
        (
            [(1, "ready"), (2, "exit")],
            states.STUCK_S + 3,
            "stuck",
        ),  # it said goodbye and lives on: a person has to look
    ],
)
def test_limits_end_and_work_without_a_sign_is_stuck(events: list[tuple[float, str]], at: float, expected: str) -> None:
    assert of([row(*each) for each in events], at) == expected


def test_what_runs_for_a_seat_and_its_processor_time_are_signs() -> None:
    late = states.STUCK_S + 100
    assert of([row(1, "working")], late, progress=T0 + late - 10) == "working"
    assert of([row(1, "working")], late, has_open=True) == "waiting-for-run"
    assert of([], late, has_open=True) == "stuck"  # it never came up


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(5, "asking")], "ready"),  # one look is no verdict
        ([(5, "asking"), (5.4, "asking")], "ready"),  # nor are two at one moment
        ([(5, "asking"), (6, "asking")], "asking"),
        ([(5, "asking"), (6, None), (7, "asking")], "ready"),
        ([(5, "asking"), (6, "asking"), (7, None)], "asking"),  # one look does not take it back either
        ([(5, "asking"), (6, "asking"), (7, None), (8, None)], "ready"),
        ([(0.5, "asking"), (1.5, "asking")], "ready"),  # older than the event
        ([(5, "limited"), (6, "limited")], "limited"),
        ([(n * 0.1, "asking") for n in range(20, 60)], "asking"),
    ],
)
def test_a_screen_contradicts_by_two_looks_that_agree_and_are_newer(
    looks: list[tuple[float, str | None]], expected: str
) -> None:
    assert of([row(2, "ready")], 9, looks) == expected


def test_an_answered_dialog_is_over_by_an_event_or_by_the_screen() -> None:
    asked = [row(2, "asking")]
    assert of(asked, 9, [(5, "working"), (6, "working")]) == "working"
    assert of([*asked, row(7, "working")], 9, [(5, "asking"), (6, "asking")]) == "working"
    assert of([*asked, row(7, "working")], 12, [(8, "asking"), (10, "asking")]) == "asking"


def test_two_events_of_one_millisecond_count_as_they_stand_in_the_file() -> None:
    assert of([row(2, "working"), row(2, "asking")], 3) == "asking"
    assert of([row(2, "asking"), row(2, "working")], 3) == "working"
    # a hook that was slow to write is read where it wrote
    assert of([row(3, "asking"), row(2, "idle")], 4) == "ready"


def test_a_clock_of_whole_seconds_is_not_before_the_start() -> None:
    events = [{"t": "2026-03-01T00:00:10Z", "event": "working"}]
    assert of(events, 12, started=utc(10.7)) == "working"
    assert of([row(10.6, "working")], 12, started=utc(10.7)) == "starting"


@pytest.mark.parametrize("when", ["9999-01-01T00:00:00Z", "", "yesterday", "2026-03-01", None, 17])
def test_a_time_that_is_none_or_to_come_keeps_no_seat_from_being_stuck(when: object) -> None:
    events: list[dict[str, Any]] = [row(1, "working"), {"t": when, "event": "note"}]
    assert of(events, 5) == "working"
    assert of(events, states.STUCK_S + 100) == "stuck"


@pytest.mark.parametrize(
    "when",
    ["9999-12-31T23:59:59.999999-23:59", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "1969-12-31T00:00:00Z"],
)
def test_a_time_that_no_clock_shows_is_none(when: str) -> None:
    assert times.seconds(when) is None
    assert of([{"t": when, "event": "limited", "text": "until 14:30"}], 5, started=None) == "ready"


NAMES = st.sampled_from([*states.STATES, "note", "processed", "nonsense"])
EVENTS = st.lists(st.tuples(st.floats(-50, 3000), NAMES), max_size=12)
LOOKS = st.lists(st.tuples(st.floats(0, 4), st.sampled_from([*states.SCREEN_STATES, None])), max_size=12)


@given(EVENTS, LOOKS, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.floats(0, 4000))
def test_whatever_happened(
    told: list[tuple[float, str]],
    steps: list[tuple[float, str | None]],
    held: bool,
    human: bool,
    dead: bool,
    mode: bool,
    at: float,
) -> None:
    events = [row(*each) for each in told]
    when, looks = 0.0, []
    for pause, verdict in steps:
        when += pause
        looks.append((when, verdict))
    facts = {"is_held": held, "is_human": human, "pane": pane(dead=dead, in_mode=mode)}
    found = of(events, at, looks, **facts)
    assert found in states.ALL
    assert found == of(events, at, looks, **facts)
    assert (found == "gone") or not dead
    assert of(events, at, looks, **{**facts, "pane": None}) == "gone"
    if not dead:
        assert (found == "held") or not (held or human or mode)
    if found in ("ready", "working", "starting", "waiting-for-run", "stuck") and not dead:
        newest = max([n for n, (t, name) in enumerate(told) if t >= 0 and name in states.STATES], default=None)
        says = states.STATES[told[newest][1]] if newest is not None else "starting"
        contradicts = {v for _, v in looks} & {"ready", "working"}
        assert says != "asking" or contradicts  # a dialog is never ready but by what the screen showed instead
    # what the fold of the whole says, the fold in two parts says
    cut = len(events) // 2
    halves = states.told(events[cut:], utc(0), True, states.told(events[:cut], utc(0), True))
    assert halves == states.told(events, utc(0), True)


@given(LOOKS)
def test_the_screen_says_only_what_two_looks_agreed_on(steps: list[tuple[float, str | None]]) -> None:
    when, looks, raw = 0.0, (), []
    for pause, verdict in steps:
        when += pause
        raw.append((when, verdict))
        looks = states.looked(looks, verdict, when)
        said = states.agreed(looks)
        assert len(looks) <= states.LOOKS_KEPT and looks[-1] == (when, verdict)
        if said is not None:
            times = [t for t, v in raw if v == said]
            assert times[-1] - times[0] >= states.AGREE_S


# --- words


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("Rate limited until 14:30", "2026-03-01T14:10:00", "2026-03-01T14:30:00"),
        ("usage limit reached, resets 3pm", "2026-03-01T14:10:00", "2026-03-01T15:00:00"),
        ("resets at 12:05 AM", "2026-03-01T23:50:00", "2026-03-02T00:05:00"),
        ("until 25:99", "2026-03-01T14:10:00", "2026-03-01T14:15:00"),
        ("429 too many", "2026-03-01T14:10:00", "2026-03-01T14:15:00"),
        ("HTTP 429: resets at 9pm; asked again in 900 s (try 4)", "2026-03-01T14:10:00", "2026-03-01T14:25:00"),
        ("until 3 letters", "2026-03-01T14:10:00", "2026-03-01T14:15:00"),
    ],
)
def test_a_limit_ends_when_its_text_says_so_or_soon(text: str, at: str, expected: str) -> None:
    begun = datetime.fromisoformat(at).astimezone().timestamp()
    assert limited.limit_ends(text, begun) == datetime.fromisoformat(expected).astimezone().timestamp()


@pytest.mark.parametrize(
    ("screen", "expected"),
    [
        ("working\nDo you want to proceed? (y/n)", "asking"),
        ("Rate limited until 12:00\n> ", "limited"),
        ("> ", "ready"),
        ("> a draft", None),
        ("x" * 500 + "(y/n)", None),  # cut: a line of a megabyte must not cost a second
        ("(y/n)\n" + "\n" * 100, None),
    ],
)
def test_a_screen_is_read_by_the_backends_patterns(screen: str, expected: str | None) -> None:
    assert states.shown(screen, SCREENS) == expected
    assert states.shown(screen, ()) is None
    assert states.shown(screen, ((".", "gone"), (".", "held"))) is None


SEAT = {"name": "j3", "state": "ready", "held": False}


@pytest.mark.parametrize(
    ("seat", "where", "facts", "expected"),
    [
        ({}, {}, {}, None),
        ({"state": "working"}, {}, {}, None),
        ({"state": "stuck"}, {}, {}, None),  # a line typed at a prompt brings an interrupted one back
        ({"state": "waiting-for-run"}, {}, {"human_s": states.HUMAN_S}, None),
        ({}, {}, {"human_s": 3.2}, "a person typed there 3 s ago"),
        ({"state": "held"}, {"in_mode": True}, {}, "copy mode"),
        ({"state": "held", "held": True}, {}, {"human_s": 1}, "held with `org hold j3`"),
        ({"state": "held"}, {}, {}, "paused at its pane"),
        ({}, {}, {"has_prefix": True}, "a person pressed the prefix key there"),
        ({"state": "asking"}, {}, {}, "at a dialog"),
        ({}, {}, {"showed": "asking"}, "at a dialog"),
        ({"state": "limited"}, {}, {}, "rate limited"),
        ({"state": "gone"}, {"dead": True, "dead_status": 3}, {}, "its program ended (status 3)"),
        ({"state": "gone"}, {}, {}, "its program ended"),
        ({}, {}, {"is_shell": True, "command": "bash"}, "a bare shell (bash) is in front"),
        ({}, {"input_off": True}, {}, "closed to input"),
        ({"state": "starting"}, {}, {}, "still starting"),
        ({"state": "person"}, {}, {}, "a person's own seat: no program is in it"),
    ],
)
def test_why_nothing_is_typed(
    seat: dict[str, Any], where: dict[str, Any], facts: dict[str, Any], expected: str | None
) -> None:
    assert states.quiet({**SEAT, **seat}, pane(**where), **facts) == expected
    assert states.quiet({**SEAT, "state": "gone"}, None) == "it has no pane"


@pytest.mark.parametrize(
    ("command", "own", "expected"),
    [
        ("bash", "claude", True), ("-zsh", "python3", True), ("claude", "claude", False), ("vim", "claude", False),
        ("sh", "sh", False), ("bash", "sh", False), ("bash", "", False),
    ],
)  # fmt: skip
def test_a_shell_is_bare_unless_the_seats_own_program_is_one(command: str, own: str, expected: bool) -> None:
    assert states.is_bare_shell(command, own) is expected


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ({"error": "API Error: 529 Overloaded"}, "limited"),
        ({"error": "429 {\"type\":\"rate_limit_error\"}"}, "limited"),
        ({"error": "unknown", "last_assistant_message": "Claude usage limit reached|1740000000"}, "limited"),
        ({"error": "API Error: 400 prompt is too long"}, "idle"),
        ({"error": "line 1429: no such file"}, "idle"),
        ({}, "idle"),
    ],
)  # fmt: skip
def test_a_turn_that_failed_for_a_limit_is_told_as_limited(hook: dict[str, str], expected: str) -> None:
    assert hook_events({"hook_event_name": "StopFailure", **hook}, None)[0]["event"] == expected
    assert hook_events({"hook_event_name": "Stop", **hook}, None)[0]["event"] == "idle"


@pytest.mark.parametrize(
    ("screen", "own_word", "expected"),
    [
        (None, None, None), ("working", None, "working"), (None, "ready", "ready"), ("working", "ready", "ready"),
        ("asking", "working", "asking"), ("limited", "working", "limited"), ("limited", "ready", "ready"),
        ("limited", "asking", "asking"),
    ],
)  # fmt: skip
def test_a_programs_own_word_counts_where_its_screen_shows_no_dialog(
    screen: str | None, own_word: str | None, expected: str | None
) -> None:
    assert states.seen_as(screen, own_word) == expected


CLAUDE_SCREENS = [
    ("Enter to select · ↑/↓ to navigate · Esc to cancel", "asking"),
    (" Enter to confirm · Esc to exit", "asking"),
    ("● 529 what a gateway (127.0.0.1) says: no! · retrying in 12s · attempt 1/10", "limited"),
    ("✻ 529 Overloaded · retrying in 1s · attempt 3/10", "limited"),
    ("  Enter to select · ↑/↓ to navigate · Esc to cancel", None),  # a model that says so: what it says is indented
    ("  The log says: 529 · retrying in 1s · attempt 3/10", None),
    ("  ⏵⏵ bypass permissions on (shift+tab to cycle) · esc to interrupt", None),
]


@pytest.mark.parametrize(("line", "expected"), CLAUDE_SCREENS)
def test_what_claudes_screen_says(line: str, expected: str | None) -> None:
    from org.agents.claude import SCREENS as claudes

    assert states.shown(f"> hello\n{line}\n", claudes) == expected
