"""Ideas between a chief and a junior without a network, each in a real terminal, with an `org` that records what it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pane import Pane
from test_offline import Org, changes, junior, org

from org import files

__all__ = ["junior", "org"]  # fixtures
pytestmark = pytest.mark.slow  # researchers at work for seconds


def row(number: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "text": text,
        "status": "open",
        "source": "human",
        "is_persons": True,
        "experiments": [],
        **more,
    }


def about(org: Org, idea: str, kind: str) -> list[list[str]]:
    sent = [args for args in org.calls("send") if "--about" in args and args[args.index("--about") + 1] == idea]
    return [args for args in sent if args[args.index("--kind") + 1] == kind]


def test_a_chief_objects_assigns_asks_what_is_meant_and_gives_up_what_comes_back(org: Org) -> None:
    for name, role in (("chief", "chief"), ("j1", "junior"), ("j2", "junior")):
        org.seat(name, role)
    rows = [
        row("I0001", "share the embedding with the head"),
        row("I0002", "matrix_lr=0.05", is_persons=False, source="j2", repeats=["E0004"]),
        row("I0003", "matrix_lr=0.04", expect=-0.02),
    ]
    files.replace(org.home.comms / "ideas.json", json.dumps(rows))
    pane = org.open("chief")
    pane.until(lambda: about(org, "I0003", "task"))
    [task] = about(org, "I0003", "task")
    owner = next(args[1] for args in org.calls("send") if "Knobs: matrix_lr" in args[-1])
    assert task[1] == owner and "Objection: It names no mechanism" in task[-1]
    [objection] = org.calls("idea", "I0003")
    assert objection[objection.index("--object") + 1].startswith("It names no mechanism")
    [question] = about(org, "I0001", "question")
    assert question[1] == "human" and "matrix_lr, warmdown_frac" in question[-1]
    org.letter("chief", "report", "I cannot test idea I0003: matrix_lr stands at 0.04 already.", owner, about="I0003")
    pane.until(lambda: org.calls("idea", "I0003", "--json", "--dead"))
    assert org.calls("idea", "I0003", "--json", "--dead")[0][-1] == "matrix_lr stands at 0.04 already."
    pane.until(lambda: about(org, "I0003", "report"))
    assert not about(org, "I0002", "task")  # it repeats a tried one
    org.letter("chief", "report", "I cannot test idea I0002: no.", owner, about="I0002", verified=False)
    org.letter("chief", "note", "I0001 means warmdown_frac=0.5", about="I0001")
    pane.until(lambda: [args for args in org.calls("send") if "--about" in args and "warmdown_frac=0.5" in args[-1]])
    assert not org.calls("idea", "I0002")


def test_a_junior_tries_what_an_idea_names_under_its_id_once_and_gives_back_what_it_cannot(
    org: Org, junior: Callable[[], Pane]
) -> None:
    for number in ("I0001", "I0002", "I0003"):
        files.replace(org.home.ideas / f"{number}-x.md", "an idea\n")
    pane = junior()
    org.letter("j1", "task", "Program main.\nKnobs: warmdown_frac", "chief")
    pane.until("My knobs are now: warmdown_frac")
    body = "Idea I0001 (human): matrix_lr=0.05 is better\nObjection: try matrix_lr=0.09\nEvidence: none"
    org.letter("j1", "task", body, "chief", about="I0001")
    pane.until(lambda: ("matrix_lr", 0.05) in changes(org))
    assert ("matrix_lr", 0.09) not in changes(org)
    filed = next(args for args in org.calls("run") if "--idea" in args)
    assert filed[filed.index("--idea") + 1] == "I0001" and "Idea I0001:" in filed[filed.index("-m") + 1]
    org.letter("j1", "task", "Idea I0002 (human): matrix_lr=0.02", "chief", about="I0002")
    pane.until(lambda: about(org, "I0002", "report"))
    assert about(org, "I0002", "report")[0][-1].startswith("I cannot test idea I0002: matrix_lr stands at")
    org.letter("j1", "task", "Idea I0003 (human): a smaller matrix_lr", "chief", about="I0003")
    for experiment in [row["experiment"] for row in org.filed()]:
        org.judge(experiment, "null", 0.0)
    pane.until(lambda: [args for args in org.calls("run") if "I0003" in args])
    smaller = next(row for row in org.filed() if row["idea"] == "I0003")
    assert smaller["knobs"][0]["new"] < 0.02
    pane.kill()
    again = junior()
    again.until("I take idea I0003")
    again.until("I remember my task: warmdown_frac")
    again.until(lambda: org.events("j1")[-1] == "waiting")
    assert sorted(row["idea"] for row in org.filed() if row["idea"]) == ["I0001", "I0003"]


def test_without_a_chief_a_researcher_takes_ideas_itself_and_objects_first(org: Org) -> None:
    org.seat("j1", "junior")
    files.replace(org.home.ideas / "I0001-x.md", "matrix_lr=0.05\n")
    files.replace(org.home.ideas / "I0002-x.md", "warmdown_frac=0.5\n")
    rows = [row("I0001", "matrix_lr=0.05", is_persons=False, source="paper"), row("I0002", "warmdown_frac=0.5")]
    files.replace(org.home.comms / "ideas.json", json.dumps(rows))
    pane = org.open("j1")
    pane.until(lambda: len([args for args in org.calls("run") if "--idea" in args]) == 2)
    named = [args[args.index("--idea") + 1] for args in org.calls("run") if "--idea" in args]
    assert named == ["I0002", "I0001"]  # the person's first
    assert org.calls("idea", "I0002", "--json", "--object") and org.calls("idea", "I0001", "--json", "--object")
