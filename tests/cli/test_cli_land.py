"""`org land` from a terminal: what it prints, its document, its exit codes; an agent is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from persons import LR, WARM, Work, refs
from repos import sh

from org.home import Home
from org.lab import record
from org.team import seats

from .conftest import Cli
from .test_cli_bad_input import one_line

KEYS = ["program", "branch", "commit", "report", "experiments", "files", "status", "on", "differs", "notices"]


@pytest.fixture
def work(tiny_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    made = Work(tiny_home, tmp_path / "mine")
    made.commit()
    monkeypatch.chdir(tiny_home.root)
    return made


def test_a_landing_is_one_document_and_then_there_already(cli: Cli, work: Work) -> None:
    work.plant(LR, WARM)
    dry = cli("land", "main", "--dry", "--json").json
    assert (list(dry), dry["status"], dry["report"]) == (KEYS, "dry", None)
    assert "nothing was made" in cli("land", "main", "--dry").out and len(refs(work.top)) == 1
    done = cli("land", "main", "--json")
    assert (done.code, done.err) == (0, "")
    row = done.json
    assert (row["program"], row["branch"], row["status"]) == ("main", "org/main", "made")
    assert row["commit"] == sh("git", "rev-parse", "org/main", cwd=work.top).strip() == dry["commit"]
    assert Path(row["report"]) == work.home.land_report("main", row["commit"])
    assert row["files"] == ["sub dir/code/train.py"]
    (stack,) = row["experiments"]
    assert (stack["experiment"], stack["commit"], stack["verdict"]["tier"]) == ("E0003", row["commit"], "verified")
    assert [member["experiment"] for member in stack["members"]] == ["E0001", "E0002"]
    again = cli("land", "main")
    assert again.code == 0
    assert f"org/main of {work.top} is there already, at {row['commit'][:7]}" in again.out
    assert "E0003 of E0001, E0002: effect -0.0712 ± 0.0041 val_bpb, z 17.4, n 4 (verified, reported)" in again.out
    assert row["report"] in again.out and "git merge org/main takes it" in again.out
    assert cli("results", "--check").code == 0
    assert cli("land", "main", "--json").json["status"] == "there"


@pytest.mark.slow  # several experiments, run for real
def test_head_that_holds_all_of_it_is_no_error(cli: Cli, work: Work) -> None:
    work.plant(LR)
    cli("land", "main")
    sh("git", "merge", "-q", "org/main", cwd=work.top)
    done = cli("land", "main", "--branch", "x")
    assert (done.code, "holds everything verified in main; nothing was made" in done.out) == (0, True)
    assert cli("land", "main", "--branch", "x", "--json").json["experiments"] == []


@pytest.mark.slow  # several experiments, run for real
@pytest.mark.parametrize("how", ["--seat", "ORG_SEAT"])
def test_a_seat_is_refused(cli: Cli, work: Work, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    work.plant(LR)
    seats.create(work.home, "j1")
    if how == "ORG_SEAT":
        monkeypatch.setenv("ORG_SEAT", "j1")
    done = cli("land", "main", *(["--seat", "j1"] if how == "--seat" else []))
    assert (done.code, done.out) == (3, "")
    assert one_line(done.err) == "org: landing is the person's, and j1 acts here; ask with `org send human TEXT`"
    assert len(refs(work.top)) == 1


@pytest.mark.slow  # several experiments, run for real
def test_what_cannot_land_has_the_contracts_exit_code_and_makes_nothing(cli: Cli, work: Work) -> None:
    record.ensure_program(work.home, "main")
    done = cli("land", "main", "--json")
    assert (done.code, done.out) == (2, "")
    assert "nothing is verified in main" in one_line(done.err)
    work.plant(LR)
    for name in ("a b", "trunk", "trunk/x"):
        done = cli("land", "main", "--branch", name)
        assert (done.code, done.out) == (2, "") and "--branch" in one_line(done.err)
    work.edit("MATRIX_LR = 0.02", "MATRIX_LR = 0.03")
    work.commit()
    done = cli("land", "main", "--json")
    assert (done.code, done.out) == (3, "")
    assert "sub dir/code/train.py" in one_line(done.err) and "nothing was made" in done.err
    assert len(refs(work.top)) == 1 and not work.home.reports.exists()
