"""How often people had to steer, by histories of events and letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from books import CHARTER, Book
from hypothesis import given
from hypothesis import strategies as st
from test_standup import section

from org import files, times
from org.home import Home
from org.records import Letter, Seat
from org.team import mail, standup, steering
from org.team.hands import Spell
from org.team.steering import Seen

T0 = 1_772_323_200.0  # 2026-03-01


def row(at: float, event: str, text: str = "", **more: Any) -> dict[str, Any]:
    return {"t": times.utc(T0 + at), "event": event, "text": text, **more}


def letter(at: float, body: str, verified: bool = True) -> Letter:
    return Letter(f"l-{at:.0f}", "human", "j1", "note", times.utc(T0 + at), body, verified=verified)


def count(events: Any = (), letters: Any = (), hands: Any = (), since: float | None = None) -> steering.Count:
    seen = Seen("claude", "junior", events, letters, hands)
    return steering.tally([seen], None if since is None else times.utc(T0 + since), T0 + 7200)["claude", "junior"]


@pytest.mark.parametrize(
    ("text", "is_correction", "is_shout"),
    [
        ("stop that", True, False),
        ("No, use the baseline's learning rate", True, False),
        ("that's not what I asked for", True, False),
        ("work on the schedule instead", True, False),
        ("STOP TOUCHING THE EVALUATOR", True, True),
        ("READ THE CHARTER FIRST!!!", False, True),
        ("try MATRIX_LR WARMDOWN_FRAC EMBED_LR next", False, False),
        ("MATRIX_LR=0.05 in E0042, E0043, E0044", False, False),
        ("OK", False, False),
        ("good work, go on", False, False),
        ("how is it going?", False, False),
        ("", False, False),
        ("\n\n", False, False),
    ],
)
def test_words_that_correct_and_words_that_shout(text: str, is_correction: bool, is_shout: bool) -> None:
    assert (steering.corrects(text), steering.shouts(text)) == (is_correction, is_shout)


def test_typed_lines_count_when_a_person_was_there_and_a_doorbells_never() -> None:
    spell = Spell("j1", T0 + 100, T0 + 160, ("typing",))
    typed = [
        row(120, "typed", "STOP THAT NOW PLEASE"),
        row(130, "typed", "stop", letters=["l-1"]),
        row(900, "typed", "stop, said the office"),
        row(950, "typed", "stop", by="person"),
        row(140, "working", "stop"),
        row(150, "working", "stop", typed=True),  # as a hook tells it
        row(155, "idle", interrupted=True),
    ]
    found = count(typed, hands=[spell])
    assert (found.corrected, found.shouted, found.taken_over, found.interrupted) == (3, 1, 1, 1)


def test_only_what_is_new_and_signed_counts() -> None:
    letters = [letter(10, "stop"), letter(600, "stop it"), letter(700, "stop", verified=False)]
    events = [row(20, "interrupted"), row(700, "interrupted")]
    found = count(events, letters, [Spell("j1", T0, T0 + 50)], since=300)
    assert (found.corrected, found.interrupted, found.taken_over) == (1, 1, 0)


@pytest.mark.parametrize(
    ("events", "hours"),
    [
        ([], 0),
        ([(0, "ready"), (900, "working"), (1800, "exit")], 0.5),
        ([(0, "ready"), (900, "exit"), (3600, "ready"), (4500, "exit")], 0.5),
        ([(6300, "ready")], 0.25),
        ([(0, "ready")], 0.5),  # two hours of silence are half an hour at most
        ([(1800, "exit"), (0, "ready")], 0.5),
    ],
)
def test_hours_are_those_in_which_a_program_gave_signs(events: list[tuple[float, str]], hours: float) -> None:
    assert steering.hours(events, 7200) == pytest.approx(hours)


ROWS = st.fixed_dictionaries(
    {
        "t": st.sampled_from([times.utc(T0 + 5), times.utc(T0 + 50), None, 5, "x", "9999-12-31T23:59:59Z"]),
        "event": st.sampled_from(["typed", "interrupted", "exit", "working", 7, None]),
        "text": st.one_of(st.none(), st.integers(), st.text(max_size=80)),
        "by": st.sampled_from(["person", None, 3]),
    }
)


@given(st.lists(ROWS, max_size=20), st.text(max_size=30))
def test_whatever_stands_in_events_makes_a_table_of_harmless_cells(events: list[dict[str, Any]], role: str) -> None:
    found = steering.tally([Seen("claude|x", role, events)], None, T0 + 60)
    [one] = found.values()
    assert 0 <= one.hours <= 1 and one.interrupted <= len(events)
    said = steering.section(found)
    assert bool(said) == bool(one)
    assert not said or len(said.splitlines()) == 5


def test_the_page_has_the_table_only_when_somebody_had_to_steer(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for name, role, backend in (("chief", "chief", "codex"), ("j1", "junior", "claude"), ("me", "junior", "person")):
        seat = Seat(name, role, backend, "main", f"program/main/{name}", "", None, times.utc(T0))
        files.replace_json(home.seat_file(name), seat.to_dict())
    rows = [
        {"name": n, "role": r, "backend": b} for n, r, b in (("chief", "chief", "codex"), ("j1", "junior", "claude"))
    ]
    files.replace_json(home.org_file, {"roster": rows})
    now = files.utc_now()
    mail.send(home, "human", "j1", "stop?", kind="question", about="standup-2026-03-01-1")
    assert "## Steering" not in standup.write(home, Book(), CHARTER, now, {}).read_text()
    mail.send(home, "human", "j1", "STOP THAT AT ONCE PLEASE", kind="task")
    now = files.utc_now()
    text = standup.write(home, Book(), CHARTER, now, {}).read_text()
    assert "| claude | junior | 0.0 | 1 | - | - | 1 |" in section(text, "Steering")
    assert "| codex | chief | 0.0 | - | - | - | - |" in section(text, "Steering")
