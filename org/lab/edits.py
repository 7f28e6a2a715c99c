"""What stands in a seat's worktree: read as a stranger's, with nothing of it run, and given back with what was put right.

Regular files only, never through a link, never larger than a cap; comments and layout that were lost on code that did not
change are put back.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

from org import files
from org.errors import OrgError, Refused
from org.evidence import comments, rules
from org.failpoint import failpoint
from org.home import Home, seat_branch
from org.records import Charter, Contract, Seat, Violation
from org.world import git, worktrees

MAX_FILE_BYTES = 1_000_000


def seat_tip(home: Home, seat: Seat) -> str | None:
    """The tip of the seat's branch, fetched from the hub into the record."""
    ref = f"refs/org/seats/{seat.name}"
    git.fetch(home.record, home.hub, [f"+refs/heads/{seat_branch(seat.program, seat.name)}:{ref}"])
    return git.resolve(home.record, ref)


def editable_texts(
    home: Home, charter: Charter, seat: Seat, head: str, tip: str
) -> tuple[dict[str, bytes | None], dict[str, bytes | None], list[str]]:
    """Editable paths as they stand in the worktree, content or None for a deleted one; the same with comments put back
    that were lost on code that did not change; and what was put back, in sentences."""
    root = Path(seat.worktree)
    if not root.is_dir():
        raise OrgError(f"{root} is missing; `org seat {seat.name}` makes it again")
    known = {e.path for e in git.list_tree(home.record, head)}
    there = known | {e.path for e in git.list_tree(home.record, tip)}  # what an earlier experiment added can go again
    changes: dict[str, bytes | None] = {}
    found = paths(root, charter.editable)
    for path in found | {p for p in there if rules.matches_any(p, charter.editable)}:
        changes[path] = _read_plain(root, path) if path in found else None
    read = dict(changes)
    notices: list[str] = []
    originals = git.read_files(home.record, head, [p for p in changes if p in known])
    for path, data in changes.items():
        if data is None or path not in originals or not path.endswith(".py") or data == originals[path]:
            continue
        try:
            old, new = originals[path].decode(), data.decode()
        except UnicodeDecodeError:
            continue
        text, said = comments.restore_comments(old, new)
        text, moved = comments.restore_layout(old, text)
        changes[path] = text.encode()
        notices += [f"{path}: {line}" for line in (*said, *moved)]
    return read, changes, notices


def not_filed(home: Home, charter: Charter, seat: Seat, tip: str) -> list[str]:
    """A sentence for each file of the tree that was edited here and is not part of the experiment."""
    said = []
    for entry in git.list_tree(home.record, tip):
        path = Path(seat.worktree) / entry.path
        if rules.matches_any(entry.path, charter.editable) or not path.is_file() or path.is_symlink():
            continue
        if path.stat().st_size > MAX_FILE_BYTES:
            continue
        data = path.read_bytes()
        if git.blob_sha(data) != entry.sha:
            said.append(f"{entry.path} was edited and is not part of the experiment: only editable paths are")
    return said


def paths(root: Path, globs: tuple[str, ...]) -> set[str]:
    """Paths under `root` that match, found without following a link."""
    found = set()
    for folder, names, leaves in os.walk(root):
        names[:] = [n for n in names if n not in (".git", "__pycache__") and not (Path(folder) / n).is_symlink()]
        for leaf in leaves:
            path = (Path(folder) / leaf).relative_to(root).as_posix()
            if rules.matches_any(path, globs):
                found.add(path)
    return found


def _read_plain(root: Path, path: str) -> bytes:
    """A regular file's content, never through a symbolic link, never larger than the cap."""
    try:
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Refused(
            *_one("symlink", path, f"{path} cannot be read as a plain file ({error.strerror}); write it as one")
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise Refused(*_one("mode", path, f"{path} is not a regular file; write it as one"))
        if facts.st_size > MAX_FILE_BYTES:
            raise Refused(
                *_one("size", path, f"{path} is larger than {MAX_FILE_BYTES // 1000} kB; keep data out of the code")
            )
        return file.read()


def one_line(violation: Violation) -> Violation:
    """Paths are the agent's own words: no newline, no control character of theirs reaches a terminal."""
    path = None if violation.path is None else clean(violation.path)
    return replace(violation, path=path, message=clean(violation.message))


def clean(text: str) -> str:
    return files.printable(" ".join(text.split()), 500)


def _one(rule: str, path: str, message: str) -> tuple[str, list[Violation]]:
    found = one_line(Violation(rule, path, None, message))
    return f"refused: {found.message}", [found]


def give_back(
    home: Home, seat: Seat, filed: Contract, read: dict[str, bytes | None], texts: dict[str, bytes | None]
) -> None:
    """The seat's branch moves to the commit that was filed, and its files carry the comments that were put back, where
    nobody has edited them since. The record is the truth: a failure here costs a view of it and no result."""
    branch = f"refs/heads/{seat_branch(seat.program, seat.name)}"
    root = Path(seat.worktree)
    try:
        git.fetch(home.hub, home.record, [f"+refs/org/experiments/{filed.experiment}:{branch}"])
        failpoint("gate.given")
        for path, data in texts.items():
            if data is not None and data != read[path] and _read_plain(root, path) == read[path]:
                files.replace(root / path, data)
        worktrees.fill_index(root)
    except (OrgError, OSError) as error:
        row = {"t": files.utc_now(), "event": "give-back", "seat": seat.name, "text": str(error)}
        files.append_line(home.events, json.dumps(row))
