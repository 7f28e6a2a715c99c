"""The office or the tmux server is killed while runs train: no run is lost or doubled, and the next launch goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from org import files
from org.lab import fidelity, gate, ledger
from org.team import panes, seats
from org.world import process

pytestmark = pytest.mark.slow  # kills whole organisations while runs train

ROOT = Path(__file__).parents[2]


def train_slowly(home: Any, seconds: float = 1.5) -> None:
    """Every run of this org takes so long, the base's too: there is time to kill somebody."""
    path = home.root / "code" / "train.py"
    path.write_text(path.read_text().replace("SLEEP_S = 0.0", f"SLEEP_S = {seconds}"))


def training(home: Any) -> set[str]:
    """Runs whose trainer works now."""
    found = set()
    for path in home.experiments.glob("*/runs/*/status.json"):
        status = files.read_json(path) or {}
        if status.get("phase") == "train" and process.identity(status["pid"]) is not None:
            found.add(f"{path.parents[2].name}/{path.parent.name}")
    return found


def test_an_office_that_outlived_its_tmux_server_makes_room_for_the_new_one(org: Any) -> None:
    home = org.home
    org.launch(chief=0, juniors=1)
    org.stop()
    environment = {**os.environ, "ORG_KEY": home.key}
    argv = [sys.executable, "-m", "org", "--home", str(home.root), "office"]
    old = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        org.wait_for(lambda: (files.read_json(home.office_lock) or {}).get("pid") == old.pid, what="the old office")
        org.launch()
        assert old.poll() is not None
    finally:
        old.kill()
        old.wait()
    office = org.look().office
    assert office is not None and not office.dead and files.read_json(home.office_lock)["pid"] == office.pid


@pytest.mark.parametrize("victim", ["office", "tmux", "both"])
def test_a_kill_while_runs_train_loses_and_doubles_no_run(org: Any, victim: str) -> None:
    home = org.home
    train_slowly(home)
    org.launch(chief=0, juniors=2)
    programs = {}
    for name in ("j1", "j2"):
        seat = seats.move(home, seats.require(home, name), f"line-{name}")
        programs[name] = seat.program
        path = Path(seat.worktree) / "train.py"
        path.write_text(path.read_text().replace("MATRIX_LR = 0.02", f"MATRIX_LR = 0.03{name[1]}"))
        gate.submit(home, seat, f"{name} tries a larger step")
    under_way = org.wait_for(lambda: len(training(home)) == 2 and training(home), what="two runs to train")
    look, server = org.look(), panes.server_of(home).pid()
    assert look.office is not None and server is not None
    for pid in {"office": [look.office.pid], "tmux": [server], "both": [look.office.pid, server]}[victim]:
        os.kill(pid, signal.SIGKILL)
    if victim == "office":
        org.wait_for(lambda: not files.is_locked(home.office_lock))
    org.launch()
    office = org.look().office
    assert office is not None and (files.read_json(home.office_lock) or {}).get("pid") == office.pid
    org.wait_for(lambda: len(ledger.read(home).verdicts) == 2, limit_s=180, what="both verdicts")
    book = ledger.read(home)
    assert under_way <= set(book.results)
    assert {r.status for r in book.results.values()} == {"ok"}, "a run was lost"
    assert len({(r.tree, r.seed) for r in book.results.values()}) == len(book.results), "a run was doubled"
    assert len({row["key"] for row in book.rows}) == len(book.rows)
    assert {s.name: s.program for s in seats.all_seats(home)} == programs
    for name in programs:
        assert len(process.find_marked(f"ORG_EVENTS={home.seat_events(name)}")) == 1, "an agent was started twice"
    assert fidelity.problems(home) == []
