"""Who took a pane over and for how long, by histories of looks; and what a killed office leaves of it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from books import CHARTER, Book
from hypothesis import given
from hypothesis import strategies as st
from test_states import T0, pane, utc

from org import files
from org.home import Home
from org.team import hands, standup
from org.team.hands import GAP_S, Hands, Seen, Spell
from org.team.states import Look


def told(*looks: tuple[float, str | None]) -> list[tuple[float, float, tuple[str, ...]]]:
    """(began, seconds, why) of every spell of one seat, after a last look at which nobody was there."""
    spells: dict[str, Spell] = {}
    ended: list[Spell] = []
    for at, why in (*looks, (looks[-1][0] + 1000, None)):
        spells, over = hands.merged(spells, {"j1": Seen(why, T0 + at)} if why else {}, T0 + at)
        ended += over
    assert not spells
    return [(spell.began - T0, spell.seconds, spell.why) for spell in ended]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(0, "typing"), (1, "typing"), (2, None)], [(0, 1, ("typing",))]),
        ([(0, "typing"), (GAP_S, "typing")], [(0, GAP_S, ("typing",))]),  # thinking
        ([(0, "typing"), (GAP_S + 1, "typing")], [(0, 0, ("typing",)), (GAP_S + 1, 0, ("typing",))]),
        ([(0, "typing"), (5, "copy mode"), (9, "typing")], [(0, 9, ("typing", "copy mode"))]),
        ([(0, "hold"), (3600, "hold")], [(0, 0, ("hold",)), (3600, 0, ("hold",))]),  # no office in between
        ([(n, "hold") for n in range(0, 3601, 10)], [(0, 3600, ("hold",))]),
        ([(0, None)], []),
    ],
)
def test_looks_become_spells(looks: list[tuple[float, str | None]], expected: list[Any]) -> None:
    assert told(*looks) == expected


def test_a_clock_that_is_set_back_ends_a_spell_and_a_later_one_is_measured() -> None:
    spells, over = hands.merged({}, {"j1": Seen("hold", T0)}, T0)
    spells, over = hands.merged(spells, {"j1": Seen("hold", T0 - 3600)}, T0 - 3600)
    assert [spell.last for spell in over] == [T0]
    spells, over = hands.merged(spells, {"j1": Seen("hold", T0 - 3590)}, T0 - 3590)
    assert over == [] and spells["j1"].seconds == 10


@given(st.lists(st.tuples(st.floats(0.1, 50), st.sampled_from([None, "typing", "hold"])), min_size=1, max_size=40))
def test_spells_of_a_seat_follow_one_another_and_hold_every_look(steps: list[tuple[float, str | None]]) -> None:
    now, looks = 0.0, []
    for pause, why in steps:
        now += pause
        looks.append((now, why))
    found = told(*looks)
    for (began, seconds, _), (later, _, _) in itertools.pairwise(found):
        assert began + seconds < later
    for at, why in looks:
        inside = [each for each in found if each[0] - 1e-3 <= at <= each[0] + each[1] + 1e-3]
        assert why is None or (len(inside) == 1 and why in inside[0][2])


def row(**changes: Any) -> dict[str, Any]:
    return {"name": "j1", "state": "held", "held": False, "backend": "offline", "mail_waiting": 2, **changes}


LOOK = Look(panes={"j1": pane()}, human=frozenset({"%1"}), keys={"%1": T0 - 3}, is_running=True)


@pytest.mark.parametrize(
    ("changes", "view", "expected"),
    [
        ({}, LOOK, Seen("typing", T0 - 3, 2)),
        ({}, dataclasses.replace(LOOK, panes={"j1": pane(in_mode=True)}), Seen("copy mode", T0, 2)),
        ({"held": True}, LOOK, Seen("hold", T0, 2)),
        ({"held": True, "state": "gone"}, Look(), Seen("hold", T0, 2)),
        ({}, dataclasses.replace(LOOK, human=frozenset(), keys={}), Seen("pause", T0, 2)),
        ({"backend": "person", "held": True}, LOOK, None),
        ({"state": "working"}, LOOK, None),
    ],
)
def test_why_a_pane_is_a_persons(changes: dict[str, Any], view: Look, expected: Seen | None) -> None:
    assert hands.seen([row(**changes)], view, T0).get("j1") == expected


def test_the_office_writes_a_line_at_the_end_of_each_spell_and_the_standup_shows_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    at_work = Hands(home)
    for second in range(12):
        at_work.step(
            [row(mail_waiting=2 if second < 8 else 0)], dataclasses.replace(LOOK, keys={"%1": T0 + second}), T0 + second
        )
    assert not home.hands.exists()
    [going] = hands.spells(home, None)
    assert going.seconds >= 11 - hands.SAVE_S  # for the page that is made meanwhile
    [ended] = at_work.step([row(state="ready")], LOOK, T0 + 60)
    assert ended == Spell("j1", T0, T0 + 11, ("typing",), 2)
    at_work.step([row(held=True)], LOOK, T0 + 100)
    assert [spell.why for spell in hands.spells(home, None)] == [("typing",), ("hold",)]
    assert [spell.why for spell in hands.spells(home, utc(50))] == [("hold",)]
    page = standup.page(Book(), CHARTER, utc(200), standup.Words(hands=hands.spells(home, None)))
    [line] = re.findall(r"^\| j1 .*", page, re.MULTILINE)
    assert line == "| j1 | 2 | 11 s | 11 s | typing, hold | 2 |"
    assert "By hand" not in standup.page(Book(), CHARTER, utc(200), standup.Words())


def test_an_office_killed_in_between_leaves_the_spell_to_be_closed_where_it_was_last_seen(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = Hands(home)
    for second in range(20):
        first.step([row(held=True)], LOOK, T0 + second)
    next_office = Hands(home)
    [ended] = next_office.step(
        [row(held=True)], LOOK, T0 + 500
    )  # held still: another spell, nobody saw the time between
    assert 19 - hands.SAVE_S <= ended.seconds <= 19
    assert [spell.began - T0 for spell in hands.spells(home, None)] == [0, 500]


DYING = """
import sys; from pathlib import Path; from test_hands import LOOK, row; from org.home import Home; from org.team.hands import Hands
at_work = Hands(Home(Path(sys.argv[1])))
for at, held in ((0, True), (1, True), (60, False), (61, False)):
    at_work.step([row(held=held, state="ready")], LOOK, float(sys.argv[2]) + at)
