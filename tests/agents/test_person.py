"""The scripted person is one for tmux: their keys reach the pane they look at, and only those that are for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from person import LIMIT_S, Person

TERMINAL = Path(__file__).with_name("terminal.py")
CLIENT = "#{client_activity} #{pane_id} #{client_prefix} #{pane_in_mode}"


@pytest.fixture
def socket(odd_path: Path) -> Iterator[str]:
    """A tmux server with two terminal agents side by side."""
    name = f"org-test-{uuid4().hex[:10]}"

    def tmux(*words: str) -> None:
        subprocess.run(["tmux", "-L", name, "-f", "/dev/null", *words], check=True, timeout=LIMIT_S)

    def agent(seat: str) -> list[str]:
        (odd_path / seat).mkdir()
        return ["-e", f"ORG_EVENTS={odd_path / seat / 'events.jsonl'}", "--", sys.executable, str(TERMINAL)]

    tmux("new-session", "-d", "-s", "org", "-x", "200", "-y", "50", *agent("j1"))
    tmux("split-window", "-t", "=org:", *agent("j2"))
    yield name
    tmux("kill-server")


def received(folder: Path) -> bytes:
    path = folder / "bytes.bin"
    return path.read_bytes() if path.exists() else b""


def test_what_a_person_types_is_what_the_program_gets(socket: str, odd_path: Path) -> None:
    with Person(socket, seed=3, pause_s=(0.0, 0.03)) as person:
        person.select("%0")
        person.until(lambda: (odd_path / "j1/control").exists(), "served")
        person.write_a_draft(1.0)
        person.copy_mode()
        person.leave_copy_mode()
        person.hold_prefix()
        assert person.tmux("list-clients", "-F", CLIENT).split()[1:] == ["%0", "1", "0"]
        person.release_prefix()
        draft = person.draft
        person.type("x")
        person.backspace()
        person.submit()
        person.next_pane()
        person.type("beside")
        person.until(lambda: received(odd_path / "j2") == b"beside", "read beside")
        moved = float(person.tmux("list-clients", "-F", CLIENT).split()[0])
        assert int(person.last_key.wall) <= moved <= time.time()  # whole seconds
        person.detach()
    typed = person.typed
    assert typed.endswith(b"\rbeside") and received(odd_path / "j1") == typed[: -len(b"beside")]
    assert person.lines == [draft.strip()]
    assert draft.strip() in (odd_path / "j1/submitted.jsonl").read_text(encoding="utf-8").replace('\\"', '"')
    assert b"[exited]" in person.seen or b"[detached" in person.seen


def test_the_same_seed_types_the_same() -> None:
    def words(seed: int) -> list[str]:
        person = Person("none", seed=seed, pause_s=(0.0, 0.0))
        person.master = os.open(os.devnull, os.O_WRONLY)
        for _ in range(20):
            person.type(person.chance.choice(["a", "b", "c"]))
        os.close(person.master)
        return [key.data.decode() for key in person.keys]

    assert words(1) == words(1) != words(2)
