"""What the org prints of its own ledger has no mark, whatever happened; one number changed by hand on it has one."""

from __future__ import annotations

import re

import pytest
from books import CHARTER, Story

from org.cli import results
from org.evidence.stack import Credit, Step
from org.lab import landtext
from org.records import Letter
from org.team import standup, tokens
from org.team.prose import Reader
from org.team.standup import Words

WHY = "E0003 did not carry to std: null, z 0.10 < 1.64 after 4 runs; the head of main goes back to 0000000"


def story() -> Story:
    """Wins, a stack with credits, a control and its verification, a re-test that carried, a deletion, failures."""
    told = Story()
    bank = told.bank(2.10, 2.11, 2.09, 2.10)
    for name, seat, knob, why, tree, at in (
        ("E0001", "j1", ("MATRIX_LR", 0.02, 0.04), "worse lr, 3 wins before", "c", 2.06),
        ("E0002", "j2", ("WARMDOWN", 0, "0.5"), "after 9 experiments", "d", 2.08),
    ):
        told.experiment(name, seat=seat, knob=knob, why=why, tree=tree, expect=-0.0321)
        run = told.run(f"{name}/candidate-s1", at, tree, train_s=54.0)
        reasons = ("z 4.56 >= 1.64 after 2 runs", "effect -0.04500 ± 0.01010; sigma 0.0123 (80 % upper limit 0.0166)")
        told.verdict(name, "win", [run, *bank], at - 2.1, 0.0101, "tentative", z=4.56, expect=-0.0321, reasons=reasons)
    told.experiment("E0003", seat="org", why="stack of E0001 and E0002", members=("E0001", "E0002"), tree="9")
    runs = [told.run(f"E0003/candidate-s{s}", 2.03, "9", stage="verify") for s in (101, 102)]
    told.verdict("E0003", "win", runs, -0.0712, 0.0113, "verified", z=6.3)
    head = {"program": "main", "tree": "9", "experiment": "E0003", "effect": -0.0654, "se": 0.0113, "seeds": []}
    told.line("head", **head, commit="9" * 40, members=["E0001", "E0002"], was="0" * 40)
    for member, outcome, effect in (("E0001", "helps", -0.0793), ("E0002", "inert", -0.0021)):
        found = Credit("main", "E0003", "9" * 40, member, "t", outcome, effect, 0.0054, -effect / 0.0054)
        told.line("credit", **found.to_dict())
    told.line("head", **head, commit="8" * 40, members=["E0001"], removed=["E0002"], was="9" * 40)
    told.experiment("E0004", control="flops", why="a third layer", tree="f", seat="j2")
    told.run("E0004/probe-s1", None, "f", status="crash")
    own = told.run("E0004/candidate-s1", 1.90, "f", steps=150)
    told.verdict("E0004", "win", [own, *bank], -0.2000, 0.0100, "tentative", z=20.0)
    told.experiment("E0005", control="flops", members=("E0004",), stage="verify", tree="f", seat="human")
    told.verdict(
        "E0005", "win", [told.run("E0005/candidate-s11", 1.91, "f", stage="verify")], -0.1900, 0.0100, "verified"
    )
    told.experiment("E0006", why="delete the softcap", tree="2", claim="no-worse:lines")
    told.verdict("E0006", "holds", [told.run("E0006/candidate-s1", 2.1, "2")], 0.0012, 0.0044, "tentative", z=-0.27)
    told.experiment("E0007", why="worse 0.777 | bpb <b>", expect=-0.01, tree="3")
    told.verdict("E0007", "loss", [told.run("E0007/candidate-s1", 2.2, "3")], 0.1000, 0.0120, z=-8.3)
    told.experiment("E0008", why="new activation", tree="4")
    told.run("E0008/candidate-s1", None, "4", status="crash", reason="NaN")
    told.verdict("E0008", "crash", ["E0008/candidate-s1"], reasons=("val_bpb 9.87 is worse than effect 5.5",))
    told.experiment(
        "E0009", seat="human", tree="c", stage="promote", scale="std", promotes="E0001", why="does it carry?"
    )
    run = told.run("E0009/candidate-s21", 1.6, "c", stage="promote", scale="std")
    told.verdict("E0009", "win", [run], -0.0333, 0.0144, z=2.3)
    told.experiment("E0011", why="open yet", expect=-0.02, tree="5")
    told.line("experiment", refused=True, why="no", key="refusal:1")
    return told