"""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_spell_is_written_down_once_whenever_the_office_is_killed(tmp_path: Path, count: int) -> None:
    home = Home(tmp_path)
    where = f"{Path(__file__).parents[2]}{os.pathsep}{Path(__file__).parent}"
    environment = {**os.environ, "PYTHONPATH": where, "ORG_FAILPOINT": f"hands.noted:{count}"}
    argv = [sys.executable, "-c", DYING, str(tmp_path), str(T0)]
    assert subprocess.run(argv, env=environment, check=False).returncode == -signal.SIGKILL
    after = Hands(home)
    after.step([row(state="ready")], LOOK, T0 + 100)
    rows, _ = files.read_lines(home.hands)
    assert [each["began"] for each in rows] == ([] if count == 1 else [utc(0)])


@pytest.mark.parametrize(
    "line",
    ['{"seat": "../x", "began": "2026-03-01T00:00:00Z"}', "[]", '{"seat": "j1"}', "\x00", '{"seat": "j1", "began": 3}',
     '{"seat":"j1","began":"2026-03-02T00:00:00Z","last":"2026-03-01T00:00:00Z","why":["typing"],"waited":0}'],
)  # fmt: skip
def test_what_is_no_spell_is_left_out(tmp_path: Path, line: str) -> None:
    home = Home(tmp_path)
    files.append_line(home.hands, line)
    files.replace(home.hands_open, line)
    assert hands.spells(home, None) == [] and Hands(home).step([row()], LOOK, T0) == []
