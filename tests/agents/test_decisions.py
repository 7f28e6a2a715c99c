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


def test_wins_of_programs_on_one_head_count_together_and_one_stack_runs_for_all_of_them() -> None:
    trials = [trial(n, "win", program="ab"[n % 2]) for n in range(4)]
    assert due(trials) is None
    found = decisions.stack_due(("a", "b"), trials, ("x", "y"), is_idle=False)
    assert found is not None and found.subject == "a" and "4 tentative wins" in found.why
    trials.append(trial(9, None, program="b", members=("E0000",)))
    assert decisions.stack_due(("a", "b"), trials, ("x", "y"), is_idle=True) is None


def test_a_win_that_showed_much_does_not_wait_for_others() -> None:
    weak, strong = trial(1, "win", se=0.01), trial(1, "win", program="a", se=0.003)
    assert due([weak]) is None
    found = due([strong])
    assert found is not None and "too much to wait" in found.why
    assert due([strong], declined=("E0001",)) is None


def test_no_win_no_stack() -> None:
    assert due([trial(n, "null") for n in range(1, 20)], idle=True) is None
    assert due([trial(1, "win", program="b")], idle=True) is None


def test_stacked_wins_do_not_count_again_and_one_stack_runs_at_a_time() -> None:
    wins = [trial(n, "win") for n in range(1, 5)]
    members = tuple(w.experiment for w in wins)
    stack = trial(9, "null", members=members, stage="verify")
    halves = [trial(9, "null", members=half, stage="verify") for half in (members[::2], members[1::2])]
    assert due([*wins, stack, *halves], idle=True) is None
    more = [*wins, trial(9, None, members=members, stage="verify"), trial(10, "win")]
    assert due(more, idle=True) is None  # the stack is still being measured
    assert due([*wins, stack, *halves, trial(10, "win")], idle=True)


def test_the_halves_of_a_stack_that_failed_are_asked_for_until_both_were_tried() -> None:
    wins = [trial(n, "win") for n in (1, 2)]
    failed = trial(3, "null", members=("E0001", "E0002"), stage="verify")
    assert "a half of it" in due([*wins, failed]).why
    one = trial(4, "null", members=("E0001",), stage="verify")
    assert due([*wins, failed, one])
    assert due([*wins, failed, one, trial(5, "null", members=("E0002",), stage="verify")]) is None
    assert due([*wins, trial(3, "lost", members=("E0001", "E0002"), stage="verify")]) is None
    assert due([*wins, failed, trial(4, "win", members=("E0001",), stage="verify", tier="verified")]) is None
    everything = decisions.unverified("a", [*wins, failed])
    assert decisions.stack_due("a", [*wins, failed], (), is_idle=True, declined=everything) is None


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


def test_more_juniors_go_to_where_more_is_expected_and_tied_knobs_to_one() -> None:
    groups = {"a": list("pqrs"), "b": list("xyzw")}
    plain = decisions.split(groups, ["j1", "j2", "j3", "j4"])
    assert [sum(p.program == slug for p in plain) for slug in "ab"] == [2, 2]
    asked = decisions.split(groups, ["j1", "j2", "j3", "j4"], decisions.worth("pqrsxyzw", [], asked={"x", "y", "z"}))
    assert [sum(p.program == slug for p in asked) for slug in "ab"] == [1, 3]
    together = decisions.split(groups, ["j1", "j2", "j3", "j4"], tied=[("P", "q"), ("q", "r")])
    assert {frozenset(p.knobs) for p in together if p.program == "a"} == {frozenset("pqr"), frozenset("s")}
    assert sorted(n for p in together for n in p.knobs) == sorted("pqrsxyzw")


def test_a_knob_that_won_or_is_asked_for_is_worth_more_and_one_that_never_won_less() -> None:
    nulls = [trial(n, "null", knob="x") for n in range(1, 4)]
    found = decisions.worth(["X", "y", "z", "w"], [*nulls, trial(4, "win", knob="y")], wanted={"w"}, asked={"z"})
    assert found["X"] < 1.0 < found["w"] <= found["y"] < found["z"]


def test_who_joins_takes_knobs_from_who_is_there_so_that_no_two_turn_one() -> None:
    seen = [trial(7, "win", program="b", knob="p")]
    [mover, left] = decisions.handed_over(POSTS, "j2", "b", seen)
    assert (mover.seat, mover.knobs, left.seat, left.knobs) == ("j2", ("q", "r"), "j3", ("p",))
    visited = [trial(n, "null", program="b", knob=k) for n, k in enumerate("pqr")]
    [mover, left] = decisions.handed_over(POSTS, "j2", "b", visited)
    assert not set(mover.knobs) & set(left.knobs) and set(mover.knobs) | set(left.knobs) == set("pqr")
    lone = [*POSTS[:2], Post("j3", "b", ("p",))]
    assert [p.knobs for p in decisions.handed_over(lone, "j2", "b", [])] == [("p",)]  # too few to share out


def test_two_that_turn_one_knob_now_are_noticed_and_the_second_is_told() -> None:
    both = [trial(1, None), trial(2, None, seat="j2"), trial(3, None, seat="j2", knob="y")]
    [found] = decisions.double_work(both)
    assert found.subject == "j2" and "j1 turns x already (E0001)" in found.why
    assert decisions.double_work([trial(1, "null"), *both[1:]]) == []
    assert decisions.double_work([both[0], trial(2, None, seat="j2", program="b")]) == []


def test_wins_of_one_knob_and_wins_that_failed_together_are_in_each_others_way() -> None:
    wins = [trial(1, "win"), trial(2, "win"), trial(3, "win", knob="y")]
    assert [c.subject for c in decisions.conflicts(wins)] == ["E0001 E0002"]
    failed = trial(9, "null", members=("E0001", "E0003"), stage="verify")
    assert [c.subject for c in decisions.conflicts([wins[0], wins[2], failed])] == ["E0001 E0003"]
    assert decisions.tied([wins[0], wins[2], failed]) == [("x", "y")]
    passed = trial(9, "win", members=("E0001", "E0003"), stage="verify")
    assert decisions.conflicts([wins[0], wins[2], passed]) == [] == decisions.tied([wins[0], passed])
