"""What a chief decides, told by histories."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from org.agents import decisions
from org.agents.decisions import Post
from org.agents.search import Trial


def trial(number: int, outcome: str | None, program: str = "a", knob: str = "x", **more: Any) -> Trial:
    tier = "tentative" if outcome in ("win", "holds") else None
    row = {"seat": "j1", "outcome": outcome, "tier": tier, "effect": -0.02 if outcome == "win" else 0.0, **more}
    return Trial(f"E{number:04d}", program, changes=((knob, 1, number),), **row)


names = st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), min_size=1, max_size=16, unique=True)


@given(names, st.integers(1, 5), st.integers(1, 12), st.randoms())
def test_every_knob_has_exactly_one_owner(knobs: list[str], groups: int, juniors: int, dice: Any) -> None:
    split: dict[str, list[str]] = {}
    for knob in knobs:
        split.setdefault(f"g{dice.randrange(groups)}", []).append(knob)
    seats = [f"j{n}" for n in range(1, juniors + 1)]
    posts = decisions.split(split, seats)
    assert [post.seat for post in posts] == seats
    assert len({post.program for post in posts}) == min(len(split), juniors)
    owned = [knob for post in posts for knob in post.knobs]
    assert set(owned) == set(knobs)
    if juniors <= len(knobs) and all(len(p.knobs) for p in posts):
        sizes = {g: sum(p.program == g for p in posts) for g in split}
        if all(sizes[g] <= len(split[g]) for g in split):
            assert len(owned) == len(knobs)
    assert all(post.knobs for post in posts)


def test_eight_juniors_are_spread_by_the_size_of_the_groups() -> None:
    groups = {"optimizer": list("abcdef"), "schedule": list("ghij"), "model": list("klmno")}
    posts = decisions.split(groups, [f"j{n}" for n in range(1, 9)])
    count = {slug: sum(post.program == slug for post in posts) for slug in groups}
    assert count == {"optimizer": 3, "schedule": 2, "model": 3}


def test_groups_without_a_junior_join_the_smallest_program() -> None:
    posts = decisions.split({"a": ["p", "q", "r"], "b": ["s"], "c": ["t", "u"]}, ["j1", "j2"])
    assert {p.program: set(p.knobs) for p in posts} == {"a": {"p", "q", "r"}, "c": {"t", "u", "s"}}


def due(
    trials: list[Trial], knobs: tuple[str, ...] = ("x", "y"), idle: bool = False, declined: tuple[str, ...] = ()
) -> Any:
    return decisions.stack_due("a", trials, knobs, is_idle=idle, declined=declined)


def test_four_tentative_wins_are_verified_at_once_and_three_wait() -> None:
    wins = [trial(n, "win") for n in range(1, 5)]
    assert due(wins[:3]) is None
    assert "4 tentative wins" in due(wins).why


def test_one_win_is_enough_when_devices_are_free_or_every_knob_was_visited_or_six_verdicts_passed() -> None:
    win = trial(1, "win", knob="x")
    assert due([win], idle=True)
    assert due([win, trial(2, "null", knob="y")])
    first = trial(3, "win", members=("E0001",), stage="verify", tier="verified")
    assert due([win, trial(2, "null", knob="y"), first, trial(4, "win")]) is None  # that reason counts once
    assert due([win, *(trial(n, "null") for n in range(2, 8))])
    assert due([win, *(trial(n, "null") for n in range(2, 7))]) is None


def test_no_win_no_stack() -> None:
    assert due([trial(n, "null") for n in range(1, 20)], idle=True) is None
    assert due([trial(1, "win", program="b")], idle=True) is None


def test_stacked_wins_do_not_count_again_and_one_stack_runs_at_a_time() -> None:
    wins = [trial(n, "win") for n in range(1, 5)]
    members = tuple(w.experiment for w in wins)
    stack = trial(9, "null", members=members, stage="verify")
    assert due([*wins, stack], idle=True) is None
    more = [*wins, trial(9, None, members=members, stage="verify"), trial(10, "win")]
    assert due(more, idle=True) is None  # the stack is still being measured
    assert due([*wins, stack, trial(10, "win")], idle=True)


def test_wins_against_a_former_head_are_not_waiting() -> None:
    wins = [trial(n, "win") for n in range(1, 6)]
    moved = trial(9, "win", members=("E0001",), stage="verify", tier="verified")
    assert due([*wins, moved], idle=True) is None
    assert due([*wins, moved, trial(10, "win")], idle=True).why.count("E00") == 1


def test_what_the_gate_declined_is_asked_again_only_with_something_new() -> None:
    wins = [trial(n, "win") for n in range(1, 5)]
    declined = tuple(w.experiment for w in wins)
    assert due(wins, declined=declined) is None
    assert due([*wins, trial(7, "win")], declined=declined)


POSTS = [Post("j1", "a", ("x",)), Post("j2", "a", ("y",)), Post("j3", "b", ("p", "q", "r"))]


def test_a_junior_leaves_a_dry_program_for_one_that_still_wins() -> None:
    dry = [trial(n, "null", knob="xy"[n % 2]) for n in range(1, 7)]
    move = decisions.move_due(POSTS, [*dry, trial(7, "win", program="b", knob="p")], {})
    assert move is not None and (move.subject, move.program) == ("j2", "b")
    post = decisions.moved(POSTS, "j2", "b", [trial(7, "win", program="b", knob="p")])
    assert post.knobs == ("q", "r")


def test_nobody_moves_while_a_program_wins_or_has_more_left_than_the_others() -> None:
    dry = [trial(n, "null") for n in range(1, 7)]
    assert decisions.move_due(POSTS, dry[:5], {}) is None
    assert decisions.move_due(POSTS, [*dry[:5], trial(6, "win")], {}) is None
    visited = [trial(20 + n, "null", program="b", knob=k) for n, k in enumerate("pqr")]
    assert decisions.move_due(POSTS, [*dry, *visited], {}) is None


def test_two_juniors_do_not_leave_on_the_same_verdicts() -> None:
    dry = [trial(n, "null", knob="xy"[n % 2]) for n in range(1, 7)]
    wins = [trial(30, "win", program="b", knob="p")]
    assert decisions.move_due(POSTS, [*dry, *wins], {"a": 6}) is None
    later = [*dry, *(trial(n, "null") for n in range(7, 10)), *wins]
    assert decisions.move_due(POSTS, later, {"a": 6}) is not None
