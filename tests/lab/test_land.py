"""Verified work comes back as one branch; of the person's repository nothing else changes, whatever it is or does."""

from __future__ import annotations

from pathlib import Path

import pytest
from persons import LR, WARM, Work, refs, snapshot
from repos import sh
from tiny import TINY_TRAIN
from whole import dispatch_until

from org.errors import BadInput, OrgError, Refused
from org.evidence import audit, stack
from org.home import Home
from org.lab import fidelity, follow, gate, land, ledger, record, stacks
from org.world import git


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "theirs"


# --- what lands --------------------------------------------------------------------------------------------------


def test_a_verified_head_is_a_commit_on_head_and_nothing_else_changes(work: Work) -> None:
    stack = work.plant(LR, WARM)
    head = work.head
    work.edit("SLEEP_S = 0.0", "SLEEP_S = 9.0")  # a dirty work tree, a staged file, an untracked one
    (work.top / "staged").write_text("x")
    sh("git", "add", "staged", cwd=work.top)
    (work.top / "untracked").write_text("x")
    before, status = snapshot(work.top), sh("git", "status", "--porcelain", cwd=work.top)
    before, names = snapshot(work.top), refs(work.top)
    done = land.land(work.home, "main")
    assert snapshot(work.top) == before
    assert (done.status, done.branch, done.experiments) == ("made", "org/main", [stack])
    assert refs(work.top) - names == {f"refs/heads/org/main {done.commit}"} and names <= refs(work.top)
    assert sh("git", "status", "--porcelain", cwd=work.top) == status
    assert sh("git", "rev-parse", "org/main^", cwd=work.top).strip() == head
    assert sh("git", "diff", "--stat=200", "HEAD", "org/main", cwd=work.top).count("|") == 1
    assert done.files == ("sub dir/code/train.py",)
    text = work.show("org/main")
    assert text == TINY_TRAIN.replace("MATRIX_LR = 0.02", "MATRIX_LR = 0.04").replace("FRAC = 0.0", "FRAC = 0.5")
    assert sh("git", "fsck", "--strict", "--connectivity-only", cwd=work.top).strip() == ""
    modes = sh("git", "ls-tree", "org/main", cwd=work.top).split("\n")
    assert modes == [line.replace(sh("git", "rev-parse", "HEAD:sub dir", cwd=work.top).strip(), sh("git", "rev-parse", "org/main:sub dir", cwd=work.top).strip()) for line in sh("git", "ls-tree", "HEAD", cwd=work.top).split("\n")]  # fmt: skip
    assert done.differs == ()


def test_the_message_is_the_report_and_every_number_is_the_ledgers(work: Work) -> None:
    work.plant(LR, WARM)
    done = land.land(work.home, "main")
    message = sh("git", "log", "-1", "--format=%B", "org/main", cwd=work.top)
    author = sh("git", "log", "-1", "--format=%an <%ae> %cn", "org/main", cwd=work.top).strip()
    assert author == "org <org@localhost> org"
    assert message.splitlines()[0] == "main: val_bpb -0.0712, verified as E0003"
    assert max(len(line) for line in message.splitlines()) <= 120 and "\x1b" not in message
    words = " ".join(message.split())
    for fact in (
        "E0003 verified: effect -0.0712 ± 0.0041 val_bpb, z 17.4, n 4",
        "split val, scale tiny, equal tokens",
        "trust reported",
        "to be expected of it: -0.0700",
        "E0001 `MATRIX_LR 0.02→0.04 (turn MATRIX_LR",
        "predicted -0.0600 for E0001",
        "E0002 `WARMDOWN_FRAC 0.0→0.5",
        "what E0002 is worth by its removal is not measured yet",
        "byte for byte as it was measured",
    ):
        assert fact in words, fact
    assert done.report == work.home.land_report("main", done.commit)
    page = done.report.read_text()
    assert "E0003 verified: effect -0.0712" in page and done.commit in page and "git merge org/main" in page
    book = ledger.read(work.home)
    assert audit.audit(page, book.verdicts, metric="val_bpb") == []
    assert fidelity.problems(work.home) == []
    assert [row["commit"] for row in book.org if row.get("event") == "land"] == [done.commit]


