"""The charter's own checks decide before the experiment is accepted, on the clean export and behind walls."""

from __future__ import annotations

from pathlib import Path

import pytest

from org.errors import BadInput, Refused
from org.lab import gate, ledger


def with_checks(home, *commands: str) -> None:
    lines = "".join(f"  - {command}\n" for command in commands)
    home.charter.write_text(home.charter.read_text() + "checks:\n" + lines)


def test_a_check_that_fails_refuses_and_names_its_last_line(tiny_home, make_seat, edit) -> None:
    with_checks(tiny_home, "python -m py_compile train.py", "python -c \"print('one'); raise SystemExit('boom')\"")
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    with pytest.raises(Refused) as refused:
        gate.submit(tiny_home, seat, "why")
    [violation] = refused.value.violations
    assert violation.rule == "check" and "boom" in violation.message and "python -c" in violation.message
    assert ledger.read(tiny_home).experiments == {}


def test_checks_see_the_export_and_not_the_worktree_nor_the_home(tiny_home, make_seat, edit) -> None:
    """Uncommitted files are not there, nothing is written outside, and a passing check files the experiment."""
    seat = make_seat()
    (Path(seat.worktree) / "notes.txt").write_text("mine")
    code = (
        "import os, pathlib, tempfile; assert not os.path.exists('notes.txt') and os.path.exists('README.md'); "
        f"assert pathlib.Path.home() != pathlib.Path({str(Path.home())!r}); tempfile.mkstemp()"
    )
    with_checks(tiny_home, f'python -c "{code}"')
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    assert gate.submit(tiny_home, seat, "why").experiment == "E0001"


def test_a_check_that_cannot_start_is_named(tiny_home, make_seat, edit) -> None:
    with_checks(tiny_home, "no-such-program --x")
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    with pytest.raises(Refused, match="no-such-program"):
        gate.submit(tiny_home, seat, "why")


def test_a_check_with_an_open_quote_is_bad_input(tiny_home, make_seat) -> None:
    with_checks(tiny_home, "'python -c \"x'")
    with pytest.raises(BadInput, match="checks"):
        make_seat()
