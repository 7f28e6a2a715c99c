"""The doorbells of a whole org under a real office: many letters, stalled agents, people at work, a killed office.

The measures are those of `scripts/bench doorbell`, with small counts; what is wrong is said by the agents' own files.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from agents.stage import ROOT, Stage
from bench import doorbell
from waiting import wait_for

from org import files
from org.team import mail

pytestmark = pytest.mark.slow  # an office and its agents each, and a person who takes their time


@pytest.fixture(autouse=True)
def _this_org(monkeypatch: pytest.MonkeyPatch) -> None:
    """The office and the senders run the code that is tested."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))


def test_a_storm_of_letters_rings_once_for_each_and_merges_no_lines(odd_path: Path) -> None:
    row = doorbell.storm(odd_path, letters=60, seats=4)
    assert row["faults"] == [] and row["letters"] == 60
    assert row["lines"] < row["enters"], "no Enter was lost, so nothing was tried"


def test_a_killed_office_rings_for_nothing_twice(odd_path: Path) -> None:
    row = doorbell.killed(odd_path, letters=40, kills=4)
    assert row["faults"] == [] and row["letters"] == 40 and row["kills"] >= 3


def test_nothing_of_a_body_is_typed_or_run(odd_path: Path) -> None:
    row = doorbell.hostile(odd_path)
    assert row["faults"] == [] and row["letters"] == 40


def test_an_idle_pane_is_rung_soon(odd_path: Path) -> None:
    row = doorbell.latency(odd_path, letters=10)
    assert row["letters"] == 10 and row["p50_s"] < 10  # the figure itself is the bench's: CI machines are loaded


@pytest.mark.parametrize("kind", doorbell.PERSONS)
def test_no_byte_is_typed_under_a_persons_hand_and_their_draft_stays(odd_path: Path, kind: str) -> None:
    found = doorbell.spells(odd_path, attempts=1, seats=3, kinds=(kind,))
    assert [row["faults"] for row in found if row["faults"]] == []
    assert sum(row["attempts"] for row in found if row["measure"] == "spell") >= 3


@pytest.mark.parametrize("pass_", [1, 2])
@pytest.mark.parametrize("point", ["doorbell.typing", "doorbell.typed", "doorbell.entered"])
def test_an_office_killed_at_any_step_of_a_bell_is_followed_by_one_that_rings_it_once(
    odd_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, pass_: int
) -> None:
    """Twice: at the first line, and at one that comes while the program is at work."""
    monkeypatch.setenv("ORG_FAILPOINT", f"{point}:{pass_}")
    with Stage(odd_path, 1, "--burst --turn 1.5") as stage:
        monkeypatch.delenv("ORG_FAILPOINT")
        stage.tmux("set-environment", "-u", "-t", "=org:", "ORG_FAILPOINT")  # the next office is not to die of it
        sent = set()
        for number in range(pass_):
            sent.add(mail.send(stage.home, "human", "j1", f"letter {number}")[0].id)
            if number + 1 < pass_:
                wait_for(lambda: stage.heard("j1").lines, what="the first line to be submitted")
        wait_for(lambda: not files.is_locked(stage.home.office_lock), what=f"the office to die at {point}")
        stage.launch()
        sent.add(mail.send(stage.home, "human", "j1", "after it")[0].id)
        assert stage.wait_read() == []
        time.sleep(2)
        assert stage.heard("j1").faults(sent) == []
