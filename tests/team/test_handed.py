"""What a page hands over: code and numbers of the record, bounded, and no word of who proposed it."""

from __future__ import annotations

from pathlib import Path

import pytest
from team.books import Story
from traps import play

from org.home import Home
from org.lab import follow, gate, ledger, record
from org.team import handed
from org.team.occasions import Occasion, stalemates, tentative

EXPERIMENT = ("diff", "claim", "runs")


@pytest.mark.slow  # an experiment from its filing to its verdict
def test_the_breaker_gets_the_change_the_claim_and_every_run_and_not_what_its_author_says(tiny_home: Home) -> None:
    record.ensure_program(tiny_home, "main")
    seat = play.make_seat(tiny_home)
    path = Path(seat.worktree) / "train.py"
    path.write_text(path.read_text().replace("MATRIX_LR = 0.02", "MATRIX_LR = 0.04  # PERSUASION"))
    name = gate.submit(tiny_home, seat, "I am sure that this is wonderful", expect=-0.05).experiment
    follow.drive(tiny_home, name, lambda line: None, poll_s=0.02)
    book = ledger.read(tiny_home)
    [occasion] = tentative(book, "2020-01-01T00:00:00Z")
    assert (occasion.subject, occasion.author) == (name, seat.name)
    text = handed.facts(tiny_home, book, (*EXPERIMENT, "comms/results.tsv"), occasion)
    assert "    -MATRIX_LR = 0.02" in text and "    +MATRIX_LR = 0.04" in text
    assert "predicted -0.0500" in text and "matrix_lr 0.02→0.04" in text.lower() and "wonderful" not in text
    assert "PERSUASION" not in text and "PERSUASION" in path.read_text(), "what is said in comments is the author's too"
    for run in book.verdicts[name].runs:
        assert f"| {run} | " in text and f"{book.results[run].metric:.5f}" in text
    assert "wonderful" in handed.facts(tiny_home, book, ("ledger",), occasion), "the table that everybody reads"


def test_what_is_no_experiment_hands_over_none(tmp_path: Path) -> None:
    story = Story()
    assert handed.facts(Home(tmp_path), story.book, EXPERIMENT, Occasion(question="Why?")) == ""
    said = handed.facts(Home(tmp_path), story.book, ("question", "ledger"), Occasion(question="Why?\n# Big\x1b[2J"))
    assert said.startswith("### Question\n\n> Why?\n> # Big") and "\x1b" not in said and "No verdict yet." in said


def test_a_program_is_dry_after_so_many_verdicts_and_again_after_as_many_more() -> None:
    story = Story()
    keys = []
    for number in range(1, 10):
        name = f"E{number:04d}"
        story.experiment(name)
        story.verdict(name, "win" if number == 3 else "null", [], 0.0, tier="tentative")
        keys.append([each.key for each in stalemates(story.book, 3, "2020-01-01T00:00:00Z")])
    dry = [bool(key) for key in keys]
    assert dry == [False] * 5 + [True] * 4
    assert keys[5] == keys[6] == keys[7] != keys[8], "once for each three"
