"""What keeps a seat's worktree: files, staged content, commits and processes that nothing else has. Real git, real processes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import replace_in_trainer
from whole import run

from org.errors import Busy
from org.home import Home
from org.lab import gate
from org.records import Seat
from org.team import ending, removal, seats
from org.world import git


def in_tree(seat: Seat, *words: str) -> str:
    who = ["-c", "user.name=j1", "-c", "user.email=j1@x"]
    return subprocess.run(
        ["git", "-C", seat.worktree, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def seat(tiny_home: Home) -> Seat:
    return seats.create(tiny_home, "j1", "junior", "cmd:true", "main")


def change(seat: Seat, old: str = "MATRIX_LR = 0.02", new: str = "MATRIX_LR = 0.04") -> None:
    replace_in_trainer(seat, old, new)


def refused(home: Home, **options: bool) -> str:
    """What is said of j1 by a stop that leaves it."""
    said: list[str] = []
    with pytest.raises(Busy, match="j1"):
        ending.stop(home, said.append, clean=True, **options)
    assert home.worktree("j1").is_dir()
    return next(line for line in said if line.startswith("j1 stays: "))


def test_a_worktree_as_it_was_made_goes_and_so_does_one_whose_work_is_filed(tiny_home: Home, seat: Seat) -> None:
    (Path(seat.worktree) / "__pycache__").mkdir()
    (Path(seat.worktree) / "__pycache__" / "train.pyc").write_text("bytecode")
    assert removal.reasons(tiny_home, seat) == []
    change(seat)
    assert removal.reasons(tiny_home, seat) == ["1 file that no commit has (train.py)"]
    gate.submit(tiny_home, seat, "larger")
    assert removal.reasons(tiny_home, seat) == []
    ending.stop(tiny_home, lambda line: None, clean=True)
    assert not Path(seat.worktree).exists()


def test_names_of_files_are_shown_harmlessly_and_not_all(tiny_home: Home, seat: Seat) -> None:
    for name in ("a\x1b[31m", "b\nb", "c", "d", "e", "f"):
        (Path(seat.worktree) / name).write_text("x")
    [why] = removal.reasons(tiny_home, seat)
    assert why == "6 files that no commit has (a\ufffd[31m, b?b, c, d and 2 more)"


def test_commits_that_no_experiment_pins_hold_it_and_are_kept_by_aside(tiny_home: Home, seat: Seat) -> None:
    change(seat)
    in_tree(seat, "commit", "-qam", "by hand")
    own = in_tree(seat, "rev-parse", "HEAD")
    assert refused(tiny_home) == "j1 stays: 1 commit that no experiment pins"
    assert git.list_refs(tiny_home.record, "refs/org/look") == {} == git.list_refs(tiny_home.hub, "refs/org/look")
    ending.stop(tiny_home, lambda line: None, clean=True, aside=True)
    assert not Path(seat.worktree).exists() and own in git.list_refs(tiny_home.hub, "refs").values()


def test_commits_on_a_detached_head_hold_it_and_are_kept_by_aside(tiny_home: Home, seat: Seat) -> None:
    in_tree(seat, "checkout", "-q", "--detach")
    change(seat)
    in_tree(seat, "commit", "-qam", "nowhere")
    own = in_tree(seat, "rev-parse", "HEAD")
    assert "1 commit that no experiment pins" in refused(tiny_home)
    said: list[str] = []
    ending.stop(tiny_home, said.append, clean=True, aside=True)
    assert not Path(seat.worktree).exists() and own in git.list_refs(tiny_home.hub, "refs/org/saved").values()
    assert any(line.startswith("j1: ") and "1 commit" in line for line in said)


def test_staged_content_that_is_nowhere_else_holds_it(tiny_home: Home, seat: Seat) -> None:
    before = (Path(seat.worktree) / "train.py").read_text()
    change(seat)
    in_tree(seat, "add", "train.py")
    (Path(seat.worktree) / "train.py").write_text(before)
    assert refused(tiny_home) == "j1 stays: 1 staged file that no commit has (train.py)"


def test_a_process_that_stands_in_it_holds_it_and_aside_does_not_push_it_out(tiny_home: Home, seat: Seat) -> None:
    code = "import sys; print('here', flush=True); sys.stdin.read()"
    folder = Path(seat.worktree) / "sub"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"here\n"
        for aside in (False, True):
            assert refused(tiny_home, aside=aside) == f"j1 stays: 1 process in it ({child.pid})"
        assert child.poll() is None
        child.communicate()
    ending.stop(tiny_home, lambda line: None, clean=True)
    assert not Path(seat.worktree).exists()


def test_a_merge_that_is_not_over_holds_it(tiny_home: Home, seat: Seat) -> None:
    entry = tiny_home.hub / "worktrees" / "j1"
    (entry / "MERGE_HEAD").write_text(in_tree(seat, "rev-parse", "HEAD") + "\n")
    assert refused(tiny_home) == "j1 stays: a merge under way"


@pytest.mark.parametrize(("mark", "verb"), [("REVERT_HEAD", "revert"), ("BISECT_LOG", "bisection")])
def test_whatever_git_is_in_the_middle_of_holds_it(tiny_home: Home, seat: Seat, mark: str, verb: str) -> None:
    (tiny_home.hub / "worktrees" / "j1" / mark).write_text(in_tree(seat, "rev-parse", "HEAD") + "\n")
    assert removal.reasons(tiny_home, seat) == [f"a {verb} under way"]


def test_a_folder_that_git_knows_nothing_of_holds_neither_the_others_nor_the_stop(tiny_home: Home, seat: Seat) -> None:
    other = seats.create(tiny_home, "j2", "junior", "cmd:true", "main")
    shutil.rmtree(tiny_home.hub / "worktrees" / "j1")
    assert "is no worktree" in refused(tiny_home)
    assert not Path(other.worktree).exists()


def test_an_index_that_cannot_be_read_holds_it(tiny_home: Home, seat: Seat) -> None:
    (tiny_home.hub / "worktrees" / "j1" / "index").write_bytes(b"DIRC garbage")
    assert refused(tiny_home) == "j1 stays: an index that cannot be read"


def test_a_kill_before_it_is_removed_is_finished_by_the_next_stop(tiny_home: Home, seat: Seat) -> None:
    (Path(seat.worktree) / "notes.md").write_text("mine")
    code = "from org.team import ending; ending.stop(home, print, clean=True, aside=True)"
    assert run(code, tiny_home, point="ending.clean") == -signal.SIGKILL
    [kept] = seats.saved(tiny_home, "j1")
    assert (kept / "notes.md").read_text() == "mine" and Path(seat.worktree).is_dir()
    ending.stop(tiny_home, lambda line: None, clean=True)
    assert not Path(seat.worktree).exists() and seats.saved(tiny_home, "j1") == [kept]
