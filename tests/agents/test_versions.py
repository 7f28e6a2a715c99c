"""Programs are asked for their versions, and no answer is no reason to wait."""

from __future__ import annotations

from pathlib import Path

from waiting import wait_for

from org.agents import versions


def test_a_program_that_never_says_its_version_is_ended_with_what_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    words = ["/bin/sh", "-c", f"sleep 300 & echo $! > '{note}'; wait"]
    assert versions.asked(words, 0.5) is None
    pid = int(note.read_text())
    wait_for(
        lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(), 5, "its child's end"
    )
    assert versions.asked([str(tmp_path / "nothing")]) is None
