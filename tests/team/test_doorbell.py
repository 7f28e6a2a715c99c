"""The doorbell rings for letters, again for unread ones, and never where a person is; decided purely, typed in real tmux."""

from __future__ import annotations

import dataclasses
import fcntl
import itertools
import json
import os
import pty
import re
import struct
import subprocess
import termios
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.home import Home
from org.team import doorbell, drafts, mail
from org.team.doorbell import Bell, Facts, decide
from org.world.tmux import MAX_LINE

LETTERS = ["l-260301-010203-0000aaaaa"]
MANY = [f"l-260301-010203-{n:09d}" for n in range(20)]
NEW_S = 1000.0


def at(now: float = NEW_S, **changes: Any) -> Facts:
    return Facts(**{"now": now, "waiting": LETTERS, **changes})


class Pane:
    """What a pane would do with the bell's steps: a played-out history, the clock in hundredths of a second or, for long, in
    halves."""

    def __init__(self, **facts: Any) -> None:
        self.bell, self.now, self.facts = Bell(), NEW_S, facts
        self.did: list[tuple[float, str, str]] = []

    def play(self, seconds: float, **changes: Any) -> list[str]:
        """Steps done meanwhile, without their times."""
        first, end = len(self.did), self.now + seconds
        tick = 0.01 if seconds <= 60 else 0.5  # two hours by the hundredth take 5 s
        while self.now < end:
            step = decide(self.bell, at(self.now, **{**self.facts, **changes}))
            self.bell = step.bell
            if step.do:
                text = step.bell.line.text if step.bell.line else ""
                self.did.append((self.now, step.do, text))
                if step.do == "type":
                    assert step.bell.line is not None and step.bell.line.phase == "typing", (
                        "written down before it is typed"
                    )
                    self.bell = dataclasses.replace(self.bell, line=dataclasses.replace(step.bell.line, phase="typed"))
            self.now += tick
        return [do for _, do, _ in self.did[first:]]


# --- deciding ----------------------------------------------------------------------------------------------------


def test_a_new_letter_is_one_short_line_with_its_id_and_one_enter() -> None:
    pane = Pane(reports=False)
    assert pane.play(30) == ["type", "enter"]
    text = pane.did[0][2]
    assert LETTERS[0] in text and "\n" not in text


def test_every_letter_is_named_in_full_in_exactly_one_line() -> None:
    pane = Pane(reports=False, waiting=MANY)
    pane.play(30)
    lines = [text for _, do, text in pane.did if do == "type"]
    assert all(len(text) <= MAX_LINE for text in lines)
    assert sorted(letter for text in lines for letter in MANY if letter in text) == MANY


@pytest.mark.parametrize("changes", [{"waiting": []}, {"quiet": "held"}, {"waiting": ["$(touch x)", "a\nb"]}])
def test_nothing_is_typed_where_it_could_hurt_or_help_nobody(changes: dict[str, Any]) -> None:
    assert Pane(**changes).play(5) == []


def test_the_next_line_waits_until_the_program_has_taken_the_one_before() -> None:
    pane = Pane(waiting=MANY)
    pane.play(0.5)
    named = doorbell.line_of(MANY[:8])
    assert [(do, text) for _, do, text in pane.did] == [("type", named), ("enter", named)]
    assert "type" not in pane.play(10, confirmed=frozenset(MANY[:7]))
    assert pane.play(0.5, confirmed=frozenset(MANY[:8])) == ["type", "enter"]
    assert all(pane.bell.letters[letter].told == "accepted" for letter in MANY[:8])


def test_a_swallowed_enter_is_pressed_again_and_the_text_is_not_typed_again() -> None:
    pane = Pane()
    assert pane.play(50) == ["type", *["enter"] * 6]
    gaps = [round(b - a) for (a, _, _), (b, _, _) in itertools.pairwise(pane.did[1:])]
    assert gaps == [1, 1, 2, 4, 8]
    other = Pane()
    other.play(1.5)
    assert other.play(50, confirmed=frozenset(LETTERS)) == [], "confirmed: nothing more is pressed"


def test_an_enter_that_could_submit_a_draft_that_came_back_is_not_pressed_on_a_slow_hook() -> None:
    pane = Pane(restores=True)
    assert pane.play(7) == ["type", "enter"]
    assert pane.play(3, confirmed=frozenset(LETTERS)) == []
    swallowed = Pane(restores=True)
    assert swallowed.play(10) == ["type", "enter", "enter"]


@pytest.mark.parametrize("phase", ["typing", "typed", "entered"])
def test_a_line_that_waits_for_a_person_is_not_looked_at_ten_times_a_second(phase: Any) -> None:
    line = doorbell.Line(tuple(LETTERS), doorbell.line_of(LETTERS), NEW_S, phase, enters=1, entered_at=NEW_S)
    for waited in (2.0, 60.0, 3600.0):
        step = decide(Bell({}, line), at(NEW_S + waited, quiet="at a dialog"))
        assert step.do is None and step.wake_s is not None and step.wake_s >= doorbell.SETTLING_S


