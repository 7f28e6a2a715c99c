"""Which experiment next, told by histories."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from org.agents import knobs, reasons, search
from org.agents.search import Trial
from org.records import Knob, Metric

METRIC = Metric()
LR = Knob("matrix_lr", "t.py", low=0.005, high=0.16, log=True)
WARMDOWN = Knob("warmdown_frac", "t.py", low=0.2, high=0.8)
ROWS = Knob("rows", "t.py", choices=(4, 8, 16))
MINE = [LR, WARMDOWN, ROWS]
NOW: dict[str, Any] = {"matrix_lr": 0.02, "warmdown_frac": 0.0, "rows": 8}


def trial(number: int, name: str, new: Any, effect: float | None = 0.0, **more: Any) -> Trial:
    outcome = None if effect is None else "win" if effect < -0.01 else "null"
    row = {"program": "main", "seat": "j1", "outcome": outcome, "tier": "tentative", "effect": effect, **more}
    return Trial(f"E{number:04d}", changes=((name, NOW[name], new),), **row)


def follow(count: int, score: Any, seed: int = 1) -> list[Trial]:
    """An organisation of one that asks, measures and asks again."""
    done: list[Trial] = []
    while len(done) < count:
        chosen = search.propose(MINE, NOW, done, metric=METRIC, seed=search.seed_of("j1", seed + len(done)))
        if chosen is None:
            break
        done.append(trial(len(done) + 1, chosen.knob.name, chosen.new, score(chosen), expect=chosen.expect))
    return done


def test_the_knob_outside_its_range_comes_first_and_every_knob_is_visited_before_any_twice() -> None:
    done = follow(3, lambda chosen: 0.0)
    assert [t.changes[0][0] for t in done] == ["warmdown_frac", "matrix_lr", "rows"]
    assert done[0].changes[0][2] == 0.5 and done[1].changes[0][2] == 0.04


def test_people_s_ideas_come_before_all() -> None:
    chosen = search.propose(MINE, NOW, [], metric=METRIC, seed=1, first=["rows"])
    assert chosen is not None and chosen.knob is ROWS


def test_seats_that_share_knobs_begin_at_different_ones() -> None:
    first = {search.propose(MINE, NOW, [], metric=METRIC, seed=1, offset=k).knob.name for k in range(3)}  # type: ignore[union-attr]
    assert len(first) == 3


def test_what_anyone_tries_is_never_tried_again() -> None:
    open_elsewhere = [trial(1, "warmdown_frac", 0.5, None, seat="j7", program="other")]
    chosen = search.propose(MINE, NOW, open_elsewhere, metric=METRIC, seed=1)
    assert chosen is not None and (chosen.knob.name, chosen.new) != ("warmdown_frac", 0.5)


def test_a_refused_value_is_not_offered_again() -> None:
    chosen = search.propose([WARMDOWN], NOW, [], metric=METRIC, seed=1, barred=[("warmdown_frac", 0.5)])
    assert chosen is not None and chosen.new != 0.5


def test_choices_run_out_and_the_seat_says_so() -> None:
    done = [trial(1, "rows", 4), trial(2, "rows", 16)]
    assert search.propose([ROWS], NOW, done, metric=METRIC, seed=1) is None


def test_a_run_that_the_org_lost_does_not_close_its_value() -> None:
    lost = [trial(1, "rows", 4, None, outcome="lost"), trial(2, "rows", 16)]
    chosen = search.propose([ROWS], NOW, lost, metric=METRIC, seed=1)
    assert chosen is not None and chosen.new == 4


def test_the_search_comes_near_the_best_values() -> None:
    def score(chosen: search.Proposal) -> float:
        if chosen.knob is LR:
            return 0.08 * (abs(chosen.new - 0.04) / 0.04 - 0.5)  # type: ignore[operator]
        return 0.3 * ((chosen.new - 0.5) ** 2 - 0.25) if chosen.knob is WARMDOWN else 0.02  # type: ignore[operator]

    done = follow(14, score)
    best = min(t.effect or 0.0 for t in done)
    assert best < -0.05 and len({t.changes for t in done}) == len(done)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 12))
@example(229461, 12)  # a value outside the range, where the knob stands
def test_every_proposal_is_new_allowed_and_predicted(seed: int, length: int) -> None:
    dice = random.Random(seed)
    done = follow(length, lambda chosen: dice.gauss(0, 0.02), seed)
    chosen = search.propose(MINE, NOW, done, metric=METRIC, seed=seed)
    again = search.propose(MINE, NOW, done, metric=METRIC, seed=seed)
    assert chosen == again  # a researcher that was killed chooses the same
    if chosen is None:
        return
    tried = [new for t in done for name, _, new in t.changes if name == chosen.knob.name]
    assert not any(knobs.same(chosen.new, old) for old in [NOW[chosen.knob.name], *tried])
    if chosen.knob.choices:
        assert chosen.new in chosen.knob.choices
    else:
        assert chosen.knob.low <= chosen.new <= chosen.knob.high  # type: ignore[operator]
    assert chosen.knob.name in chosen.why and len(chosen.why) > 20 and abs(chosen.expect) < 1


@pytest.mark.parametrize("direction, sign", [("lower", -1), ("higher", 1)])
def test_an_unknown_knob_is_predicted_to_help_a_little(direction: Any, sign: int) -> None:
    chosen = search.propose(MINE, NOW, [], metric=Metric("score", direction), seed=1)
    assert chosen is not None and chosen.expect == sign * 0.005


def test_expectation_is_read_off_what_was_measured_around() -> None:
    done = [trial(1, "matrix_lr", 0.04, -0.04), trial(2, "matrix_lr", 0.01, 0.06)]
    points = search.landscape(LR, 0.02, done, METRIC)
    assert search.expectation(LR, 0.02, 0.06, points, METRIC, 0.005) == pytest.approx(-0.0225)
    assert search.expectation(LR, 0.02, 0.013, points, METRIC, 0.005) > 0
    higher = Metric("score", "higher")
    assert search.expectation(LR, 0.02, 0.04, search.landscape(LR, 0.02, done, higher), higher, 0.005) == -0.04


def test_when_the_head_moved_former_heads_are_not_tried_again_and_what_beat_them_is_scored_anew() -> None:
    done = [trial(1, "matrix_lr", 0.04, -0.04), trial(2, "matrix_lr", 0.06, -0.05), trial(3, "matrix_lr", 0.01, 0.06)]
    scores = {p.value: round(p.score, 3) for p in search.landscape(LR, 0.04, done, METRIC)}
    assert scores == {0.02: 0.04, 0.04: 0.0, 0.06: -0.01, 0.01: 0.1}
    closed = search.closed(LR, 0.04, done, METRIC)
    assert 0.02 in closed and 0.01 in closed and 0.06 not in closed
    assert search.untouched([LR], {"matrix_lr": 0.04}, done) == []  # no bold first step back to where it came from


def test_values_closer_than_the_noise_are_not_tried_side_by_side() -> None:
    done = follow(20, lambda chosen: -0.05 if chosen.knob is WARMDOWN else 0.01)
    where = sorted(knobs.position(WARMDOWN, new) for t in done for name, _, new in t.changes if name == "warmdown_frac")
    assert len(where) > 5 and min(b - a for a, b in itertools.pairwise(where)) >= search.APART - 1e-9


@pytest.mark.parametrize(
    "expect, effect, outcome, words",
    [
        (-0.005, -0.041, "win", "more than I thought"),
        (-0.005, -0.006, "null", "noise"),
        (-0.005, 0.03, "loss", "closed"),
        (-0.02, -0.02, "win", "about what I thought"),
        (-0.02, -0.006, "win", "less than I thought"),
        (-0.02, None, "crash", "no number"),
    ],
)
def test_a_verdict_is_compared_with_its_prediction(
    expect: float, effect: float | None, outcome: str, words: str
) -> None:
    assert words in reasons.lesson(trial(1, "matrix_lr", 0.04, effect, expect=expect, outcome=outcome), METRIC)


def test_rows_of_results_become_trials_and_odd_rows_do_no_harm() -> None:
    rows = [
        {"experiment": "E0000", "verdict": None},
        {"experiment": "E0001", "knobs": None, "verdict": None},
        {
            "experiment": "E0002",
            "knobs": [{"name": "MATRIX_LR", "old": 0.02, "new": 0.04}],
            "verdict": {"outcome": "win"},
        },
        {
            "experiment": "E0003",
            "stage": "verify",
            "members": ["E0002"],
            "verdict": {"outcome": "win", "tier": "verified"},
        },
        {},
    ]
    found = search.history(rows)
    assert [t.experiment for t in found] == ["E0001", "E0002", "E0003"]
    assert found[1].changes == (("matrix_lr", 0.02, 0.04),) and found[2].is_stack
    assert search.propose(MINE, NOW, found, metric=METRIC, seed=3) is not None


def test_a_control_teaches_nothing_of_the_knob_at_the_budget_of_the_search() -> None:
    row = {"experiment": "E0002", "knobs": [], "verdict": {"outcome": "loss", "effect": 0.2}}
    assert len(search.history([row, {**row, "control": None}])) == 2
    assert search.history([{**row, "control": "flops"}]) == []
