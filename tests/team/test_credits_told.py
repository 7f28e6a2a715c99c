"""Leave-one-out is told: on the morning page, by letter and in `org results`, and no member is called verified before."""

from __future__ import annotations

from books import CHARTER, Story

from org.cli import results
from org.evidence.stack import Credit
from org.team import letters, standup

ROLES = {"chief": "chief", "j1": "junior", "j2": "junior"}


def night() -> Story:
    """Two wins, verified as one stack."""
    story = Story()
    bank = story.bank(2.10, 2.11)
    for name, tree, seat in (("E0001", "c", "j1"), ("E0002", "d", "j2")):
        story.experiment(name, seat=seat, tree=tree)
        story.verdict(name, "win", [story.run(f"{name}/candidate-s1", 2.06, tree), *bank], -0.05, 0.01, "tentative")
    story.experiment("E0003", seat="org", members=("E0001", "E0002"), tree="9")
    runs = [story.run(f"E0003/candidate-s{s}", 2.03, "9", stage="verify") for s in (101, 102)]
    story.verdict("E0003", "win", runs, -0.07, 0.01, "verified")
    story.line(
        "head", program="main", commit="9" * 40, tree="9", experiment="E0003", members=["E0001", "E0002"], seeds=[]
    )
    return story


def credit(story: Story, member: str, outcome: str, effect: float) -> None:
    found = Credit("main", "E0003", "9" * 40, member, "t", outcome, effect, 0.01, -effect / 0.01, without="8" * 40)
    story.line("credit", **found.to_dict())


def page(story: Story) -> str:
    return standup.page(story.book, CHARTER, story.time(), standup.Words())


def test_a_member_is_verified_when_its_removal_hurts_and_not_before() -> None:
    story = night()
    assert "tentative, in E0003 without a credit yet" in page(story) and "2 wins (0 verified, 2 tentative)" in page(
        story
    )
    credit(story, "E0001", "helps", -0.06)
    credit(story, "E0002", "inert", -0.002)
    story.line(
        "head", program="main", commit="8" * 40, tree="8", experiment="E0003", members=["E0001"], removed=["E0002"],
        was="9" * 40,
    )  # fmt: skip
    text = page(story)
    assert "2 wins (1 verified, 1 tentative)" in text
    assert "verified in E0003" in text and "tentative, no part of E0003" in text
    assert "E0002 left E0003, the head is no worse without it" in text
    assert "E0001 in E0003 is worth -0.0600 ± 0.0100 val_bpb, z 6.0: credited" in text
    assert "E0003 measured 1.13 of the sum of its members' credits" in text


def test_a_credit_and_a_member_that_left_are_each_one_letter() -> None:
    story = night()
    told = story.book.rows[-1]["seq"]
    credit(story, "E0001", "helps", -0.06)
    credit(story, "E0002", "inert", -0.002)
    story.line("head", program="main", commit="8" * 40, experiment="E0003", members=["E0001"], removed=["E0002"])
    sent = letters.outgoing(story.book, CHARTER, ROLES, {"j1": "main", "j2": "main"}, told)
    assert [(letter.to, letter.about) for letter in sent] == [
        (("j1", "chief"), "E0003"),
        (("j2", "chief"), "E0003"),
        (("j1", "j2", "chief"), "E0003"),
    ]
    assert len({letter.id for letter in sent}) == 3 and "its removal does not hurt" in sent[1].body
    assert "E0002 left it" in sent[2].body and "--sync" in sent[2].body


def test_results_show_what_each_member_is_worth() -> None:
    story = night()
    credit(story, "E0001", "helps", -0.06)
    rows = {row["experiment"]: row for row in results.rows(story.book)}
    assert rows["E0001"]["credit"] == {"experiment": "E0003", "outcome": "helps", "effect": -0.06, "se": 0.01, "z": 6.0}
    assert rows["E0002"]["credit"] is None
    assert "credited in E0003" in results._line(rows["E0001"])[1]
