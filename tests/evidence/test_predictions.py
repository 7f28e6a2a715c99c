"""Predictions against what was measured: by seat, by backend, by the source of the idea."""

from __future__ import annotations

from dataclasses import replace

import pytest

from org.bench import orgbench
from org.evidence import predictions
from org.records import Contract, Verdict

ORIGINS = {
    "I0001": predictions.Origin("a paper", "chief"),
    "I0002": predictions.Origin("j1", "j1"),
    "I0003": predictions.Origin("human", "j3"),
}


def case(name: str, expect: float | None, effect: float | None, seat: str, **more: object) -> tuple[Contract, Verdict]:
    plain = orgbench.contract_for(name, name, (1, 2), "search")
    contract = replace(plain, seat=seat, expect=expect, **more)
    number = None if effect is None else 0.01
    verdict = Verdict(name, "null", None, "better", effect, number, number, 1, "tokens", "referee", (), ())
    return contract, verdict


CASES = [
    case("E0001", -0.02, -0.01, "j1", backend="claude", idea="I0001"),
    case("E0002", -0.02, +0.02, "j1", backend="claude", idea="I0002"),
    case("E0003", 0.0, +0.01, "j2", backend="offline"),  # a no-worse claim: no sign to be right
    case("E0004", -0.03, -0.03, "j2", backend="offline", idea="I0009"),
    case("E0005", -0.05, None, "j2", backend="offline", idea="I0001"),  # invalid, a crash, lost: nothing was measured
    case("E0006", None, -0.09, "j3", backend="codex"),
    case("E0008", None, -0.03, "j3", backend="codex", idea="I0003", idea_expect=-0.04),
    case(
        "E0009", None, +0.90, "j3", backend="codex", idea="I0003", idea_expect=-0.04
    ),  # a second value of an idea: not what it predicted
    case("E0007", -0.5, -0.09, "human", members=("E0001", "E0004")),  # a stack: nobody predicted it
]


def scored() -> dict[tuple[str, str], predictions.Score]:
    contracts = {c.experiment: c for c, _ in CASES}
    found = predictions.scores(contracts, {v.experiment: v for _, v in CASES}, ORIGINS)
    return {(score.by, score.who): score for score in found}


def test_each_seat_backend_and_source_has_one_score_in_this_order() -> None:
    assert list(scored()) == [
        ("seat", "j1"),
        ("seat", "j2"),
        ("backend", "claude"),
        ("backend", "offline"),
        ("idea author", "j3"),
        ("idea source", "a paper"),
        ("idea source", "human"),
        ("idea source", "j1"),
        ("idea source", predictions.NO_PAGE),
    ]


@pytest.mark.parametrize(
    ("key", "n", "signs", "error"),
    [
        (("seat", "j1"), 2, "1/2 (50%)", 0.025),
        (("seat", "j2"), 2, "1/1 (100%)", 0.005),
        (("backend", "claude"), 2, "1/2 (50%)", 0.025),
        (("idea source", "a paper"), 1, "1/1 (100%)", 0.01),
        (("idea source", "j1"), 1, "0/1 (0%)", 0.04),
        (("idea author", "j3"), 1, "1/1 (100%)", 0.01),
        (("idea source", "human"), 1, "1/1 (100%)", 0.01),
    ],
)
def test_the_sign_and_the_distance_are_those_of_what_was_measured(key, n: int, signs: str, error: float) -> None:
    score = scored()[key]
    assert (score.n, predictions.signs(score), score.error) == (n, signs, pytest.approx(error))


def test_predicting_nothing_has_no_sign_and_no_ledger_no_score() -> None:
    contract, verdict = CASES[2]
    (score, _) = predictions.scores({"E0003": contract}, {"E0003": verdict}, {})
    assert predictions.signs(score) == "-"
    assert predictions.scores({}, {}, {}) == []
