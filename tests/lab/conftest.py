"""A seat in the tiny home, filed by hand: what the lab needs of a team without importing one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from persons import Work
from tiny import make_tiny_home, replace_in_trainer
from waiting import wait_for

from org import charter as charters
from org import files
from org.home import Home, seat_branch
from org.lab import fidelity, follow, gate, ledger, record
from org.records import Seat
from org.world import git, worktrees


@pytest.fixture
def make_seat(tiny_home: Home) -> Callable[[str, str], Seat]:
    """make_seat(name, program): a worktree filled from the record, as team.seats makes it."""

    def make(name: str = "me", program: str = "main") -> Seat:
        return lay_seat(tiny_home, name, program)

    return make


def lay_seat(home: Home, name: str, program: str) -> Seat:
    record.ensure_record(home, charters.load(home))
    head = record.ensure_program(home, program)
    worktree = home.worktree(name)
    worktrees.add(home.hub, worktree, seat_branch(program, name), head)
    paths = [e.path for e in git.list_tree(home.record, head)]
    for path, data in git.read_files(home.record, head, paths).items():
        files.replace(worktree / path, data)
    worktrees.fill_index(worktree)
    return Seat(
        name=name,
        role="junior",
        backend="offline",
        program=program,
        branch=seat_branch(program, name),
        worktree=str(worktree),
        device=None,
        created=files.utc_now(),
    )


@pytest.fixture
def edit() -> Callable[[Seat, str, str], None]:
    """edit(seat, old, new): one replacement in the seat's train.py."""
    return replace_in_trainer


@pytest.fixture(scope="session")
def measured_once(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """What `measured` copies: its runs take three seconds."""
    home = make_tiny_home(tmp_path_factory.mktemp("measured") / "home")
    seat = lay_seat(home, "me", "main")
    for old, new in (("0.02", "0.04"), ("0.04", "0.05")):
        replace_in_trainer(seat, f"MATRIX_LR = {old}", f"MATRIX_LR = {new}")
        contract = gate.submit(home, seat, f"the learning rate {new}")
        follow.drive(home, contract.experiment, lambda line: None, poll_s=0.05)
    locks = [*home.experiments.glob("*/runs/*/lock"), *home.leases.iterdir()]
    wait_for(lambda: not any(map(files.is_locked, locks)), what="the runners, who still sweep their folders")
    book = ledger.Ledger(home)
    for i in range(3):
        book.append("org", f"org:test-{i}", {"event": "test", "number": i})
    assert fidelity.problems(home) == []
    return home


@pytest.fixture
def measured(tiny_home: Home, measured_once: Home) -> Home:
    """Two experiments with their verdicts, one refusal, the bank, and lines after the last commit to the record. A copy:
    the worktree of `me` in it is where the runs were filed, and no place to file from."""
    shutil.rmtree(tiny_home.root)
    shutil.copytree(measured_once.root, tiny_home.root, symlinks=True)
    assert fidelity.problems(tiny_home) == []
    return tiny_home


@pytest.fixture
def work(tiny_home: Home, tmp_path: Path) -> Work:
    """A person's repository that holds the code under study, with one commit; its path is an odd one."""
    made = Work(tiny_home, tmp_path / 'a\nperson\'s "place"')
    made.commit("begin")
    return made
