"""When each step of the office is due, on played-out clocks."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from org.team.rounds import Round, Rounds

STEPS = (Round("slow", 2.0), Round("mail", 1.0, frozenset({"mail"})), Round("runs", 1.0, frozenset({"runs"}), 0.5))


def played(seconds: float, changes: dict[float, set[str]]) -> list[tuple[float, str]]:
    """(moment, step) of everything done; the clock goes in hundredths."""
    rounds, did = Rounds(STEPS), []
    for tick in range(round(seconds * 100)):
        now = tick / 100
        rounds.changed(changes.get(now, set()), now)
        due = rounds.due(now)
        for each in STEPS:
            if each.name in due:
                rounds.done(each.name, now)
                did.append((now, each.name))
    return did


def test_every_step_comes_at_the_start_and_then_in_its_turn() -> None:
    did = played(4.5, {})
    assert [t for t, name in did if name == "slow"] == [0.0, 2.0, 4.0]
    assert [t for t, name in did if name == "mail"] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_change_makes_a_step_due_at_once_and_no_other() -> None:
    did = played(0.9, {0.3: {"mail"}, 0.31: {"nothing of ours"}})
    assert did[3:] == [(0.3, "mail")]


def test_many_changes_make_one_pass_after_the_pause_and_none_is_lost() -> None:
    did = played(2.0, {n / 100: {"runs"} for n in range(10, 60)})
    assert [t for t, name in did if name == "runs"] == [0.0, 0.5, 1.0]


def test_what_was_asked_for_comes_in_time_and_is_no_turn_lost() -> None:
    rounds = Rounds(STEPS)
    for each in STEPS:
        rounds.done(each.name, 10.0)
    assert rounds.left(10.0) == 1.0
    rounds.ask("mail", 10.01)
    rounds.ask("mail", 10.5)
    assert abs(rounds.left(10.0) - 0.01) < 1e-9 and rounds.due(10.02) == {"mail"}
    rounds.done("mail", 10.02)
    assert not rounds.due(10.6)


def test_steps_that_are_nearly_due_go_along_and_stay_together() -> None:
    rounds = Rounds((Round("one", 1.0), Round("other", 1.0, frozenset({"x"})), Round("slow", 4.0)))
    now, passes = 0.0, []
    for _ in range(40):
        rounds.changed({"x"} if len(passes) == 5 else (), now)  # puts one step out of its time, once
        passes.append((now, rounds.due(now)))
        for name in rounds.due(now):
            rounds.done(name, now)
        now += rounds.left(now) if len(passes) != 5 else rounds.left(now) - 0.2
    assert all({"one", "other"} <= due for _, due in passes[6:])
    gaps = [round(b - a, 2) for (a, _), (b, _) in itertools.pairwise(passes[6:])]
    assert set(gaps) == {1.0}, "one wake a second"


@given(st.dictionaries(st.integers(0, 400).map(lambda n: n / 100), st.sets(st.sampled_from(["mail", "runs", "x"]))))
def test_nothing_waits_longer_than_its_turn_nor_comes_sooner_than_its_pause(changes: dict[float, set[str]]) -> None:
    did = played(6.0, changes)
    for each in STEPS:
        times = [t for t, name in did if name == each.name]
        gaps = [round(b - a, 2) for a, b in itertools.pairwise(times)]
        assert max(gaps) <= each.every_s + 0.01 and min(gaps) >= min(each.pause_s, each.every_s)
        for moment, places in changes.items():
            if places & each.on:
                assert any(moment <= t <= moment + each.pause_s + 0.011 for t in times)