def test_text_and_enter_stand_apart_until_the_text_is_shown() -> None:
    shown, blind = Pane(gap_s=0.02, echoed=True), Pane(gap_s=0.02)
    shown.play(1), blind.play(1)
    (a, _, _), (b, _, _) = shown.did[:2]
    (c, _, _), (d, _, _) = blind.did[:2]
    assert 0.02 <= b - a < 0.05 and 0.29 <= d - c < 0.35


def test_a_person_who_comes_in_between_is_waited_for() -> None:
    pane = Pane(gap_s=2.0, reports=False)
    assert pane.play(1.5) == ["type"]
    assert pane.play(30, quiet="a person types") == []
    assert pane.play(5) == ["enter"]


def test_letters_that_were_read_meanwhile_leave_no_half_line_behind() -> None:
    pane = Pane(gap_s=0.2)
    assert pane.play(0.1) == ["type"]
    assert pane.play(5, waiting=[]) == ["enter"]
    assert pane.bell == Bell()


def test_an_unread_letter_is_told_of_again_ever_more_seldom() -> None:
    pane = Pane(reports=False)
    pane.play(0.4)
    times = [pane.did[0][0]]
    while pane.now < NEW_S + 4 * 3600:
        pane.now += 0.99
        if "type" in pane.play(0.01):
            times.append(pane.now)
            pane.play(0.5)
    gaps = [round(b - a, -1) for a, b in itertools.pairwise(times)]
    assert gaps[:3] == [60.0, 120.0, 240.0] and max(gaps) == doorbell.AGAIN_LIMIT_S == gaps[-1]


def test_what_was_told_of_for_months_is_told_of_still() -> None:
    bell = Bell({LETTERS[0]: doorbell.Notice("accepted", NEW_S, 2000)})
    assert decide(bell, at(NEW_S + doorbell.AGAIN_LIMIT_S + 1)).do == "type"


@pytest.mark.parametrize("played_s", [0.1, 0.5, 5])
def test_a_clock_that_is_set_back_neither_stops_a_line_nor_types_it_again(played_s: float) -> None:
    pane = Pane(started=NEW_S - 5)
    pane.play(played_s)
    pane.now -= 86_400
    pane.play(30)
    assert [do for _, do, _ in pane.did].count("type") == 1
    pane.play(1, confirmed=frozenset(LETTERS))
    assert "type" in pane.play(doorbell.AGAIN_S * 2, confirmed=frozenset(LETTERS))


def test_who_took_the_line_and_works_is_not_told_again() -> None:
    pane = Pane(confirmed=frozenset(LETTERS))
    pane.play(1, confirmed=frozenset())
    assert pane.play(7200, is_idle=False) == []
    assert pane.play(5) == ["type", "enter"], "one that idles with an unread letter has forgotten it"


def test_a_line_that_nobody_confirmed_is_typed_again_only_where_it_does_not_stand() -> None:
    pane = Pane()
    pane.play(40)
    assert set(pane.play(60)) == {"look"}
    assert pane.play(1, on_screen=True) == ["enter"], "it stands there: Enter is what it lacks"
    other = Pane()
    other.play(40)
    other.play(60)
    assert other.play(0.5, on_screen=False)[:2] == ["type", "enter"]


@pytest.mark.parametrize(("on_screen", "then"), [(True, ["enter"]), (False, ["type", "enter"])])
def test_an_office_that_died_while_it_typed_is_followed_by_one_that_looks(on_screen: bool, then: list[str]) -> None:
    pane = Pane(reports=False)
    step = decide(pane.bell, at())
    assert step.do == "type"
    pane.bell = step.bell  # written down, and the office is gone
    assert set(pane.play(2, quiet="a person types")) == set()
    assert set(pane.play(2)) == {"look"}
    assert pane.play(5, on_screen=on_screen) == then


def test_a_program_that_was_started_again_is_told_anew() -> None:
    pane = Pane()
    pane.play(3)
    assert pane.play(1, started=NEW_S + 2) == ["type", "enter"]


@pytest.mark.parametrize(
    "line, started", [({"phase": "typing"}, 0.0), ({"phase": "entered", "is_queued": True}, NEW_S)]
)
def test_what_the_program_has_already_is_not_handed_over_again(line: dict[str, Any], started: float) -> None:
    """An office died before it noted that it was, or the program died with it in its queue."""
    bell = Bell({}, doorbell.Line(LETTERS[:1], doorbell.line_of(LETTERS[:1]), NEW_S - 5, **line))
    handed = decide(bell, at(waiting=LETTERS[:1], started=started, is_handed=True))
    assert handed.do is None and handed.bell.line is None and handed.bell.letters[LETTERS[0]].told == "accepted"
    lost = decide(bell, at(waiting=LETTERS[:1], started=started, on_screen=False))
    assert lost.do == "type"


