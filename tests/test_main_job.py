"""The main job as a person does it: nine seats launched, one typed at, mail sent, all ended and brought back. The command,
tmux, git and the researchers are real; only the trainer is small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import STATUS_SEAT
from waiting import wait_for

from org import files
from org.home import Home
from org.world import process

pytestmark = pytest.mark.slow  # nine interpreters on two cores: half a minute

NAMES = ["chief", *(f"j{n}" for n in range(1, 9))]
KEYS = {
    "org": {"home", "running", "since", "isolation", "office_pid"},
    "seats": set(STATUS_SEAT),
    "devices": {"name", "kind", "holder", "run"},
    "queue": {"experiment", "run", "seat", "waiting_for"},
    "best": {"tentative", "verified"},
}


class Job:
    """One home, asked only through the command, tmux and /proc."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}

    def org(self, *words: str, code: int = 0) -> str:
        argv = [sys.executable, "-m", "org", "--home", str(self.home.root), *words]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.env, timeout=180, check=False)
        assert done.returncode == code, f"org {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.org(*words, "--json"))

    def tmux(self, *words: str) -> str:
        argv = ["tmux", "-L", self.home.socket, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def programs(self) -> dict[str, str]:
        """Seat -> the line of research it is on."""
        return {seat["name"]: seat["program"] for seat in self.json("status")["seats"]}

    def marked(self) -> list[int]:
        return process.find_marked(f"ORG_KEY={self.home.key}")


@pytest.fixture
def job(tiny_home: Home) -> Iterator[Job]:
    made = Job(tiny_home)
    yield made
    made.org("stop")


def test_nine_seats_are_launched_typed_at_stopped_and_brought_back(job: Job) -> None:
    job.org("launch", "--chief", "1", "--juniors", "8", "--agents", "offline", "--devices", "cpu:2", "--detach")
    nine_seats_are_shown_and_live(job)
    a_typed_line_becomes_an_experiment_of_that_seat(job)
    a_letter_arrives(job)
    assert "another one" in job.org("launch", "--chief", "1", "--juniors", "7", "--detach", code=4)

    wait_for(lambda: len(set(job.programs().values())) > 1, 180, "the chief to split the work", step_s=0.1)
    job.org("stop")
    nothing_is_left(job)
    programs = job.programs()
    job.org("launch", "--detach")
    nine_seats_are_shown_and_live(job)
    # as they were laid: the chief may move somebody at any moment from here on
    assert {row["name"]: row["program"] for row in files.read_json(job.home.org_file)["roster"]} == programs
    assert json.loads(job.org("results", "--check", "--json"))["ok"]


def nine_seats_are_shown_and_live(job: Job) -> None:
    status = job.json("status")
    assert set(status) >= set(KEYS)
    assert set(status["org"]) == KEYS["org"]
    assert set(status["best"]) == KEYS["best"]
    assert [seat["name"] for seat in status["seats"]] == NAMES
    for part in ("seats", "devices"):
        assert [set(row) for row in status[part]] == [KEYS[part]] * len(status[part])
    assert all(set(row) >= KEYS["queue"] for row in status["queue"])  # and how many runs it has had
    assert {seat["state"] for seat in status["seats"]}.isdisjoint({"starting", "gone"})
    assert status["org"]["running"]
    shown = job.tmux("list-panes", "-a", "-F", "#{pane_id} #{window_name} #{pane_dead} #{pane_pid}").splitlines()
    grid = {pane: pid for pane, window, dead, pid in map(str.split, shown) if window.startswith("grid") and dead == "0"}
    assert set(grid) == {seat["pane"] for seat in status["seats"]}
    assert all(process.identity(int(pid)) for pid in grid.values())


def a_typed_line_becomes_an_experiment_of_that_seat(job: Job) -> None:
    pane = next(seat["pane"] for seat in job.json("status")["seats"] if seat["name"] == "j1")
    job.tmux("send-keys", "-t", pane, "-l", "try matrix_lr=0.05")
    job.tmux("send-keys", "-t", pane, "Enter")

    def filed() -> bool:
        rows, _ = files.read_lines(job.home.ledger)
        return any(
            row["kind"] == "experiment"
            and row.get("seat") == "j1"
            and [(knob["name"].lower(), knob["new"]) for knob in row.get("knobs", ())] == [("matrix_lr", 0.05)]
            for row in rows
        )

    wait_for(filed, 180, "what was typed to be filed", step_s=0.1)


def a_letter_arrives(job: Job) -> None:
    letter = job.json("send", "j1", "hello")["id"]
    wait_for((job.home.mailbox("j1") / "cur" / f"{letter}.md").is_file, 180, "the letter to be read", step_s=0.1)
    pane = next(seat["pane"] for seat in job.json("status")["seats"] if seat["name"] == "j1")
    wait_for(
        lambda: "human: hello" in job.tmux("capture-pane", "-p", "-S", "-", "-t", pane),
        what="it to be shown",
        step_s=0.1,
    )


def nothing_is_left(job: Job) -> None:
    assert job.marked() == []
    locks = [
        path
        for path in job.home.comms.rglob("*")
        if (path.is_file() and "lock" in path.name) or path.parent == job.home.leases
    ]
    assert locks
    assert [path for path in locks if files.is_locked(path)] == []
    assert subprocess.run(["tmux", "-L", job.home.socket, "ls"], capture_output=True, check=False).returncode != 0
