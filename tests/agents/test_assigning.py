"""What a chief makes of ideas: which next, for whom, what speaks against it, what a paper proposes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.agents import assigning, wishes
from org.agents.decisions import Post
from org.agents.search import Trial
from org.records import Knob, Metric

KNOBS = {
    "matrix_lr": Knob("matrix_lr", "t.py", "optimizer", 0.005, 0.16, log=True),
    "warmdown_frac": Knob("warmdown_frac", "t.py", "schedule", 0.0, 0.9),
    "activation": Knob("activation", "t.py", "model", choices=("relu2", "gelu")),
}
POSTS = [Post("j1", "optimizer", ("matrix_lr",)), Post("j2", "schedule", ("warmdown_frac", "activation"))]
METRIC = Metric()


def ideas(*rows: dict[str, Any]) -> list[assigning.Idea]:
    plain = {"status": "open", "source": "j1", "objection": "luck", "text": "matrix_lr=0.05"}
    return assigning.read([{"id": f"I{n:04d}", **plain, **row} for n, row in enumerate(rows, 1)], KNOBS)


def due(*rows: dict[str, Any]) -> tuple[str, str] | None:
    found = assigning.due(ideas(*rows), POSTS, METRIC, 0.005)
    return (found[0].id, found[1]) if found else None


def trial(number: int, new: float, outcome: str | None = "loss", effect: float | None = 0.02, **more: Any) -> Trial:
    return Trial(
        f"E{number:04d}",
        "optimizer",
        "j1",
        (("matrix_lr", 0.02, new),),
        outcome=outcome,
        effect=effect,
        se=0.01,
        **more,
    )


def test_a_persons_idea_goes_first_then_what_promises_most() -> None:
    assert due({"expect": -0.01}, {"expect": -0.02}) == ("I0002", "j1")
    assert due({"expect": -0.01}, {"expect": -0.02}, {"is_persons": True, "text": "a longer warmdown_frac"}) == (
        "I0003",
        "j2",
    )
    assert due({"expect": -0.02}, {"expect": -9.0}, {"expect": -9.0}) == ("I0002", "j1")  # boasts are all alike
    assert due({"expect": +0.5}, {}) == ("I0002", "j1")  # one that predicts harm comes last


def test_whose_ideas_kept_their_promises_is_believed_more() -> None:
    tried = {"status": "tried", "source": "paper", "experiments": [{"experiment": "E0001", "outcome": "loss"}]}
    assert due(tried, {"source": "paper", "expect": -0.01}, {"source": "j2", "expect": -0.008}) == ("I0003", "j1")
    won = {**tried, "experiments": [{"experiment": "E0001", "outcome": "win"}]}
    assert due(won, {"source": "paper", "expect": -0.01}, {"source": "j2", "expect": -0.008}) == ("I0002", "j1")


def test_nobody_has_more_than_one_idea_ahead_and_the_next_junior_is_served() -> None:
    mine = {"status": "assigned", "assigned_to": "j1"}
    assert due(mine, {}) == ("I0002", "j1")
    assert due(mine, mine, {"is_persons": True}) is None
    shared = [Post("j1", "a", ("matrix_lr",)), Post("j2", "a", ("matrix_lr",))]
    found = assigning.due(ideas(mine, {}), shared, METRIC, 0.005)
    assert found is not None and found[1] == "j2"


@pytest.mark.parametrize(
    "row",
    [
        {"repeats": ["E0004"]},
        {"text": "share the embedding with the head"},
        {"status": "parked"},
        {"status": "dead"},
        {"status": "tried"},
        {"status": "unreadable"},
    ],
)
def test_what_was_tried_or_cannot_be_expressed_is_not_handed_out(row: dict[str, Any]) -> None:
    assert due(row) is None


def test_what_was_tried_is_handed_out_when_the_person_insists() -> None:
    assert due({"repeats": ["E0004"], "insisted": True}) == ("I0001", "j1")


# --- objections and letters


def objection(trials: list[Trial], **row: Any) -> str:
    return assigning.objection(ideas(row)[0], {"matrix_lr": 0.02}, trials, METRIC, 0.005)


def test_the_strongest_objection_is_what_was_measured_that_way() -> None:
    trials = [
        trial(1, 0.03, effect=0.01),
        trial(2, 0.08, effect=0.05),
        trial(3, 0.01, effect=0.09),
        trial(4, 0.04, "win", -0.1),
    ]
    said = objection(trials, expect=-0.04)
    assert said.startswith("E0002 matrix_lr 0.02→0.08 was a loss, {E0002.effect}. E0001")
    assert "E0003" not in said and "E0004" not in said  # the other way; and what won
    assert "E0003" in objection(trials, text="a smaller matrix_lr")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "predicts no size"),
        ({"expect": -0.001}, "smaller than the noise"),
        ({"expect": -0.2}, "larger than nearly any"),
        ({"expect": -0.02, "text": "matrix_lr=0.02"}, "stands at 0.02 already"),
        ({"expect": -0.02, "text": "matrix_lr=0.04 and activation=gelu"}, "which of them"),
        ({"expect": -0.02}, "names no mechanism"),
        ({"expect": -0.02, "mechanism": "larger steps"}, "another constant's"),
    ],
)
def test_an_objection_says_what_the_idea_leaves_open(row: dict[str, Any], said: str) -> None:
    assert said in objection([trial(1, 0.08, outcome="win", effect=-0.02)], **row)


def test_the_letter_names_the_idea_its_objection_and_the_evidence_and_orders_only_the_idea() -> None:
    [idea] = ideas({"objection": "try matrix_lr=0.09\nKnobs: activation", "objection_by": "j2", "expect": -0.02})
    body = assigning.letter(idea, [trial(1, 0.08)])
    assert "Idea I0001 (j1): matrix_lr=0.05" in body and "{E0001.effect}" in body and "It predicts -0.02." in body
    letter = {"kind": "task", "about": "I0001", "body": body}
    assert wishes.is_one_idea(letter)
    assert [(w.knob.name, w.value, w.idea) for w in wishes.of_idea(letter, KNOBS)] == [("matrix_lr", 0.05, "I0001")]


def test_an_idea_without_a_value_is_one_step_the_way_its_words_want() -> None:
    [up, down, either] = ideas(
        {"text": "a longer warmdown_frac"}, {"text": "reduce matrix_lr"}, {"text": "tune matrix_lr, up or down"}
    )
    found = [wishes.of_idea({"about": i.id, "body": assigning.letter(i, [])}, KNOBS) for i in (up, down, either)]
    assert [(w.knob.name, w.value, w.towards) for [w] in found] == [
        ("warmdown_frac", None, 1),
        ("matrix_lr", None, -1),
        ("matrix_lr", None, 0),
    ]


def test_a_task_with_knobs_is_a_post_and_a_wish_is_over_when_its_experiment_is_filed() -> None:
    assert not wishes.is_one_idea({"about": "I0001", "body": "Idea I0001: x\nKnobs: matrix_lr"})
    assert not wishes.is_one_idea({"about": "E0001", "body": "x"})
    wish = wishes.Wish(KNOBS["matrix_lr"], 0.05, "", "I0001")
    assert not wishes.is_tested(wish, [trial(1, 0.05), trial(2, 0.06, idea="I0001")])
    assert wishes.is_tested(wish, [trial(1, 0.05, outcome=None, idea="I0001")])
    assert wishes.is_tested(wish._replace(value=None), [trial(2, 0.06, idea="I0001")])


# --- papers

PAPER = """About `matrix_lr`=0.03 nobody asked here.

## Larger steps
Early steps are small. So `matrix_lr` = 0.07, and we expect -0.03; never `activation`=swish.

### On warmdown_frac
A longer tail settles the matrices! More.

## Related work
Others.
"""


def test_a_paper_proposes_its_settings_and_the_sections_about_a_constant() -> None:
    found = assigning.drafts(PAPER, KNOBS)
    assert [(d.text, d.mechanism, d.expect) for d in found] == [
        ("matrix_lr = 0.03", "About matrix_lr=0.03 nobody asked here.", None),
        ("Larger steps: matrix_lr = 0.07", "Early steps are small.", -0.03),
        ("On warmdown_frac. A longer tail settles the matrices!", "A longer tail settles the matrices!", None),
    ]


@given(st.text(alphabet="#` \n=.-+1matrix_lrexpect\t\x00", max_size=300))
def test_no_paper_makes_more_ideas_than_a_few_or_one_of_nothing(paper: str) -> None:
    found = assigning.drafts(paper, KNOBS)
    assert len(found) <= assigning.MOST_OF_A_PAPER
    assert all("matrix_lr" in draft.text and "\n" not in draft.text for draft in found)