def test_a_line_in_the_programs_own_queue_needs_no_key() -> None:
    pane = Pane()
    step = decide(pane.bell, at())
    assert step.bell.line is not None
    queued = dataclasses.replace(step.bell.line, phase="entered", entered_at=NEW_S, is_queued=True)
    pane.bell = Bell({}, queued)
    assert pane.play(doorbell.QUEUE_S + 5) == []
    assert pane.bell.letters[LETTERS[0]].told == "typed" and pane.bell.line is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "held"]),
            st.lists(st.sampled_from(MANY[:10]), unique=True),
            st.sets(st.sampled_from(MANY[:10])),
            st.booleans(),
            st.floats(0.0, 20.0),
        ),
        max_size=25,
    ),
    st.booleans(),
)
def test_whatever_happens_no_line_is_begun_before_the_one_before_has_its_enter(
    history: list[Any], reports: bool
) -> None:
    pane, typed = Pane(reports=reports), 0
    for quiet, waiting, confirmed, is_idle, seconds in history:
        first = len(pane.did)
        pane.now += seconds
        pane.play(0.05, quiet=quiet, waiting=sorted(waiting), confirmed=frozenset(confirmed), is_idle=is_idle)
        if quiet and not any(do == "type" for _, do, _ in pane.did[max(0, first - 1) : first]):
            late = [do for t, do, _ in pane.did[first:] if pane.bell.line is None or t - pane.bell.line.at > 1]
            assert late == [], "a key while it should be quiet"
        assert not (quiet and "type" in [do for _, do, _ in pane.did[first:]]), "a line while it should be quiet"
        for _, do, _ in pane.did[first:]:
            typed = typed + 1 if do == "type" else 0 if do == "enter" else typed
            assert typed <= 1, "a line was typed behind one that had no Enter"


# --- drafts ------------------------------------------------------------------------------------------------------


def hands(*looks: tuple[int, float | None, float | None], rest: int | None = 2) -> list[bool]:
    """Whether a draft may wait after each look: (column, a person's last key, last submitted line)."""
    hand, found = None, []
    for column, last_key, submitted in looks:
        hand = drafts.after_look(hand, rest=rest, column=column, last_key=last_key, submitted=submitted, now=110.0)
        found.append(hand is not None)
    return found


def test_a_draft_waits_until_it_is_submitted_or_rubbed_out() -> None:
    typing = [(5, 100.0, None), (9, 103.0, None)]
    assert hands(*typing, *[(9, None, None)] * 3) == [True] * 5, "they went away from a half-typed line"
    assert hands(*typing, (9, None, None), (2, None, None), (2, None, None)) == [True] * 4 + [False]
    assert hands(*typing, (9, None, 110.0)) == [True, True, False], "the program says it took a line"
    assert hands(*typing, (9, None, 103.5)) == [True] * 3, "perhaps that was the line before"
    assert hands(*typing, (2, None, None), (9, None, None), (2, None, None)) == [True] * 5, "one look is no proof"


def test_where_nobody_saw_the_pane_before_the_line_stands_until_it_was_submitted() -> None:
    typing = (5, 100.0, None)
    assert hands(typing, *[(9, None, None)] * 5, rest=None) == [True] * 6
    assert hands(typing, (9, None, None), (2, None, 103.0), rest=None) == [True, True, False]
    hand = drafts.after_look(None, rest=None, column=5, last_key=100.0, submitted=None, now=100.0)
    late = 101.0 + drafts.FORGET_S
    assert drafts.after_look(hand, rest=None, column=5, last_key=None, submitted=None, now=late) is None


def test_a_draft_is_remembered_by_the_office_that_comes_after(tiny_home: Home) -> None:
    first = drafts.Drafts(tiny_home)
    for column, last_key in ((2, None), (7, 100.0), (9, None)):
        waits = first.look("j1", column=column, last_key=last_key, submitted=None, is_ours=False, now=110.0)
    assert waits
    second = drafts.Drafts(tiny_home)
    assert second.look("j1", column=9, last_key=None, submitted=None, is_ours=False, now=110.0)
    for _ in range(2):
        waits = second.look("j1", column=2, last_key=None, submitted=None, is_ours=False, now=110.0)
    assert not waits and not tiny_home.draft("j1").exists()


# --- what is kept ------------------------------------------------------------------------------------------------