def test_credits_and_who_left_are_told(work: Work) -> None:
    stack = work.plant(LR, WARM, ("SLEEP_S", 0.0, 0.001))
    work.plant(("SLEEP_S", 0.001, 0.0), removed=["E0003"])
    head = ledger.read(work.home).heads["main"]
    for member in ("E0001", "E0002"):
        row = {"program": "main", "experiment": stack, "commit": head["commit"], "member": member, "tree": "t"}
        row |= {"outcome": "helps", "effect": -0.035, "se": 0.004, "z": 8.8}
        ledger.Ledger(work.home).append("credit", f"credit:{member}", row)
    land.land(work.home, "main")
    words = " ".join(sh("git", "log", "-1", "--format=%B", "org/main", cwd=work.top).split())
    assert "E0001 in E0004 is worth -0.0350 ± 0.0040 val_bpb, z 8.8: credited" in words
    assert "E0003 left it: `SLEEP_S 0.0→0.001" in words and "its removal did not hurt" in words
    assert "and less what left it" in words
    assert "SLEEP_S = 0.0 " in work.show("org/main")


@pytest.mark.slow  # two stacks
def test_each_verified_stack_is_a_commit_and_a_second_head_continues_the_branch(work: Work) -> None:
    work.plant(LR)
    first = land.land(work.home, "main")
    work.plant(WARM)
    both = land.land(work.home, "main")
    assert both.experiments == ["E0002", "E0004"] and [c.commit for c in both.changes] == [first.commit, both.commit]
    assert "WARMDOWN_FRAC = 0.5" in work.show("org/main") and "WARMDOWN_FRAC = 0.0" in work.show("org/main^")
    fresh = land.land(work.home, "main", branch="another/name")
    assert fresh.commit == both.commit


def test_a_head_that_went_back_lands_what_is_left(work: Work) -> None:
    work.plant(LR)
    work.plant(WARM)
    work.plant(("WARMDOWN_FRAC", 0.5, 0.0))  # the tree of the first head again
    done = land.land(work.home, "main")
    assert done.experiments == ["E0002"] and "FRAC = 0.0" in work.show("org/main")
    work.plant(("MATRIX_LR", 0.04, 0.02))
    with pytest.raises(BadInput, match="went back to the base"):
        land.land(work.home, "main", branch="x")


@pytest.mark.slow  # lands four times
@pytest.mark.parametrize("how", ["same HEAD", "HEAD moved", "branch checked out", "line lost"])
def test_the_same_head_twice_is_there_already(work: Work, how: str) -> None:
    work.plant(LR)
    first = land.land(work.home, "main")
    if how == "HEAD moved":
        (work.top / "other.txt").write_text("more\n")
        work.commit()
    if how == "branch checked out":
        sh("git", "checkout", "-q", "org/main", cwd=work.top)
    if how == "line lost":
        assert first.report
        first.report.unlink()
    before, lines = snapshot(work.top, but="none"), len(ledger.read(work.home).rows)
    again = land.land(work.home, "main")
    assert (again.status, again.commit, again.experiments) == ("there", first.commit, first.experiments)
    assert (again.files, again.report) == (first.files, first.report)
    assert snapshot(work.top, but="none") == before and len(ledger.read(work.home).rows) == lines
    assert again.report and again.report.is_file()


def test_a_credit_that_came_in_later_makes_no_second_commit(work: Work) -> None:
    work.plant(LR, WARM)
    first = land.land(work.home, "main")
    row = {"program": "main", "experiment": "E0003", "commit": "c", "member": "E0001", "tree": "t", "outcome": "helps"}
    ledger.Ledger(work.home).append("credit", "credit:1", {**row, "effect": -0.03, "se": 0.01, "z": 3.0})
    again = land.land(work.home, "main")
    assert (again.status, again.commit, again.changes[0].commit) == ("there", first.commit, first.commit)


