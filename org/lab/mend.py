"""What killed processes leave half made, taken away by the next dispatcher: folders of runs that ended, files of a write that
did not, a ledger that is behind in the record.

Touches nothing that a ledger line or a ref names. A filing that was not finished is the gate's own to take back.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from org import files
from org.home import EXPERIMENT_PATTERN, Home
from org.lab import archive, ledger, runner
from org.world import git

# of processes that held no lock: known by their age alone
SCRATCH = ("org-index-", "org-checks-", "org-land-", "org-init-", "org-prepare-")
OLD_S = 86400.0  # of such a folder; a filing with many slow checks takes minutes
GIT_OLD_S = 600.0  # of a lock of git's in the record: its own writers hold one for milliseconds
CRASHED = ("fast_import_crash_*", "objects/tmp_obj_*", "objects/*/tmp_obj_*", "objects/pack/tmp_*")
TOLD = ("verdict", "head", "credit")  # kinds of lines that are committed as soon as they are there


def mend(home: Home, book: ledger.Book) -> None:
    """The caller holds the dispatch lock and does this once, before it starts anything."""
    for folder in _folders(home):
        files.sweep(folder)
    for run in _ended(home, book):
        tidy(home, run)
    _sweep_record(home)
    _sweep_scratch()


def tidy(home: Home, run: str) -> None:
    """Remove what a run has only while it runs. Nobody writes there any more: its lock is free and its line is there."""
    for name in runner.FOLDERS:
        shutil.rmtree(home.run(run) / name, ignore_errors=True)
    files.sweep(home.run(run), older_s=0.0)


def is_told(home: Home, book: ledger.Book) -> bool:
    """Whether the ledger kept in the record holds every line that is committed as soon as it is there."""
    kept = archive.kept_lines(home) if git.resolve(home.record, archive.BRANCH) else []
    return not any(row.get("kind") in TOLD for row in book.rows[len(kept) :])


def _folders(home: Home) -> Iterable[Path]:
    yield from (home.comms, home.programs, home.experiments)
    if home.experiments.is_dir():
        yield from (path for path in home.experiments.iterdir() if EXPERIMENT_PATTERN.fullmatch(path.name))


def _ended(home: Home, book: ledger.Book) -> Iterable[str]:
    """Runs with a result line whose runner was killed before it had put things away."""
    for path in home.experiments.glob("E*/runs/*"):
        run = f"{path.parents[1].name}/{path.name}"
        if run in book.results and not _is_tidy(path) and not files.is_locked(path / "lock"):  # rarest first
            yield run


def _is_tidy(folder: Path) -> bool:
    return not any(name in runner.FOLDERS or name.startswith(".") for name in os.listdir(folder))  # noqa: PTH208 - one call for each run ever made


def _sweep_record(home: Home) -> None:
    """After a loss of power git leaves locks that stop every later writer; after a kill, files of a pack half read."""
    old = time.time() - GIT_OLD_S
    locks = [*home.record.glob("*.lock"), *(home.record / "refs").rglob("*.lock")]
    for path in (*locks, *(found for pattern in CRASHED for found in home.record.glob(pattern))):
        try:
            if path.name != "org.lock" and path.lstat().st_mtime < old:
                path.unlink()
        except OSError:
            continue  # its writer was slow, and ended meanwhile


def _sweep_scratch() -> None:
    old = time.time() - OLD_S
    for path in Path(tempfile.gettempdir()).iterdir():
        if not path.name.startswith(SCRATCH):
            continue
        try:
            facts = path.lstat()
        except OSError:
            continue  # gone meanwhile
        if facts.st_uid == os.getuid() and facts.st_mtime < old:
            shutil.rmtree(path, ignore_errors=True)
