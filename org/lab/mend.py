"""What killed processes leave half made, taken away by the next dispatcher: folders of runs that ended, files of a write that
did not, a ledger that is behind in the record.

Touches nothing that a ledger line or a ref names. A filing that was not finished is the gate's own to take back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from org import files
from org.home import EXPERIMENT_PATTERN, Home
from org.lab import archive, runner
from org.lab.book import Book
from org.world import git, process

# of processes that held no lock: known by their age alone
SCRATCH = ("org-index-", "org-checks-", "org-land-", "org-init-", "org-prepare-", "org-measure-")
OLD_S = 86400.0  # of such a folder; a filing with many slow checks takes minutes
GIT_OLD_S = 600.0  # of a lock of git's: those of ours hold one for milliseconds
OURS = "org.lock"  # the one lock in a repository that is a kernel lock and never removed
CRASHED = ("fast_import_crash_*", "objects/tmp_obj_*", "objects/*/tmp_obj_*", "objects/pack/tmp_*")
TOLD = ("verdict", "head", "credit")  # kinds of lines that are committed as soon as they are there


def mend(home: Home, book: Book) -> None:
    """The caller holds the dispatch lock and does this once, before it starts anything."""
    for folder in _folders(home):
        files.sweep(folder)
    for run in _ended(home, book):
        tidy(home, run)
    sweep_record(home)
    _sweep_scratch()


def tidy(home: Home, run: str) -> None:
    """Put away a run whose runner did not. Nobody writes there any more: its lock is free and its line is there."""
    runner.put_away(home.run(run))
    files.sweep(home.run(run), older_s=0.0)


def is_told(home: Home, book: Book) -> bool:
    """Whether the ledger kept in the record holds every line that is committed as soon as it is there."""
    kept = archive.kept_lines(home) if git.resolve(home.record, archive.BRANCH) else []
    return not any(row.get("kind") in TOLD for row in book.rows[len(kept) :])


def _folders(home: Home) -> Iterable[Path]:
    yield from (home.comms, home.programs, home.experiments)
    if home.experiments.is_dir():
        yield from (path for path in home.experiments.iterdir() if EXPERIMENT_PATTERN.fullmatch(path.name))


def _ended(home: Home, book: Book) -> Iterable[str]:
    """Runs with a result line whose runner was killed before it had put things away."""
    for path in home.experiments.glob("E*/runs/*"):
        run = f"{path.parents[1].name}/{path.name}"
        if run in book.results and not runner.is_put_away(path) and not files.is_locked(path / "lock"):  # rarest first
            yield run


def sweep_record(home: Home) -> int:
    """After a loss of power git leaves locks that stop every later writer; after a kill, files of a pack half read. Returns
    how many of them were taken away."""
    count = len(free_locks(home, home.record)[0])
    old = time.time() - GIT_OLD_S
    for path in (found for pattern in CRASHED for found in home.record.glob(pattern)):
        try:
            if path.lstat().st_mtime < old:
                path.unlink()
                count += 1
        except OSError:
            continue  # its writer was slow, and ended meanwhile
    return count


def free_locks(home: Home, git_dir: Path) -> tuple[list[Path], list[Path], list[int]]:
    """git's own lock files stay when it is killed, and stop every later one. Where a git of this home is alive they are
    its, and are left, unless they are older than any git of ours takes; listed before the look, so that none is removed
    that was made after it. Returns those removed, those left, and the processes of the gits that live."""
    found = _lock_files(git_dir)
    alive = process.working_in("git", home.root, f"ORG_KEY={home.key}") if found else []
    removed, left, old = [], [], time.time() - GIT_OLD_S
    for path, facts in found.items():
        if process.open_holders(path) or (alive and facts.st_mtime >= old):
            left.append(path)
            continue
        try:
            if path.lstat().st_ino == facts.st_ino:
                path.unlink()
                removed.append(path)
        except OSError:
            continue  # its git ended meanwhile
    return removed, left, alive


def _lock_files(git_dir: Path) -> dict[Path, os.stat_result]:
    """Every `*.lock` outside the objects."""
    found = []
    for folder, names, leaves in os.walk(git_dir):
        names[:] = [name for name in names if name not in ("objects", "hooks", "org-broken")]
        found += [Path(folder) / leaf for leaf in leaves if leaf.endswith(".lock") and leaf != OURS]
    facts = {}
    for path in sorted(found):
        with contextlib.suppress(OSError):  # gone meanwhile
            facts[path] = path.lstat()
    return facts


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
