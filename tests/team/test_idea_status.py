"""What an idea has come to is computed from letters and the ledger, and what it repeats is named with its verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from books import Story

from org import files
from org.errors import BadInput, Refused
from org.home import Home
from org.records import KnobChange
from org.team import ideapage, ideas, likeness, mail, seats


@pytest.fixture
def team(tiny_home: Home) -> Home:
    for name, role in (("chief", "chief"), ("j1", "junior"), ("j2", "junior")):
        seats.create(tiny_home, name, role, "offline", "main", "cpu0")
    return tiny_home


def turned(name: str, old: float, new: float) -> tuple[KnobChange, ...]:
    return (KnobChange(name, "train.py", 1, old, new),)


def look(home: Home, story: Story | None = None) -> dict[str, object]:
    [row] = [row for row in ideas.list_ideas(home, (story or Story()).book) if row["id"] == "I0001"]
    return row


def test_an_idea_goes_from_open_over_assigned_to_tried_and_back_by_another_task(team: Home) -> None:
    story = Story()
    ideas.add(team, "a longer warmdown", "human")
    assert look(team, story)["status"] == "open"
    mail.send(team, "j2", "j1", "try it", kind="task", about="I0001")  # no order of a chief
    mail.send(team, "chief", "j1", "what of it?", about="I0001")  # no task
    [forged] = mail.send(team, "j2", "j1", "try it", kind="task", about="I0001")
    path = team.mailbox("j1") / "new" / f"{forged.id}.md"
    path.write_text(path.read_text().replace("from: j2", "from: chief"))
    assert look(team, story)["status"] == "open"
    mail.send(team, "chief", "j1", "try it", kind="task", about="I0001")
    assert (look(team, story)["status"], look(team, story)["assigned_to"]) == ("assigned", "j1")
    story.experiment("E0001", idea="I0001", seat="j2")
    assert look(team, story)["assigned_to"] == "j2"
    story.verdict("E0001", "loss", [], 0.02, 0.01)
    story.book.verdict_times["E0001"] = files.utc_now()
    row = look(team, story)
    assert (row["status"], row["assigned_to"]) == ("tried", None)
    assert [(test["experiment"], test["outcome"], test["effect"]) for test in row["experiments"]] == [
        ("E0001", "loss", 0.02)
    ]
    story.book.verdict_times["E0001"] = "2026-01-01T00:00:00.000Z"
    assert look(team, story)["status"] == "assigned"
    ideas.bury(team, "I0001", "too dear", "human")
    assert look(team, story)["status"] == "dead"


def test_a_task_needs_an_idea_that_lives_and_has_an_objection(team: Home) -> None:
    ideas.add(team, "a longer warmdown", "human")
    with pytest.raises(Refused, match='org idea I0001 --object "…"'):
        ideas.check_assignable(team, "I0001")
    assert ideas.object_to(team, "I0001", "it is the smaller last step", "j2") == ""
    ideas.check_assignable(team, "I0001")
    assert ideas.object_to(team, "I0001", "it is luck", "j1") == "j2"
    ideas.bury(team, "I0001", "too dear", "chief")
    with pytest.raises(Refused, match="dead: too dear"):
        ideas.check_assignable(team, "I0001")
    with pytest.raises(BadInput, match="did you mean 'I0001'"):
        ideas.check_assignable(team, "I0011")


def test_the_same_setting_and_the_same_words_are_named_and_only_what_was_tried_stands_against_it(team: Home) -> None:
    story = Story()
    story.experiment("E0001", knobs=turned("MATRIX_LR", 0.02, 0.05))
    story.verdict("E0001", "loss", [], 0.02, 0.01)
    story.experiment("E0002", knobs=turned("MATRIX_LR", 0.02, 0.06))
    ideas.add(team, "the embedding and the head should share their weights", "j1")
    text = "raise `matrix_lr` = 0.05, for larger steps"
    assert ideas.alike(team, text, story.book) == ["E0001"]
    assert ideas.alike(team, "head and embedding should share their weights!", story.book) == ["I0001"]
    assert ideas.alike(team, "matrix_lr = 0.07", story.book) == []
    ideas.add(team, "head and embedding should share their weights!", "j2", like=["I0001"])
    ideas.add(team, text, "j2", like=["E0001"])
    ideas.add(team, "let us have matrix_lr=0.06 then", "j2")  # the ledger knows it, whatever the page says
    rows = {row["id"]: row for row in ideas.list_ideas(team, story.book)}
    assert [rows[f"I000{n}"]["repeats"] for n in (1, 2, 3, 4)] == [[], [], ["E0001"], ["E0002"]]
    assert ideas.said("E0001", rows, story.book) == "E0001 loss +0.0200 ± 0.0100"
    assert ideas.said("E0002", rows, story.book) == "E0002 under way"
    ideas.bury(team, "I0001", "no", "human")
    rows = {row["id"]: row for row in ideas.list_ideas(team, story.book)}
    assert rows["I0002"]["repeats"] == ["I0001"] and not rows["I0002"]["insisted"]
    mail.send(team, "human", "chief", "try it anyway", about="I0002")
    assert [row["insisted"] for row in ideas.list_ideas(team, story.book)] == [False, True, False, False]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("a longer warmdown settles the matrices", "A longer warmdown settles matrices.", True),
        ("a warmdown of 0.4 settles the matrices", "a warmdown of 0.5 settles the matrices", False),
        ("share the embedding", "share the experience", False),
        ("warmdown", "warmdown", False),  # too few words to say anything
    ],
)
def test_ideas_are_alike_by_their_words_and_every_number(one: str, other: str, alike: bool) -> None:
    assert likeness.is_alike(one, other) is alike


OBJECT = "import sys; from pathlib import Path; from org.home import Home; from org.team import ideas\n"
OBJECT += "print('ready', flush=True); ideas.object_to(Home(Path(sys.argv[1])), 'I0001', 'luck', 'j1')"


def test_an_objection_waits_for_who_edits_the_page_and_keeps_what_they_wrote(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ideas.add(home, "the body\n---\nof it", "j1")
    [page] = home.ideas.glob("I0001-*.md")
    with files.locked(home.ideas_lock):
        text = page.read_text()
        writer = subprocess.Popen([sys.executable, "-c", OBJECT, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.5)
        files.replace(page, ideapage.amend(text, "x", {"mechanism": "small steps"}))
    assert writer.wait(30) == 0
    [row] = ideas.list_ideas(home)
    assert (row["objection"], row["mechanism"], row["text"]) == ("luck", "small steps", "the body\n---\nof it")