def retract(told: Story) -> None:
    told.experiment(
        "E0010",
        created=told.time(),
        seat="human",
        tree="9",
        stage="promote",
        scale="std",
        promotes="E0003",
        why="does it carry?",
    )
    told.verdict("E0010", "null", [], -0.0011, 0.0110, z=0.10, reasons=("z 0.10 < 1.64 after 4 runs",))
    gone = {"program": "main", "commit": "0" * 40, "tree": "0", "experiment": "E0010", "was": "8" * 40}
    told.line("head", **gone, retracts=["E0003"], scale="std", why=WHY)


SAID = "we made 99 experiments, 7 runs; E0001 gained {E0001.credit}\nE0003 is better by 0.7771 bpb"
WORDS = Words(
    answers={"j1": SAID, "j2": "E0007 is better"},
    plans={"j1": f"{'word ' * 80}E0001 gained 0.9 bpb", "j2": "beat 0.777 bpb\nE0099"},
    questions=[Letter("l-1", "j1", "human", "question", "", "of 77 runs, E0011?", about="E0011")],
    post={"j1": tokens.Sum(12, 3456), "human": tokens.Sum(1, 80)},
)
SOURCES = {"I0001": "a paper on better losses"}


def pages(told: Story, since: str | None = None) -> dict[str, str]:
    book = told.book
    step = Step("E0003", "8" * 40, "9", ("E0001",), ("E0002",), -0.0654, told.time())
    facts = ["- files: `train.py`", "- on your commit `1234567`"]
    land = landtext.page("main, landed", facts, CHARTER, book, [("8" * 40, [step])], [("train.py", "its lines end")])
    return {
        "standup": standup.page(book, CHARTER, told.time(), WORDS, since, SOURCES),
        "land": land,
        "results": results.text(book, results.rows(book), CHARTER.scale),
    }


def marks(told: Story, text: str) -> list[tuple[str, str | None]]:
    return [(mark.text, mark.ledger) for mark in Reader(told.book, "val_bpb", SOURCES).marks(text)]


@pytest.mark.parametrize("is_retracted", [False, True])
@pytest.mark.parametrize("name", ["standup", "land", "results"])
def test_a_page_made_from_the_ledger_has_no_mark(name: str, is_retracted: bool) -> None:
    told = story()
    if is_retracted:
        retract(told)
    text = pages(told)[name]
    assert marks(told, text) == [], text


def test_a_page_of_yesterday_has_none_either() -> None:
    told = story()
    first = pages(told)["standup"]
    since = told.time()
    retract(told)
    told.run("E0000/baseline-s9", 2.105, "b", stage="bank")
    second = pages(told, since)["standup"]
    assert "Since 2026" in second and "0 wins" in second and "2 runs" not in second
    told.experiment("E0012", tree="6", created=told.time())
    told.verdict("E0012", "win", [told.run("E0012/candidate-s1", 2.0, "6")], -0.1, 0.01, "tentative", z=10.0)
    for text in (first, second):
        assert marks(told, text) == []


def test_a_count_of_the_verified_is_said_of_nobody() -> None:
    told = Story()
    told.bank(2.10, 2.11)
    told.experiment("E0001", tree="c")
    told.verdict("E0001", "win", [told.run("E0001/candidate-s1", 2.0, "c")], -0.1, 0.01, "tentative", z=10.0)
    text = standup.page(told.book, CHARTER, told.time(), Words())
    assert "0 verified" in text and marks(told, text) == []
    assert marks(told, "E0001 is verified") and marks(told, "2 wins (0 verified); E0001 is verified")


