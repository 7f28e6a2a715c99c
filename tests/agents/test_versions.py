"""Programs are asked for their versions, and no answer is no reason to wait."""

from __future__ import annotations

from pathlib import Path

from waiting import wait_for

from org.agents import versions
from org.world import process


def test_a_program_that_never_says_its_version_is_ended_with_what_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    words = ["/bin/sh", "-c", f"sleep 300 & echo $! > '{note}'; wait"]
    assert versions.asked(words, 3.0) is None
    pid = int(note.read_text())
    wait_for(lambda: process.identity(pid) is None, what="its child's end")
    assert versions.asked([str(tmp_path / "nothing")]) is None