def test_a_bell_is_read_back_as_it_was_kept_and_anything_else_is_an_empty_one(tiny_home: Home) -> None:
    bell = decide(Bell({"l-2": doorbell.Notice("accepted", 5.0, 3)}), at(waiting=[*LETTERS, "l-2"])).bell
    doorbell.save(tiny_home, "j1", bell)
    assert bell.line is not None and doorbell.load(tiny_home, "j1") == bell
    for torn in ("", "{", "[]", '{"letters": {"l-1": 3}, "line": null}', '{"letters": {}, "line": {"x": 1}}'):
        tiny_home.bell("j1").write_text(torn)
        assert doorbell.load(tiny_home, "j1") == Bell()


GOOD = vars(doorbell.Line(("l-1",), doorbell.line_of(["l-1"]), 5.0, "typed")) | {"letters": ["l-1"]}


@pytest.mark.parametrize(
    "row",
    [
        {"letters": {"l-1": {"told": "typed", "at": float("nan"), "times": 1}}, "line": None},
        {"letters": {"l-1": {"told": "typed", "at": 1e300, "times": 1}}, "line": None},
        {"letters": {"l-1": {"told": "typed", "at": 1, "times": float("inf")}}, "line": None},
        {"letters": {"l-1": {"told": ["typed"], "at": 1, "times": 1}}, "line": None},
        {"letters": {}, "line": {**GOOD, "text": "! rm -rf ~"}},
        {"letters": {}, "line": {**GOOD, "letters": [["l-1"]]}},
        {"letters": {}, "line": {**GOOD, "letters": []}},
        {"letters": {}, "line": {**GOOD, "at": "now"}},
        {"letters": {}, "line": {**GOOD, "at": {}}},
        {"letters": {}, "line": {**GOOD, "phase": "told"}},
        {"letters": {}, "line": {**GOOD, "enters": float("nan")}},
    ],
)
def test_what_a_program_writes_into_its_bell_is_never_typed_and_stops_nobody(
    tiny_home: Home, row: dict[str, Any]
) -> None:
    tiny_home.bell("j1").parent.mkdir(parents=True)
    tiny_home.bell("j1").write_text(json.dumps({"letters": {}, "line": GOOD}))
    assert doorbell.load(tiny_home, "j1").line is not None
    tiny_home.bell("j1").write_text(json.dumps(row))
    assert doorbell.load(tiny_home, "j1") == Bell()


# --- in real panes -----------------------------------------------------------------------------------------------


def test_a_program_in_a_pane_is_told_of_its_letter_once(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    [letter] = mail.send(org.home, "human", "j1", "try a warmup")
    org.wait_for(lambda: letter.id in org.typed("j1"))
    [second] = mail.send(org.home, "human", "j1", "and a warmdown")
    org.wait_for(lambda: second.id in org.typed("j1"))
    assert len(org.typed("j1").splitlines()) == 2 and org.typed("j2") == ""


def test_a_held_seat_hears_nothing_until_it_is_let_go(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    org.home.held("j1").touch()
    [letter] = mail.send(org.home, "human", "j1", "for later")
    [other] = mail.send(org.home, "human", "j2", "for now")
    org.wait_for(lambda: other.id in org.typed("j2"), what="the other seat to be rung")
    label = org.wait_for(
        lambda: (
            (text := org.tmux("show", "-p", "-v", "-t", org.look().panes["j1"].id, "@label"))
            and "held" in text
            and text
        )
    )
    assert "✉1" in label
    assert org.typed("j1") == ""
    org.home.held("j1").unlink()
    org.wait_for(lambda: letter.id in org.typed("j1"))


@pytest.mark.slow  # waits out the eight seconds that a pane is a person's after their last key
def test_a_pane_under_a_persons_hand_is_left_alone(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    # whoever comes before the office's first look leaves it not knowing where the cursor stood without them
    org.wait_for(org.home.seat_state("j1").exists)
    pane = org.look().panes["j1"].id
    org.tmux("select-window", "-t", pane)
    org.tmux("select-pane", "-t", pane)
    person, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    argv = ["tmux", "-L", org.home.socket, "attach", "-t", "=org"]
    client = subprocess.Popen(
        argv, stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    )
    try:
        org.wait_for(lambda: pane in org.look().human)
        os.write(person, b"my half line")
        [letter] = mail.send(org.home, "human", "j1", "hello")
        [other] = mail.send(org.home, "human", "j2", "hello")
        # they go on typing: a loaded machine may take longer to ring next door than a pane stays theirs
        org.wait_for(
            lambda: os.write(person, b".") and other.id in org.typed("j2"), what="the pane beside it to be rung"
        )
        assert org.typed("j1") == ""
        os.write(person, b" goes on\r")
        org.wait_for(lambda: re.fullmatch(r"my half line[.]+ goes on\n", org.typed("j1")))
    finally:
        client.kill()
        client.wait()
        os.close(person)
        os.close(terminal)
    org.wait_for(lambda: letter.id in org.typed("j1"), what="the bell, once the person is gone")
