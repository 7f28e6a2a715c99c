"""What the next dispatcher takes away, and how little it looks at."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

from org import files
from org.lab import ledger, mend

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
    book = ledger.Book()
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
