"""A retraction is told: on the morning page, by letter and in `org results`, and what was retracted is no best any more."""

from __future__ import annotations

import csv

from books import CHARTER, Book, Story

from org.cli import plot, results, status
from org.team import letters, snapshot, standup

ROLES = {"chief": "chief", "j1": "junior", "j2": "junior"}
WHY = "E0003 did not carry to demo: null, z 0.10 < 1.64 after 4 runs; the head of main goes back to 0000000"


def night(outcome: str) -> Story:
    """A win of j1, verified as a stack with one of j2, and its re-test at demo."""
    story = Story()
    bank = story.bank(2.10, 2.11)
    for name, tree, seat in (("E0001", "c", "j1"), ("E0002", "d", "j2")):
        story.experiment(name, seat=seat, tree=tree)
        story.verdict(name, "win", [story.run(f"{name}/candidate-s1", 2.06, tree), *bank], -0.05, 0.01, "tentative")
    story.experiment("E0003", seat="org", members=("E0001", "E0002"), tree="9", stage="verify")
    runs = [story.run(f"E0003/candidate-s{s}", 2.03, "9", stage="verify") for s in (101, 102)]
    story.verdict("E0003", "win", runs, -0.07, 0.01, "verified")
    head = {"program": "main", "commit": "9" * 40, "tree": "9", "experiment": "E0003"}
    story.line("head", **head, members=["E0001", "E0002"], seeds=[], was="0" * 40)
    story.experiment("E0004", seat="human", tree="9", stage="promote", scale="demo", promotes="E0003")
    story.verdict("E0004", outcome, [], -0.001, 0.01, None)
    return story


def retract(story: Story) -> None:
    gone = {"program": "main", "commit": "0" * 40, "tree": "0", "experiment": "E0004", "was": "9" * 40}
    story.line("head", **gone, retracts=["E0003"], scale="demo", why=WHY)


def page(story: Story) -> str:
    return standup.page(story.book, CHARTER, story.time(), standup.Words())


def test_the_page_says_what_was_called_back_and_counts_it_nowhere() -> None:
    story = night("null")
    assert "best effect **-0.0700" in page(story)
    retract(story)
    text = page(story)
    assert f"- E0003 retracted: {WHY}" in text
    assert "best effect **-0.0500" in text and "verified in E0003" not in text
    shot = snapshot.of_ledger(story.book, CHARTER)
    assert shot["best"]["verified"] is None and shot["progress"]["verified"][-1][1] > 2.06
    assert {row["experiment"]: row["tier"] for row in shot["verdicts"]}["E0003"] == "retracted"
    assert not any(step.is_verified for step in plot.steps(story.book, CHARTER))
    assert "3 wins" not in results._summary(story.book) and "1 retracted" in results._summary(story.book)


def test_what_carried_is_told_and_is_no_win_of_its_own() -> None:
    story = night("win")
    text = page(story)
    assert "re-test E0004 of E0003 at demo: win" in text and "2 experiments decided" in text
    shown = {row["experiment"]: row for row in results.rows(story.book)}
    assert shown["E0003"]["on_the_ladder"] == ["carried to demo by E0004"]
    assert snapshot.of_ledger(story.book, CHARTER)["best"]["verified"]["experiment"] == "E0003"


def test_the_curve_is_of_the_charters_scale() -> None:
    story = night("win")
    story.run("E0000/baseline-s21", 1.5, "b", stage="bank", scale="demo")
    story.experiment("E0005", tree="5", scale="demo")
    run = story.run("E0005/candidate-s1", 1.2, "5", scale="demo")
    story.verdict("E0005", "win", [run], -0.3, 0.01, "tentative")
    assert "best effect **-0.0700" in page(story)
    assert snapshot.of_ledger(story.book, CHARTER)["progress"]["claimed"][-1][1] > 2
    assert snapshot.of_ledger(story.book, CHARTER)["progress"]["verified"][0][1] == 2.105


def test_a_retraction_is_one_letter_to_those_it_concerns() -> None:
    story = night("null")
    told = story.book.rows[-1]["seq"]
    retract(story)
    [letter] = letters.outgoing(story.book, CHARTER, ROLES, {"j1": "main", "j2": "other"}, told)
    assert letter.to == ("j1", "chief") and WHY in letter.body and "--sync" in letter.body


def test_what_was_told_is_not_read_again() -> None:
    story = night("null")
    book = story.book
    damaged = Book()
    unread = b'{"seq": 1, "kind": "launch", "key": "launch:E0001/x", "t": "2026", "org": "", "run": "E0001/x", '
    damaged.add(unread)  # reading it would fail
    for row in book.rows:
        damaged.add({**row, "seq": row["seq"] + 1})
    told = book.rows[-1]["seq"] + 1
    assert letters.outgoing(damaged, CHARTER, ROLES, {}, told) == []
    story.book = damaged
    retract(story)
    assert [letter.about for letter in letters.outgoing(damaged, CHARTER, ROLES, {}, told)] == ["E0004"]


def test_the_csv_says_what_a_row_is_and_that_it_was_retracted(capsys) -> None:
    story = night("null")
    retract(story)
    results._print_csv(results.rows(story.book))
    rows = {row["experiment"]: row for row in csv.DictReader(capsys.readouterr().out.splitlines())}
    assert {name: row["stage"] for name, row in rows.items()} == {
        "E0001": "search",
        "E0002": "search",
        "E0003": "verify",
        "E0004": "promote",
    }
    assert (rows["E0003"]["outcome"], rows["E0003"]["retracted"], rows["E0001"]["retracted"]) == (
        "win",
        "True",
        "False",
    )
    assert (rows["E0004"]["scale"], rows["E0004"]["promotes"], rows["E0004"]["control"]) == ("demo", "E0003", "")


def test_another_scale_than_the_charters_is_named() -> None:
    text = results.text(night("win").book, results.rows(night("win").book), "smoke")
    assert [line.split()[0] for line in text.splitlines() if "at demo)" in line] == ["E0004"]
    best = {
        "experiment": "E0001",
        "effect": -0.05,
        "se": None,
        "tier": "tentative",
        "description": "x",
        "scale": "demo",
    }
    facts = {
        "org": {"home": "h", "running": False, "isolation": "none"},
        "seats": [],
        "devices": [],
        "queue": [],
        "runs": 1,
        "best": {"verified": None, "tentative": best},
    }
    assert "E0001 -0.0500 at demo  x" in status.render(facts, "smoke")
    assert "at demo" not in status.render(facts, "demo")
