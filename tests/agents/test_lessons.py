"""What a chief writes into the wiki follows from verdicts, once each, and bears the ledger's own check."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pane import Pane
from test_offline import Org, junior, org  # noqa: F401 - fixtures

from org.agents import lessons
from org.agents.search import Trial
from org.team import claims


def trial(name: str, outcome: str | None, knob: str = "matrix_lr", new: float = 0.04, **more: object) -> Trial:
    return Trial(name, "main", "j1", ((knob, 0.02, new),), outcome=outcome, **more)


LOSSES = [trial(f"E000{n}", outcome, new=n / 10) for n, outcome in ((1, "loss"), (2, "null"), (3, "crash"))]


def test_a_knob_that_brought_nothing_three_times_is_a_dead_end_once() -> None:
    assert lessons.due(LOSSES[:2], ()) == []
    assert lessons.due([*LOSSES, trial("E0004", "win", tier="tentative")], ()) == []
    [lesson] = lessons.due([*LOSSES, trial("E0005", None), trial("E0006", "lost")], ())
    assert (lesson.kind, lesson.title) == ("dead-end", "Dead end: matrix_lr on main")
    assert "none kept: 0.1 (E0001, loss), 0.2 (E0002, null), 0.3 (E0003, crash)." in lesson.text
    assert lessons.due(LOSSES, {lesson.title}) == []
    assert claims.kind_of(lesson.page) == lesson.kind


def test_a_stack_that_held_is_a_finding_and_one_that_did_not_is_none() -> None:
    members = [trial("E0001", "win", tier="tentative"), trial("E0002", "win", "warmdown_frac", 0.5, tier="tentative")]
    stack = Trial(
        "E0003", "main", "org", (), outcome="win", tier="verified", members=("E0001", "E0002"), stage="verify"
    )
    [lesson] = lessons.due([*members, stack], ())
    assert lesson.kind == claims.kind_of(lesson.page) == "finding" and "(E0003)" in lesson.title
    assert "{E0003.effect}" in lesson.text and "E0002: warmdown_frac 0.02→0.5" in lesson.text
    for change in ({"outcome": "null"}, {"outcome": None}, {"is_out": True}):
        failed = Trial(**{**vars(stack), **change})
        assert lessons.due([*members, failed], ()) == []


@pytest.mark.slow  # two real programs in terminals
def test_the_offline_chief_writes_each_once_also_after_a_restart(org: Org, junior: Callable[[], Pane]) -> None:  # noqa: F811
    pane = junior()
    org.letter("j1", "task", "Work.\nKnobs: matrix_lr", "chief")
    chief = org.open("chief")
    for count in (1, 2, 3):
        pane.until(lambda count=count: len(org.filed()) >= count)
        org.judge(f"E000{count}", "loss", 0.02)
    written = ["Dead end: matrix_lr on optimizer", "Dead end: matrix_lr on main"]
    chief.until(lambda: [args for args in org.calls("wiki") if "--" in args])
    [args] = [args for args in org.calls("wiki") if "--" in args]
    assert args[:3] == ["wiki", "--kind", "dead-end"] and args[-1].splitlines()[0] in written
    chief.close()
    pane.until(lambda: any(row["verdict"] is None for row in org.filed()))
    org.judge(next(row["experiment"] for row in org.filed() if row["verdict"] is None), "loss", 0.02)
    before, asked = len(org.events("chief")), len(org.calls("results", seat="chief"))
    again = org.open("chief")
    again.until(lambda: len(org.calls("results", seat="chief")) > asked)
    again.until(lambda: org.events("chief")[before:][-1:] == ["waiting"])
    assert len([args for args in org.calls("wiki") if "--" in args]) == 1
