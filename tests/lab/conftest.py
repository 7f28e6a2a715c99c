"""A seat in the tiny home, filed by hand: what the lab needs of a team without importing one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
        record.ensure_record(tiny_home, charters.load(tiny_home))
        head = record.ensure_program(tiny_home, program)
        worktree = tiny_home.worktree(name)
        worktrees.add(tiny_home.hub, worktree, seat_branch(program, name), head)
        for path, data in git.read_files(
            tiny_home.record, head, [e.path for e in git.list_tree(tiny_home.record, head)]
        ).items():
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

    return make


@pytest.fixture
def edit() -> Callable[[Seat, str, str], None]:
    """edit(seat, old, new): one replacement in the seat's train.py."""

    def change(seat: Seat, old: str, new: str) -> None:
        path = Path(seat.worktree) / "train.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


@pytest.fixture
def measured(tiny_home: Home, make_seat, edit) -> Home:
    """Two experiments with their verdicts, one refusal, the bank, and lines after the last commit to the record."""
    seat = make_seat()
    for old, new in (("0.02", "0.04"), ("0.04", "0.05")):
        edit(seat, f"MATRIX_LR = {old}", f"MATRIX_LR = {new}")
        contract = gate.submit(tiny_home, seat, f"the learning rate {new}")
        follow.drive(tiny_home, contract.experiment, lambda line: None, poll_s=0.05)
    book = ledger.Ledger(tiny_home)
    for i in range(3):
        book.append("org", f"org:test-{i}", {"event": "test", "number": i})
    assert fidelity.problems(tiny_home) == []
    return tiny_home
