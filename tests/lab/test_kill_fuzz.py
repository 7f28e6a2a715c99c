"""Kill -9 at random moments of random processes, again and again: the same must hold as after a kill at a chosen place."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from tiny import make_tiny_home
from traps import play, small
from waiting import wait_for
from whole import DISPATCH, FILE, age, alive, assert_whole, run, start

from org.home import Home
from org.lab import dispatch, follow, gate, ledger, record

pytestmark = pytest.mark.slow  # 15 kills, and what is repeated after them, each

KILLS = 15
EDITS = {
    "tiny": [("MATRIX_LR = 0.02", f"MATRIX_LR = 0.0{digits}") for digits in range(30, 60)],
    "scored": [("SMOOTHING = 8.0", f"SMOOTHING = {value / 10}") for value in range(1, 75)],
}


def make(root: Path, kind: str) -> Home:
    if kind == "scored":
        return small.make_home(root)
    home = make_tiny_home(root)
    path = home.root / "code" / "train.py"
    path.write_text(path.read_text().replace("SLEEP_S = 0.0", "SLEEP_S = 0.15"))  # there is something to kill
    return home


@pytest.mark.parametrize(("kind", "seed"), [("tiny", 1), ("tiny", 2), ("scored", 3)])
def test_kills_at_random_leave_a_home_whole(odd_path, monkeypatch, kind, seed) -> None:
    scratch = odd_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(odd_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    dice, home = random.Random(seed), make(odd_path / "home", kind)
    record.ensure_program(home, "main")
    seat = play.make_seat(home)
    words = json.dumps(seat.to_dict())
    path = Path(seat.worktree) / "train.py"
    original = path.read_text()
    edits = iter(EDITS[kind])
    path.write_text(original.replace(*next(edits)))
    gate.submit(home, seat, "why")
    path.write_text(original.replace(*next(edits)))
    filer: subprocess.Popen[bytes] | None = None
    dispatcher = start(DISPATCH, home, scratch=scratch)
    killed: dict[str, int] = {}
    try:
        while sum(killed.values()) < KILLS:
            if (filer is None or filer.poll() is not None) and len(ledger.read(home).open()) < 2:
                if filer is not None and filer.returncode == 0:
                    path.write_text(original.replace(*next(edits)))
                filer = start(FILE, home, words, scratch=scratch)
            if dispatcher.poll() is not None:
                dispatcher = start(DISPATCH, home, scratch=scratch)
            time.sleep(dice.uniform(0.1, 0.8))
            if victim := choose(home, dice):
                pid, what = victim
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed[what] = killed.get(what, 0) + 1
    finally:
        for process in (filer, dispatcher):
            if process is not None:
                process.kill()
                process.wait()
    age(home, scratch)
    for filing in (None, original.replace(*next(edits))):  # a number that names nothing goes with the next filing
        if filing is not None:
            path.write_text(filing)
            assert run(FILE, home, words, scratch=scratch) == 0
        for contract in ledger.read(home).open():
            follow.drive(home, contract.experiment, lambda line: None, poll_s=0.02)
    last = dispatch.Dispatcher(home)
    last.tick(allow_new=False)
    wait_for(lambda: not last.running(), what=killed)
    last.tick(allow_new=False)
    assert_whole(home, scratch)
    book = ledger.read(home)
    assert book.verdicts and not book.open(), killed
    by_run = {(r.tree, r.seed): r.metric for r in book.results.values() if r.is_ok}
    assert len(by_run) == len([r for r in book.results.values() if r.is_ok])


def choose(home: Home, dice: random.Random) -> tuple[int, str] | None:
    """One living process of the home, of a run more often than of those who file and dispatch."""
    kinds: dict[str, list[int]] = {}
    for text in alive(home):
        pid, _, words = text.partition(": ")
        names = ("runner", "referee", "model_child", "train.py", "Dispatcher", "submit", "git")
        kinds.setdefault(next((name for name in names if name in words), "other"), []).append(int(pid))
    kinds.pop("git", None)  # it is nobody's to kill: whoever started it may die, and it ends by itself
    ours = [kind for kind in ("Dispatcher", "submit") if kind in kinds]
    of_runs = sorted(kinds.keys() - set(ours))
    wanted = of_runs if of_runs and dice.random() < 0.7 else ours if dice.random() < 0.3 else []
    if not wanted:
        return None
    kind = dice.choice(wanted)
    return dice.choice(kinds[kind]), kind
