"""The branch that a landing makes: its name, whose it is, what becomes of it when it is there already or in the middle."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from persons import LR, WARM, Work, snapshot
from repos import sh
from tiny import make_tiny_home
from whole import run

from org.errors import BadInput
from org.lab import land, ledger


@pytest.mark.slow  # lands three times
def test_a_branch_with_work_of_the_persons_is_left_alone(work: Work) -> None:
    work.plant(LR)
    land.land(work.home, "main")
    sh("git", "checkout", "-q", "org/main", cwd=work.top)
    sh("git", "commit", "-q", "--allow-empty", "--amend", "-m", sh("git", "log", "-1", "--format=%B", cwd=work.top), cwd=work.top)  # fmt: skip
    sh("git", "checkout", "-q", "trunk", cwd=work.top)
    mine = sh("git", "rev-parse", "org/main", cwd=work.top)
    for _ in range(2):
        with pytest.raises(BadInput, match="with other work on it; name another with --branch NAME"):
            land.land(work.home, "main")
        work.plant(WARM) if _ == 0 else None
    assert sh("git", "rev-parse", "org/main", cwd=work.top) == mine
    assert land.land(work.home, "main", branch="org/main2").status == "made"


@pytest.mark.slow  # a repository for each name
@pytest.mark.parametrize(
    ("existing", "name", "said"),
    [
        ("org", None, "has a branch org, so org/main cannot be one"),
        ("org/main/x", None, "has a branch org/main/x, so org/main cannot be one"),
        (None, "trunk", "has a branch trunk with other work on it"),
        (None, "-f", "is no name"),
        (None, "", "is no name"),
        (None, "HEAD", "is no name"),
        (None, "a b", "is no name"),
        (None, "a\nb", "is no name"),
        (None, "a..b", "is no name"),
        (None, "../../x", "is no name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(work: Work, existing: str | None, name: str | None, said: str) -> None:
    work.plant(LR)
    if existing:
        sh("git", "branch", existing, cwd=work.top)
    before = snapshot(work.top)
    for dry in (True, False):
        with pytest.raises(BadInput, match=said):
            land.land(work.home, "main", branch=name, dry=dry)
    assert snapshot(work.top) == before


def test_a_branch_that_is_checked_out_is_not_moved(work: Work, tmp_path: Path) -> None:
    work.plant(LR)
    first = land.land(work.home, "main")
    sh("git", "worktree", "add", "-q", str(tmp_path / "look\nhere"), "org/main", cwd=work.top)
    work.plant(WARM)
    with pytest.raises(BadInput, match="checked out in"):
        land.land(work.home, "main")
    assert sh("git", "rev-parse", "org/main", cwd=work.top).strip() == first.commit


@pytest.mark.slow  # two homes
def test_another_home_does_not_take_over_the_branch(work: Work, tmp_path: Path) -> None:
    work.plant(LR)
    land.land(work.home, "main")
    second = make_tiny_home(tmp_path / "second")
    second.charter.write_text(work.home.charter.read_text())
    other = Work.__new__(Work)
    other.home, other.top, other.sub, other.code = second, work.top, work.sub, work.code
    other.plant(WARM)
    with pytest.raises(BadInput, match="--branch NAME"):
        land.land(second, "main")


def test_dry_makes_nothing(work: Work) -> None:
    work.plant(LR)
    before = snapshot(work.top, but="none")
    objects = sorted((work.top / ".git" / "objects").rglob("*"))
    lines = len(ledger.read(work.home).rows)
    dry = land.land(work.home, "main", dry=True)
    assert (dry.status, dry.report, dry.files) == ("dry", None, ("sub dir/code/train.py",))
    assert snapshot(work.top, but="none") == before and not work.home.reports.exists()
    assert sorted((work.top / ".git" / "objects").rglob("*")) == objects
    assert len(ledger.read(work.home).rows) == lines
    assert land.land(work.home, "main").commit == dry.commit


@pytest.mark.slow  # killed four times
@pytest.mark.parametrize("point", ["land.objects", "land.ref", "land.report", "ledger.org"])
def test_a_landing_that_is_killed_is_whole_or_absent_and_is_mended_by_the_next(work: Work, point: str) -> None:
    work.plant(LR)
    before = snapshot(work.top)
    assert run("from org.lab import land; land.land(home, 'main')", work.home, point=point) == -signal.SIGKILL
    assert snapshot(work.top) == before
    assert ("org/main" in sh("git", "branch", cwd=work.top)) is (point != "land.objects")
    done = land.land(work.home, "main")
    assert done.status == ("made" if point == "land.objects" else "there")
    assert done.report and done.report.is_file()
    assert [row["commit"] for row in ledger.read(work.home).org] == [done.commit]
    assert sh("git", "fsck", "--connectivity-only", cwd=work.top).strip() == ""