def test_what_was_verified_alone_and_fell_later_was_verified() -> None:
    told = Story()
    told.experiment("E0001", tree="c")
    told.verdict("E0001", "win", [told.run("E0001/candidate-s1", 2.0, "c")], -0.1, 0.01, "tentative", z=10.0)
    told.experiment("E0002", tree="c", members=("E0001",), stage="verify")
    told.verdict("E0002", "win", [told.run("E0002/candidate-s11", 2.0, "c")], -0.1, 0.01, "verified", z=10.0)
    head = {"program": "main", "commit": "c" * 40, "tree": "c", "was": "0" * 40}
    told.line("head", **head, experiment="E0002", members=["E0001"])
    told.experiment("E0003", promotes="E0001", stage="promote", scale="std", tree="c")
    told.verdict("E0003", "loss", [], 0.1, 0.01, z=-10.0)
    told.line(
        "head", **{**head, "was": "c" * 40}, experiment="E0003", retracts=["E0001", "E0002"], scale="std", why=WHY
    )
    page = "E0001 was verified by itself\n- E0002 was retracted at std by E0003: effect +0.1000 ± 0.0100 val_bpb, z -10.0, n 0"
    assert marks(told, page) == []


@pytest.mark.parametrize(
    ("page", "true", "false"),
    [
        ("standup", "2 wins (", "6 wins ("),
        ("standup", "(0 verified", "(2 verified"),
        ("standup", " runs and 6 experiments decided", " runs and 5 experiments decided"),
        ("standup", "in 0.25 device-hours", "in 0.37 device-hours"),
        ("standup", "-0.0793 ± 0.0054", "-0.0794 ± 0.0054"),
        ("standup", "z 14.7: credited", "z 41.7: credited"),
        ("standup", "measured 0.87 of", "measured 0.97 of"),
        ("standup", "+20.0%", "+10.0%"),
        ("standup", "z 0.10 < 1.64", "z 3.10 < 1.64"),
        ("standup", "0.02→0.04", "0.02→0.09"),
        ("standup", "[the ledger: 11 experiments]", "[the ledger: 99 experiments]"),
        ("land", "additivity 0.87", "additivity 0.99"),
        ("land", "predicted -0.0321", "predicted -0.0421"),
        ("land", "effect -0.0712", "effect -0.0912"),
        ("results", "2 wins of which 0 verified", "2 wins of which 2 verified"),
        ("results", "-0.0333 ± 0.0144", "-0.0333 ± 0.0044"),
    ],
)
def test_a_number_changed_on_it_is_marked(page: str, true: str, false: str) -> None:
    told = story()
    retract(told)
    text = pages(told)[page]
    assert true in text
    assert marks(told, text.replace(true, false, 1)), (true, false)


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("E0001 is worth -0.0793 bpb in the stack, with MATRIX_LR at 0.04 and not 0.02", []),
        ("E0001 is verified", []),  # by its credit
        ("E0002 is verified", ["contradicted"]),
        ("E0001 carried to std: z 2.3", []),
        ("E0003: a gain of 0.0654 is to be expected", []),
        ("E0011 is filed, E0099 is not", ["unsupported"]),
        ("E0008 reached 9.87", ["unsupported"]),  # a crashed trainer's words are no measurement
        ("E0007 gained 0.777", ["unsupported"]),  # said so in its description
        ("a loss of 0.0555 after 12 runs", ["unsupported"]),
        ("12 runs of training", ["contradicted"]),
        ("each arm of E0001 has 12 runs", []),
        ("against 0.123", []),
    ],
)
def test_what_a_person_writes_is_held_against_all_of_it(line: str, kinds: list[str]) -> None:
    told = story()
    assert [mark.kind for mark in Reader(told.book, "val_bpb").marks(f"A page\n\n{line}\n")] == kinds


def test_credits_heads_and_stacks_can_be_cited() -> None:
    read = Reader(story().book, "val_bpb").read
    assert read("{E0001.credit} {E0001.credit_se} {E0001.credit_z}") == "-0.0793 0.0054 14.69"
    assert read("{E0003.effect} {E0003.head} {E0003.additivity}") == "-0.0712 -0.0654 0.87"
    assert read("{E0007.credit}") == "[E0007.credit: none]"
    assert re.fullmatch(r"\[E0001\.lies: not one of .*additivity, head\]", read("{E0001.lies}"))


def test_a_control_is_no_win_of_the_search() -> None:
    told = story()
    shown = pages(told)
    assert "2 wins (1 verified, 1 tentative); 1 held (no-worse shown); 1 kept under a control" in shown["standup"]
    assert "best effect **-0.0712" in shown["standup"]
    assert "2 wins of which 1 verified, 1 kept under a control" in shown["results"]
    assert re.search(r", (\d) verifications?, \1 passed", shown["results"]), (
        "a stack stands in the table, and is no win"
    )