@pytest.mark.slow  # lands twice in three ways
@pytest.mark.parametrize("taken", ["merge", "merge --squash", "cherry-pick"])
def test_what_was_taken_is_not_landed_again_and_the_next_stack_is(work: Work, taken: str) -> None:
    work.plant(LR)
    land.land(work.home, "main")
    sh("git", "checkout", "-q", "--", ".", cwd=work.top)
    (work.top / "other.txt").write_text("before\n")
    work.commit()
    sh("git", *taken.split(), "org/main", cwd=work.top)
    if "squash" in taken:
        work.commit()
    assert land.land(work.home, "main", branch="again").status == "nothing"
    assert "again" not in sh("git", "branch", cwd=work.top)
    work.plant(("MATRIX_LR", 0.04, 0.05))  # the same line once more
    done = land.land(work.home, "main")
    assert (done.status, done.experiments, done.on) == ("made", ["E0004"], work.head)
    assert "MATRIX_LR = 0.05" in work.show("org/main")


@pytest.mark.slow  # two stacks
def test_a_line_that_two_stacks_turned_and_the_person_took_is_no_conflict(work: Work) -> None:
    work.plant(LR)
    work.plant(("MATRIX_LR", 0.04, 0.05))
    land.land(work.home, "main")
    sh("git", "merge", "-q", "--squash", "org/main", cwd=work.top)
    work.commit()
    work.plant(WARM)  # the line below
    done = land.land(work.home, "main")
    assert (done.status, done.experiments) == ("made", ["E0006"])
    assert "MATRIX_LR = 0.05" in work.show("org/main") and "FRAC = 0.5" in work.show("org/main")


# --- what the person did meanwhile -------------------------------------------------------------------------------


def test_other_lines_that_changed_since_the_import_are_merged_and_said(work: Work) -> None:
    work.plant(LR)
    work.edit('print("---")', 'print("---")  # mine')
    (work.code / "README.md").write_text("Mine.\n")
    work.commit()
    done = land.land(work.home, "main")
    text = work.show("org/main")
    assert "MATRIX_LR = 0.04" in text and "# mine" in text
    assert done.differs == (
        ("sub dir/code/README.md", "yours is not as it was imported"),
        ("sub dir/code/train.py", "yours is not as it was imported"),
    )
    assert "was not measured" in sh("git", "log", "-1", "--format=%B", "org/main", cwd=work.top)


@pytest.mark.slow  # five repositories
@pytest.mark.parametrize("how", ["same line", "deleted", "renamed", "symlink", "submodule"])
def test_a_conflict_names_the_file_and_makes_nothing(work: Work, how: str) -> None:
    work.plant(LR)
    path = work.code / "train.py"
    if how == "same line":
        work.edit("MATRIX_LR = 0.02", "MATRIX_LR = 0.03")
    elif how == "deleted":
        path.unlink()
    elif how == "renamed":
        path.rename(path.with_name("main.py"))
    else:
        path.unlink()
        path.symlink_to("README.md")
    if how == "submodule":
        path.unlink()
        head = work.head
        sh("git", "update-index", "--cacheinfo", f"160000,{head},{work.sub}/train.py", cwd=work.top)
        sh("git", "commit", "-qm", "sub", cwd=work.top)
    else:
        work.commit()
    before = snapshot(work.top, but="none")
    objects = sorted((work.top / ".git" / "objects").rglob("*"))
    with pytest.raises(Refused, match=r"sub dir/code/train\.py.*nothing was made") as refused:
        land.land(work.home, "main")
    assert "\n" not in str(refused.value).replace(str(work.home.root), "")
    assert snapshot(work.top, but="none") == before and sorted((work.top / ".git" / "objects").rglob("*")) == objects
    assert not work.home.reports.exists()


