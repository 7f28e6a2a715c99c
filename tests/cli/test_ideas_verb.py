"""`org idea` as a person and seats use it, and what a task about an idea has to have first."""

from __future__ import annotations

import pytest

from org.home import Home
from org.team import ideas, seats

from .conftest import Cli


@pytest.fixture
def home(tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.chdir(tiny_home.root)
    for name, role in (("chief", "chief"), ("j1", "junior")):
        seats.create(tiny_home, name, role, "offline", "main", "cpu0")
    return tiny_home


def test_an_idea_is_written_with_all_it_needs_shown_whole_and_objected_to(cli: Cli, home: Home) -> None:
    home.papers.mkdir()
    (home.papers / "muon.md").write_text("# Muon\n")
    words = ("--mechanism", "orthogonal steps", "--expect", "-0.02", "--cost", "3 % step time")
    assert cli("--seat", "j1", "idea", "matrix_lr=0.04", "is better", "--source", "muon.md", *words).out == "I0001\n"
    assert cli("idea", "a person's own").out == "I0002\n"
    assert [row["id"] for row in cli("idea", "--json").json] == ["I0002", "I0001"]  # the person's first
    shown = cli("idea", "I0001", "--object", "it is the rate that comes along").out
    for word in (
        "papers/muon.md",
        "j1",
        "-0.02",
        "orthogonal steps",
        "3 % step time",
        "comes along (human)",
        "is better",
    ):
        assert word in shown
    row = cli("idea", "I0001", "--json").json
    assert (row["author"], row["source"], row["expect"], row["objection_by"]) == (
        "j1",
        "papers/muon.md",
        -0.02,
        "human",
    )
    listed = cli("idea").out
    assert "papers/muon.md by j1" in listed and listed.index("I0002") < listed.index("I0001")


def test_a_task_about_an_idea_without_an_objection_is_refused_naming_the_command(cli: Cli, home: Home) -> None:
    cli("idea", "a longer warmdown")
    task = ("--seat", "chief", "send", "j1", "try it", "--kind", "task", "--about", "I0001")
    done = cli(*task)
    assert (done.code, done.err.count("\n")) == (3, 1) and 'org idea I0001 --object "…"' in done.err
    assert cli("idea", "--json").json[0]["status"] == "open"
    assert cli(*task[:4], "look at it", "--about", "I0001").code == 0  # a note is no assignment
    cli("--seat", "j1", "idea", "I0001", "--object", "it is luck")
    assert cli(*task).code == 0
    assert "assigned to j1" in cli("idea").out
    assert "no such idea" in cli("send", "j1", "x", "--kind", "task", "--about", "I0009").err


def test_who_may_end_an_idea_and_what_stands_on_it_then(cli: Cli, home: Home) -> None:
    cli("idea", "a longer warmdown")
    refused = cli("--seat", "j1", "idea", "I0001", "--dead", "I dislike it")
    assert refused.code == 3 and "--object" in refused.err and cli("idea", "--json").json[0]["status"] == "open"
    assert cli("--seat", "chief", "idea", "I0001", "--dead", "too dear at this scale").code == 0
    row = cli("idea", "I0001", "--json").json
    assert (row["status"], row["dead"], row["dead_by"]) == ("dead", "too dear at this scale", "chief")


def test_what_was_tried_is_said_when_it_is_proposed_again(cli: Cli, home: Home) -> None:
    cli("idea", "the head and the embedding share their weights")
    ideas.bury(home, "I0001", "it was worse", "human")
    done = cli("idea", "the embedding and the head share their weights")
    assert done.out == "I0002\n"
    assert "I0001 dead" in done.err and "org send chief --about I0002" in done.err
    assert cli("idea", "I0002", "--json").json["repeats"] == ["I0001"]
    again = cli("idea", "the head and the embedding share their weights", "--json").json
    assert [one["id"] for one in again["like"]] == ["I0001", "I0002"] and "dead" in again["like"][0]["said"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("I0009",), "no such idea"),
        (("--dead", "x"), "I0007 --dead"),
        (("--expect", "1"), "are for an idea"),
        (("x", "--expect", "nan"), "finite number"),
        (("I0001", "--cost", "x"), "edit the page"),
        (("I0001", "--object", " "), "empty"),
        (("I0001", "--object", "x" * 4001), "4001 characters"),
        (("x", "--mechanism", "x" * 4001), "4001 characters"),
        (("x", "--source", " "), "--source is empty"),
    ],
)
def test_what_is_wrong_is_one_line_and_writes_nothing(cli: Cli, home: Home, words: tuple[str, ...], said: str) -> None:
    cli("idea", "a longer warmdown")
    before = {path: path.read_bytes() for path in home.ideas.glob("*.md")}
    done = cli("idea", *words)
    assert done.code == 2 and said in done.err
    assert {path: path.read_bytes() for path in home.ideas.glob("*.md")} == before
