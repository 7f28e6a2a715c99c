"""What the next dispatcher takes away, and how little it looks at."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from waiting import wait_for

from org import charter as charters
from org import files
from org.lab import archive, dispatch, gate, ledger, mend, record
from org.lab.book import Book
from org.team import seats
from org.world import process

ORG = Path(mend.__file__).parents[1]


def test_every_scratch_folder_that_is_made_is_known_by_its_name(tmp_path, monkeypatch) -> None:
    made = {name for path in ORG.rglob("*.py") for name in re.findall(r'prefix="(org-[a-z-]+)"', path.read_text())}
    assert made == set(mend.SCRATCH)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = time.time() - 2 * mend.OLD_S
    for name in sorted(made):
        for age in ("old", "new"):
            (tmp_path / f"{name}{age}" / "inside").mkdir(parents=True)
        os.utime(tmp_path / f"{name}old", (before, before))
    mend._sweep_scratch()
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}new" for name in made}


def test_of_runs_that_were_put_away_no_lock_is_asked(tiny_home, monkeypatch) -> None:
    book = Book()
    for name in ("E0001/candidate-s1", "E0001/candidate-s2"):
        tiny_home.run(name).mkdir(parents=True)
        (tiny_home.run(name) / "lock").touch()
        book.add(
            f'{{"seq": 1, "kind": "result", "key": "result:{name}", "t": "", "org": "", "run": "{name}"}}'.encode()
        )
    (tiny_home.run("E0001/candidate-s2") / mend.runner.FOLDERS[0]).mkdir()
    asked = []
    monkeypatch.setattr(files, "is_locked", lambda path: asked.append(path.parent.name) or False)
    assert list(mend._ended(tiny_home, book)) == ["E0001/candidate-s2"] and asked == ["candidate-s2"]


@pytest.mark.parametrize("left", ["work", "status.json", ".result.json.abcdefgh"])
def test_what_a_run_has_only_while_it_runs_goes_with_its_result(tiny_home, left) -> None:
    folder = tiny_home.run("E0001/candidate-s1")
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    assert mend.runner.is_put_away(folder)
    (folder / left).mkdir() if left == "work" else (folder / left).write_text('{"phase": "tr')
    assert not mend.runner.is_put_away(folder)
    mend.tidy(tiny_home, "E0001/candidate-s1")
    assert [path.name for path in folder.iterdir()] == ["result.json"]


def test_a_lock_in_the_record_goes_as_soon_as_no_git_of_this_home_is_alive(tiny_home) -> None:
    record.ensure_record(tiny_home, charters.load(tiny_home))
    lock = tiny_home.record / "packed-refs.lock"
    lock.touch()
    argv = ["git", "-C", str(tiny_home.record), "cat-file", "--batch"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        wait_for(lambda: process.working_in("git", tiny_home.root, "none"), what="git to be at work")
        assert mend.sweep_record(tiny_home) == 0 and lock.exists()
        before = time.time() - 2 * mend.GIT_OLD_S  # older than any git of ours takes
        os.utime(lock, (before, before))
        assert mend.sweep_record(tiny_home) == 1 and not lock.exists()
        lock.touch()
        child.communicate()
    assert mend.sweep_record(tiny_home) == 1 and not lock.exists()


@pytest.mark.slow  # git waits 5 s for the lock
def test_a_lock_that_a_killed_git_leaves_while_a_dispatcher_works_stops_no_verdict(tiny_home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    path = tiny_home.worktree("j1") / "train.py"
    path.write_text(path.read_text().replace("MATRIX_LR = 0.02", "MATRIX_LR = 0.04"))
    gate.submit(tiny_home, seat, "why")
    dispatcher = dispatch.Dispatcher(tiny_home)
    dispatcher.tick()
    lock = tiny_home.record / "refs" / "heads" / "ledger.lock"
    lock.touch()
    before = time.time() - 3600
    os.utime(lock, (before, before))

    def is_judged() -> bool:
        dispatcher.tick()
        return bool(ledger.read(tiny_home).verdicts)

    wait_for(is_judged, what="the verdict")
    assert not lock.exists()
    assert any(b'"verdict:E0001"' in line for line in archive.kept_lines(tiny_home))
    wait_for(lambda: not dispatcher.running(), what="the end of the runs")
