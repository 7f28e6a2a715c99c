"""What a crash or a reboot left is mended by the next launch, and what somebody works on stays byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import whole
from tiers import first
from tiny import replace_in_trainer
from waiting import wait_for

from org import files
from org.home import Home
from org.lab import gate, ledger, mend
from org.records import Seat
from org.team import healing, launch, panes, roster, seats, states
from org.world import git, process


@pytest.fixture
def j1(tiny_home: Home) -> Seat:
    """A seat with an edit, a note and a staged file, and an experiment behind it."""
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    replace_in_trainer(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    gate.submit(tiny_home, seat, "larger")
    replace_in_trainer(seat, "SLEEP_S = 0.0", "SLEEP_S = 0.1")
    (Path(seat.worktree) / "notes.md").write_text("mine")
    return seat


def snapshot(seat: Seat) -> dict[str, str]:
    """path -> digest of every file of the worktree, .git left out, with its time of change."""
    found = {}
    for path in sorted(Path(seat.worktree).rglob("*")):
        if path.is_file() and path.name != ".git":
            facts = f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
            found[path.relative_to(seat.worktree).as_posix()] = facts
    return found


def status(seat: Seat) -> str:
    argv = ["git", "-C", seat.worktree, "status", "--porcelain", "--branch"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def again(home: Home) -> list[str]:
    """What a launch says of its first steps: heal, then every seat."""
    said: list[str] = []
    healing.heal(home, said.append)
    seats.create_all(home, [seats.Wanted("j1", "junior", "offline", "main")], said.append)
    return said


ENTRY = "hub.git/worktrees/j1"
DAMAGE: dict[str, tuple[Callable[[Home], None], str]] = {
    "seat folder": (lambda h: shutil.rmtree(h.seat("j1")), ""),
    "torn seat.json": (lambda h: void(h.seat_file("j1").write_text('{"name": "j')), "seat.json was torn"),
    "odd seat.json": (lambda h: files.replace_json(h.seat_file("j1"), {"name": [], "role": 3}), "seat.json was torn"),
    "torn pane.json": (lambda h: void(h.seat_pane("j1").write_text("{")), "pane.json was torn"),
    "torn bell.json": (lambda h: void(h.bell("j1").write_text("")), "bell.json was torn"),
    "mailbox": (lambda h: shutil.rmtree(h.mailbox("j1")), "its mailbox was gone"),
    "branch": (
        lambda h: git.delete_ref(h.hub, "refs/heads/program/main/j1"),
        "its branch program/main/j1 was gone",
    ),
    ".git": (lambda h: (h.worktree("j1") / ".git").unlink(), "joined"),
    "torn .git": (lambda h: void((h.worktree("j1") / ".git").write_text("gitdi")), "joined"),
    "commondir": (lambda h: void((h.worktrees / ENTRY / "commondir").write_text("")), "joined"),
    "gitdir": (lambda h: void((h.worktrees / ENTRY / "gitdir").write_text("")), "joined"),
    "HEAD": (lambda h: void((h.worktrees / ENTRY / "HEAD").write_text("")), "joined"),
    "entry": (lambda h: shutil.rmtree(h.worktrees / ENTRY), "joined"),
    "hub": (lambda h: shutil.rmtree(h.hub), "joined"),
    "index.lock": (lambda h: (h.worktrees / ENTRY / "index.lock").touch(), "index.lock"),
    "ref lock": (lambda h: (h.hub / "refs/heads/program/main/j1.lock").touch(), "j1.lock"),
    "packed-refs.lock": (lambda h: (h.record / "packed-refs.lock").touch(), "packed-refs.lock"),
}


def void(_: Any) -> None:
    return None


@pytest.mark.parametrize("what", first(5, DAMAGE))
def test_damage_is_mended_once_said_in_a_line_and_costs_no_byte_of_work(tiny_home: Home, j1: Seat, what: str) -> None:
    before, tip = snapshot(j1), git.resolve(tiny_home.hub, "refs/heads/program/main/j1")
    damage, words = DAMAGE[what]
    damage(tiny_home)
    said = again(tiny_home)
    assert [line for line in said if words in line] if words else said == []
    assert all("\n" not in line for line in said)
    assert snapshot(j1) == before
    assert not any(path.name.startswith("saved-") for path in tiny_home.seat("j1").iterdir())
    now = seats.require(tiny_home, "j1")
    assert (now.program, now.branch, now.role, now.backend) == ("main", "program/main/j1", "junior", "offline")
    assert status(now).splitlines() == ["## program/main/j1", " M train.py", "?? notes.md"]
    if what != "hub":  # with it went what only it had
        assert git.resolve(tiny_home.hub, "refs/heads/program/main/j1") == tip
    assert again(tiny_home) == []
    replace_in_trainer(now, "WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.2")
    gate.submit(tiny_home, now, "it works there as before")


def test_a_worktree_without_an_index_gets_what_is_missing_and_nothing_else_is_touched(
    tiny_home: Home, tmp_path: Path
) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    there = Path(seat.worktree)
    for name in ("large.py", "link.py", "begun.py", "gone.py", "pipe.py", "deep/in.py", "far/in.py"):
        (there / name).parent.mkdir(exist_ok=True)
        (there / name).write_text(f"{name} = 'as it was filed'\n")
    run = lambda *words: subprocess.run(["git", "-C", seat.worktree, *words], check=True, capture_output=True)
    run("add", "-A")
    run("-c", "user.name=j1", "-c", "user.email=j1@example.com", "commit", "-m", "more files")
    (there / "large.py").write_bytes(b"mine\n" * 2_000_000)
    (there / "link.py").unlink()
    (there / "link.py").symlink_to(tmp_path / "mine.py")
    (there / "begun.py").write_text("begun.py = 'as")
    (there / "gone.py").unlink()
    (there / "pipe.py").unlink()
    os.mkfifo(there / "pipe.py")
    shutil.rmtree(there / "deep")
    (there / "deep").write_text("a file now")
    shutil.rmtree(there / "far")
    (there / "far").symlink_to(tmp_path)
    (tiny_home.worktrees / ENTRY / "index").unlink()
    [line] = again(tiny_home)
    assert "2 files and its index were laid in" in line
    assert (there / "large.py").stat().st_size == 10_000_000
    assert (there / "link.py").readlink() == tmp_path / "mine.py" and (there / "pipe.py").is_fifo()
    assert (there / "deep").read_text() == "a file now" and list(tmp_path.iterdir()) == [tiny_home.root.parent]
    for name in ("begun.py", "gone.py"):
        assert (there / name).read_text() == f"{name} = 'as it was filed'\n"
    assert seats.saved(tiny_home, "j1") == []


def test_a_removed_worktree_comes_back_at_what_was_filed(tiny_home: Home, j1: Seat) -> None:
    shutil.rmtree(j1.worktree)
    [line] = again(tiny_home)
    assert line.startswith("j1: its worktree was gone and is back, at ")
    assert "MATRIX_LR = 0.04" in (Path(j1.worktree) / "train.py").read_text()
    assert status(j1) == "## program/main/j1\n"


@pytest.mark.parametrize("point", ["worktrees.adopted", "healing.files"])
def test_a_kill_while_it_is_mended_is_mended_by_the_next(tiny_home: Home, j1: Seat, point: str) -> None:
    before = snapshot(j1)
    shutil.rmtree(tiny_home.hub / "worktrees" / "j1")
    tiny_home.seat_pane("j1").write_text("{")
    code = "from org.team import healing, seats; healing.heal(home, print); "
    code += "seats.create_all(home, [seats.Wanted('j1', 'junior', 'offline', 'main')], print)"
    assert whole.run(code, tiny_home, point=point) == -signal.SIGKILL
    again(tiny_home)
    assert snapshot(j1) == before and status(j1).splitlines()[1:] == [" M train.py", "?? notes.md"]


def test_a_lock_is_left_while_a_git_of_this_home_is_alive(tiny_home: Home, j1: Seat) -> None:
    lock = tiny_home.hub / "worktrees" / "j1" / "index.lock"
    lock.touch()
    argv = ["git", "-C", j1.worktree, "cat-file", "--batch"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        said: list[str] = []
        wait_for(lambda: process.working_in("git", tiny_home.root, "none"), what="git to be at work")
        healing.heal(tiny_home, said.append)
        assert lock.exists() and len(said) == 1 and f"process {child.pid}" in said[0]
        child.communicate()
    healing.heal(tiny_home, said.append)
    assert not lock.exists()


def test_the_hubs_own_kernel_lock_is_never_removed(tiny_home: Home, j1: Seat) -> None:
    assert (tiny_home.hub / mend.OURS).exists()
    assert again(tiny_home) == [] and (tiny_home.hub / mend.OURS).exists()


def test_torn_facts_of_a_launch_are_read_back_from_the_ledger(tiny_home: Home) -> None:
    roster.update(tiny_home, org="chief-juniors", roster=[{"name": "j1", "role": "junior", "backend": "offline"}])
    rows = [{"name": n, "role": "junior", "backend": "cmd:true", "program": "main"} for n in ("j1", "j2")]
    budget = {"seconds": 60.0, "runs": None, "from": "2026-03-01T00:00:00.000Z", "since": "2026-03-01T00:00:00.000Z"}
    row = {"event": "launch", "folder": "chief-juniors", "roster": rows, "devices": ["cpu0"], "budget": budget}
    ledger.Ledger(tiny_home).append("org", "launch:1", row)
    tiny_home.org_file.write_text(tiny_home.org_file.read_text()[:40])
    said: list[str] = []
    healing.heal(tiny_home, said.append)
    facts = roster.facts(tiny_home)
    assert (facts["roster"], facts["devices"], facts["budget"], facts["org"]) == (
        rows,
        ["cpu0"],
        budget,
        "chief-juniors",
    )
    assert len(said) == 1 and "read back from the ledger" in said[0]
    assert len(list(tiny_home.comms.glob("org.json.torn-*"))) == 1


@pytest.mark.slow  # a whole organisation, launched twice
def test_after_a_reboot_no_pid_that_was_written_down_is_believed_or_killed(org: Any) -> None:
    home = org.home
    org.launch(chief=0, juniors=2)
    experiment = home.run("E0000/baseline-s1")
    org.stop()
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        who = process.identity(other.pid)
        assert who is not None
        row = {"pid": who.pid, "start_ticks": who.start_ticks}
        files.replace_json(home.office_lock, row)
        files.replace_json(experiment / "status.json", {**row, "phase": "train"})
        roster.update(home, boot_id="00000000-0000-0000-0000-000000000000", server_pid=other.pid, stopped=None)
        files.replace_json(home.seat_state("j1"), {"t": files.utc_now(), "state": "working", "pid": other.pid})
        org.launch()
        assert any("was restarted since the last launch" in line for line in org.said)
        assert process.identity(other.pid) == who
        assert roster.facts(home)["boot_id"] == process.boot_id()
        assert roster.facts(home)["server_pid"] == panes.server_of(home).pid()
        assert [row["state"] for row in states.states(home, ledger.read(home))] == ["ready", "ready"]
        for name in ("j1", "j2"):
            assert len(process.find_marked(f"ORG_EVENTS={home.seat_events(name)}")) == 1
        org.stop()
        assert process.identity(other.pid) == who
        other.communicate()


@pytest.mark.slow  # a whole organisation, launched twice
def test_an_agent_whose_folders_went_comes_back_once(org: Any) -> None:
    home = org.home
    org.launch(chief=0, juniors=2)
    before = {name: pane.pid for name, pane in org.look().panes.items()}
    shutil.rmtree(home.seat("j1"))
    shutil.rmtree(home.mailbox("j2"))
    home.org_file.write_text("{")
    launch.mend(home, org.said.append)
    org.launch()
    assert {name: pane.pid for name, pane in org.look().panes.items()} == before
    assert json.loads(home.seat_file("j1").read_text())["program"] == "j1"
    for name in ("j1", "j2"):
        assert len(process.find_marked(f"ORG_EVENTS={home.seat_events(name)}")) == 1
