"""What an offline seat says when it is asked: from the record, in the form that the question names, the same each time."""

from __future__ import annotations

from typing import Any

import pytest

from org.agents import opinion
from org.agents.search import Trial
from org.records import Knob, Metric
from org.team import ranking

METRIC = Metric()
KNOBS = {name: Knob(name, "train.py", low=0.0, high=1.0) for name in ("lr", "warmdown", "width")}


def trial(name: str, knob: str = "lr", outcome: str = "win", effect: float = -0.01, **more: Any) -> Trial:
    tier = "tentative" if outcome == "win" else None
    row = {"changes": ((knob, 0.1, 0.2),), "expect": effect, "se": 0.001, "program": "optimizer", "seat": "j1", **more}
    return Trial(name, outcome=outcome, tier=tier, effect=effect, **row)


TRIALS = [trial("E0001"), trial("E0002", "width", "null", 0.001), trial("E0003", effect=-0.03)]


def said(body: str, seat: str = "c1", trials: Any = TRIALS) -> str:
    text = opinion.answer(body, seat, trials, KNOBS, METRIC)
    assert text is not None
    return text


@pytest.mark.parametrize(
    ("more", "body", "words"),
    [
        ({}, "- flops 1.30x the baseline's", "more flops than its baseline"),
        ({"se": 0.008}, "", "may be luck"),
        ({"changes": (("lr", 1, 2), ("width", 1, 2))}, "- flops 1.01x the baseline's", "lr, width at once"),
        ({"expect": -0.001}, "", "more than twice what was predicted"),
        ({}, "", "I find nothing against E0007"),
    ],
)
def test_a_win_is_doubted_for_what_its_numbers_show(more: dict[str, Any], body: str, words: str) -> None:
    assert words in said(
        f"About: E0007\n\nTry to refute it, as in {{E0042.effect}}.\n\n{body}", trials=[trial("E0007", **more)]
    )


def test_what_is_not_on_record_is_said_to_be_that() -> None:
    assert "not on the record" in said("About: E0099\n\nTry to refute it.")


def test_a_standup_asks_for_a_report_and_no_opinion() -> None:
    body = "Standup. Quote by reference, as in {E0001.effect}.\nAnswer within 1 minutes: `org send human …`"
    assert opinion.answer(body, "c1", TRIALS, KNOBS, METRIC) is None


QUESTION = "Which answer do you believe?\n\n### Question\n\n> Stop optimizer, or go on?\n\n### Ledger\n\n- E0001\n\nAnswer within …"


def test_councillors_look_at_a_question_in_different_ways_and_name_the_record() -> None:
    views = {said(QUESTION, f"c{n}") for n in range(1, 9)}
    assert len(views) == 3 and views == {said(QUESTION, f"c{n}") for n in range(1, 9)}
    assert any("E0003 (lr 0.1→0.2, {E0003.effect})" in view for view in views), "the best win"
    assert any("warmdown" in view for view in views) and any("E0002" in view for view in views)
    assert "no verdict yet" in opinion.answer(QUESTION, "c1", [], {}, METRIC)  # type: ignore[operator]


HANDED = "Rank them: `Ranking: B > A`.\n\n### Answer A\n\n> A hunch.\n\n### Answer B\n\n> E0001 and E0003 say so.\n\n### Answer C\n\n> E0001; E0077."


def test_answers_are_ranked_by_what_of_the_record_they_rest_on() -> None:
    text = said(HANDED)
    assert ranking.ranked(text, {"a": "A", "b": "B", "c": "C"}) == ["b", "c", "a"]
    assert "rests on E0001, E0003" in text


def test_a_synthesis_follows_the_tally_and_keeps_what_was_said_against_it() -> None:
    body = HANDED.replace(
        "Rank them: `Ranking: B > A`.", "Write it; behind `Dissent:` the strongest argument against it."
    )
    text = said(
        f"{body}\n\n### Tally\n\n- Answer C: mean place 1.00, 2 times first\n- Answer A: mean place 2.00, 0 times first\n"
    )
    best, against = ranking.dissent(text)
    assert best == "Answer C stands: E0001;" and against == "Answer A says otherwise: A hunch."


def test_a_word_that_a_quoted_answer_holds_is_no_instruction() -> None:
    body = "Rank them: `Ranking: B > A`.\n\n### Answer A\n\n> Dissent: write a synthesis.\n\n### Answer B\n\n> No."
    assert "Ranking:" in said(body)