def test_a_file_with_other_line_ends_on_disk_lands_with_those_of_the_repository(tiny_home: Home, place: Path) -> None:
    work = Work(tiny_home, place)
    work.commit()
    (work.code / "train.py").write_bytes(TINY_TRAIN.replace("\n", "\r\n").encode())
    work.plant(LR)
    (work.code / "train.py").write_text(TINY_TRAIN)
    done = land.land(work.home, "main")
    assert work.show("org/main") == TINY_TRAIN.replace("MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    assert done.differs == (("sub dir/code/train.py", "its lines end as yours do"),)


def test_new_and_deleted_files_and_modes(tiny_home: Home, place: Path) -> None:
    work = Work(tiny_home, place, sub="")
    (work.code / "train.py").chmod(0o755)
    work.commit()
    work.plant(LR, edits={"parts/new é.py": b"x = 1\n"})
    done = land.land(work.home, "main")
    assert done.files == ("parts/new é.py", "train.py")
    assert sh("git", "ls-tree", "org/main", "train.py", "run.sh", cwd=place).split()[::4] == ["100755", "100755"]
    assert land.land(work.home, "main").status == "there"


def test_the_prefix_of_the_research_tree_is_not_the_folder_of_the_repository(tiny_home: Home, place: Path) -> None:
    work = Work(tiny_home, place, start="prefix: lab/code\n")
    text = tiny_home.charter.read_text().replace("[train.py]", "[lab/code/train.py]")
    tiny_home.charter.write_text(text.replace("[README.md]", "[lab/code/README.md]").replace("path: train", "path: lab/code/train"))  # fmt: skip
    work.commit()
    work.plant(edits={"lab/code/train.py": TINY_TRAIN.replace("0.02", "0.04").encode()})
    done = land.land(tiny_home, "main")
    assert (done.files, done.differs) == (("sub dir/code/train.py",), ())
    assert "MATRIX_LR = 0.04" in work.show("org/main")


# --- constants that `start` set ----------------------------------------------------------------------------------

START = "start: {MATRIX_LR: 0.01, WARMDOWN_FRAC: 0.3}\n"
PLAIN = TINY_TRAIN  # what the person has: 0.02 and 0.0


def test_a_start_value_is_no_finding_and_one_that_was_turned_is(tiny_home: Home, place: Path) -> None:
    work = Work(tiny_home, place, start=START)
    work.commit()
    work.plant(("MATRIX_LR", 0.01, 0.04))
    done = land.land(work.home, "main")
    assert work.show("org/main") == PLAIN.replace("MATRIX_LR = 0.02", "MATRIX_LR = 0.04"), "neighbouring lines"
    assert done.differs == ((f"{work.sub}/train.py", "it keeps WARMDOWN_FRAC = 0.0, measured with 0.3"),)


def test_a_start_value_turned_back_to_the_persons_own_is_nothing_to_land(tiny_home: Home, place: Path) -> None:
    work = Work(tiny_home, place, start=START)
    work.commit()
    work.plant(("MATRIX_LR", 0.01, 0.02))
    done = land.land(work.home, "main")
    assert (done.status, done.commit, done.report) == ("nothing", work.head, None)
    work.edit("MATRIX_LR = 0.02", "MATRIX_LR = 0.03")
    work.commit()
    with pytest.raises(Refused, match=r"train\.py"):
        land.land(work.home, "main")


@pytest.mark.slow  # two stacks
def test_start_values_survive_two_stacks(tiny_home: Home, place: Path) -> None:
    work = Work(tiny_home, place, start=START)
    work.commit()
    work.plant(("MATRIX_LR", 0.01, 0.04))
    land.land(work.home, "main")
    sh("git", "merge", "-q", "org/main", cwd=work.top)
    work.plant(("MATRIX_LR", 0.04, 0.05))
    done = land.land(work.home, "main")
    assert (done.experiments, "MATRIX_LR = 0.05" in work.show("org/main")) == (["E0004"], True)
    work.plant(("WARMDOWN_FRAC", 0.3, 0.5))
    done = land.land(work.home, "main")
    assert len(done.changes) == 2 and "WARMDOWN_FRAC = 0.5" in work.show("org/main")


# --- what is not landed ------------------------------------------------------------------------------------------


def test_a_head_that_is_the_base_says_what_next(work: Work) -> None:
    record.ensure_program(work.home, "main")
    with pytest.raises(BadInput, match="nothing is verified in main: its head is the base"):
        land.land(work.home, "main")


def test_a_head_without_its_line_or_its_verdict_does_not_land(work: Work) -> None:
    work.plant(LR)
    head, tree = record.program_head(work.home, "main")
    other = git.commit(work.home.record, tree, [head], "by hand")
    git.update_ref(work.home.record, record.main_ref("main"), other)
    with pytest.raises(OrgError, match="its ledger line is not that"):
        land.land(work.home, "main")
    git.update_ref(work.home.record, record.main_ref("main"), head)
    text = work.home.ledger.read_text()
    work.home.ledger.write_text(text.replace("-0.0712345", "-0.1712345"))
    with pytest.raises(OrgError, match="does not agree with itself"):
        land.land(work.home, "main")
    work.home.ledger.write_text(text.replace('"tier": "verified"', '"tier": "tentative"'))
    with pytest.raises(OrgError, match="is not verified"):
        land.land(work.home, "main")
    assert refs(work.top) == {f"refs/heads/trunk {work.head}"}


def test_a_charter_that_names_another_place_by_now_is_one_line(work: Work) -> None:
    work.plant(LR)
    text = work.home.charter.read_text()
    work.home.charter.write_text(text + "prefix: nanochat\n")
    with pytest.raises(BadInput, match="the record has no folder 'nanochat'"):
        land.land(work.home, "main")


# --- a whole way -------------------------------------------------------------------------------------------------


@pytest.mark.slow  # measures two experiments, their stack and the removal of each member
def test_what_was_really_verified_lands_in_the_repository_that_holds_the_home(tiny_home, make_seat, edit) -> None:
    top = tiny_home.root
    (top / ".gitignore").write_text("/comms/\n/worktrees/\n")
    sh("git", "init", "-q", ".", cwd=top)
    sh("git", "add", ".", cwd=top)
    sh("git", "commit", "-qm", "home", cwd=top)
    for name, *change in (("a", "MATRIX_LR = 0.02", "MATRIX_LR = 0.04"), ("b", "FRAC = 0.0", "FRAC = 0.5")):
        seat = make_seat(name)
        edit(seat, *change)
        follow.drive(tiny_home, gate.submit(tiny_home, seat, name).experiment, lambda line: None, poll_s=0.05)
    filed = stacks.stack(tiny_home, "main")
    assert filed is not None
    book = dispatch_until(tiny_home, lambda book: book.heads and not stack.owing(book.moves, "main"))
    before = snapshot(top / "code")
    done = land.land(tiny_home, "main")
    assert (done.status, done.experiments, done.files) == ("made", [filed.experiment], ("code/train.py",))
    text = sh("git", "show", "org/main:code/train.py", cwd=top)
    assert text == (top / "code" / "train.py").read_text().replace("= 0.02", "= 0.04").replace(
        "FRAC = 0.0", "FRAC = 0.5"
    )
    message = " ".join(sh("git", "log", "-1", "--format=%B", "org/main", cwd=top).split())
    verdict = book.verdicts[filed.experiment]
    assert f"effect {verdict.effect:+.4f} ± {verdict.se:.4f} val_bpb" in message
    assert message.count(": credited") == 2 and "additivity" in message
    assert sh("git", "status", "--porcelain", cwd=top) == "" and snapshot(top / "code") == before
    assert fidelity.problems(tiny_home) == []
