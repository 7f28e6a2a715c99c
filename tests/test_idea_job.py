"""What a person thinks of becomes an experiment: said in a shell, sharpened, handed out, tried and credited. The command,
tmux, git and the researchers are real; only the trainer is small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_main_job import Job
from waiting import wait_for

from org import files
from org.home import Home

pytestmark = pytest.mark.slow  # an organisation at work for a minute

PAPER = """# Steps that grow

A trainer wants larger steps early.

## A higher rate

Early steps are too small to leave the start. We set `matrix_lr` = 0.07 and expect -0.03.

## Related work

Others have said so.
"""


@pytest.fixture
def job(tiny_home: Home) -> Iterator[Job]:
    made = Job(tiny_home)
    yield made
    made.org("stop")


def idea(job: Job, number: str) -> dict[str, Any]:
    return next((row for row in job.json("idea") if row["id"] == number), {})


def filed(job: Job, number: str) -> list[dict[str, Any]]:
    rows, _ = files.read_lines(job.home.ledger) if job.home.ledger.is_file() else ([], 0)
    return [row for row in rows if row["kind"] == "experiment" and row.get("idea") == number]


def test_a_persons_idea_and_a_papers_become_experiments_that_name_them(job: Job) -> None:
    job.home.papers.mkdir()
    (job.home.papers / "steps.md").write_text(PAPER)
    job.org("launch", "--chief", "1", "--juniors", "2", "--agents", "offline", "--devices", "cpu:2", "--detach")
    words = ("warmdown_frac=0.4 lets the last steps settle", "--expect", "-0.06")
    number = job.org("idea", *words).split()[0]
    wait_for(lambda: filed(job, number), 180, lambda: f"an experiment of {idea(job, number)}", step_s=0.5)
    [row] = filed(job, number)
    assert [(knob["name"].lower(), knob["new"]) for knob in row["knobs"]] == [("warmdown_frac", 0.4)]
    task = next(
        text
        for path in job.home.mailbox(row["seat"]).glob("*/*.md")
        if f"\nabout: {number}\n" in (text := path.read_text()) and "\nkind: task\n" in text
    )
    assert (
        f"Idea {number} (human): warmdown_frac=0.4" in task and "Objection (chief): " in task and "Evidence: " in task
    )
    wait_for(lambda: idea(job, number)["status"] == "tried", 180, lambda: str(idea(job, number)), step_s=0.5)
    tried = idea(job, number)
    assert tried["objection"] and tried["experiments"][0]["outcome"] and tried["is_persons"]
    scores = {(score["by"], score["who"]): score for score in job.json("results", "--predictions")}
    assert scores[("idea author", "human")]["n"] == 1

    [paper] = [row for row in job.json("idea") if row["source"] == "papers/steps.md"]
    assert (paper["author"], paper["expect"]) == ("chief", -0.03)
    assert paper["mechanism"] == "Early steps are too small to leave the start."
    wait_for(lambda: filed(job, paper["id"]), 180, lambda: f"an experiment of {idea(job, paper['id'])}", step_s=0.5)
