"""Taking a seat's worktree away, and what speaks against it: nothing unfiled, unpinned, staged or alive goes with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from org import files
from org.home import Home
from org.records import Seat
from org.team import worktree
from org.words import counted
from org.world import git, process, worktrees
from org.world.gitcall import GitError

NAMED = 4  # files and processes that a reason names


def reasons(home: Home, seat: Seat) -> list[str]:
    """What would be lost or disturbed if the seat's worktree went away now; nothing: it may. Changes no file in it."""
    folder = home.worktree(seat.name)
    if not folder.is_dir():
        return []
    entry = worktrees.entry_of(home.hub, folder)
    loose = worktree.unfiled(home, seat.name, seat.branch, seat.program)
    found = [f"{counted(len(loose), 'file')} that no commit has ({_some(loose)})"] if loose else []
    if entry is not None:
        found += _staged(home, seat, entry)
        count = len(_unpinned(home, seat, entry))
        found += [f"{counted(count, 'commit')} that no experiment pins"] if count else []
        found += [f"a {verb} under way" for verb, mark in MIDDLES.items() if (entry / mark).exists()]
    alive = process.inside(folder)
    if alive:
        found.append(f"{counted(len(alive), 'process', 'processes')} in it ({_some([str(pid) for pid in alive])})")
    return found


MIDDLES = {
    "merge": "MERGE_HEAD",
    "rebase": "rebase-merge",
    "patch": "rebase-apply",
    "pick": "CHERRY_PICK_HEAD",
    "revert": "REVERT_HEAD",
    "bisection": "BISECT_LOG",
}


def aside(home: Home, seat: Seat) -> str | None:
    """Bring what only the worktree has to safety, and say where: its files to comms/seats/<seat>/saved-…, its commits to refs
    of the hub. None when there was nothing."""
    said = []
    folder = home.worktree(seat.name)
    entry = worktrees.entry_of(home.hub, folder)
    if entry is not None and (lost := _unpinned(home, seat, entry)):
        head = _head(home, entry)
        if head is not None and not re.match(r"ref: ", _text(entry / "HEAD")):
            git.update_ref(home.hub, f"refs/org/saved/{seat.name}/head-{head[:12]}", head)
        said.append(f"{counted(len(lost), 'commit')} stay in {home.hub}")
    loose = worktree.unfiled(home, seat.name, seat.branch, seat.program)
    staged = bool(entry is not None and _staged(home, seat, entry))
    if loose or staged:
        target = worktree.move_aside(home, seat.name)
        if entry is not None and staged:
            files.replace(target / "staged.index", (entry / "index").read_bytes())
        said.insert(
            0, f"{counted(len(loose), 'file')} that no commit has and the rest of the worktree went to {target}"
        )
    return "; ".join(said) or None


def _staged(home: Home, seat: Seat, entry: Path) -> list[str]:
    """Content in the index that neither a commit nor the worktree has."""
    try:
        index = worktrees.listed(home.record, entry / "index") if (entry / "index").is_file() else {}
    except GitError:
        return ["an index that cannot be read"]
    folder, known = home.worktree(seat.name), set()
    for ref in (f"refs/org/seats/{seat.name}", f"refs/heads/program/{seat.program}/main"):
        if commit := git.resolve(home.record, ref):
            known |= {(found.path, found.sha) for found in git.list_tree(home.record, commit)}
    staged = [p for p, sha in index.items() if (p, sha) not in known and git.blob_sha(_bytes(folder / p)) != sha]
    return [f"{counted(len(staged), 'staged file')} that no commit has ({_some(staged)})"] if staged else []


def _unpinned(home: Home, seat: Seat, entry: Path) -> list[str]:
    """Commits of the seat's branch and of the worktree's HEAD that are in no experiment and no head of a program."""
    heads = {git.resolve(home.hub, f"refs/heads/{seat.branch}"), _head(home, entry)} - {None}
    for number, head in enumerate(sorted(str(head) for head in heads)):
        name = f"refs/org/look/{seat.name}/{number}"
        git.update_ref(home.hub, name, head)
        git.fetch(home.record, home.hub, [f"+{name}:{name}"])
        git.delete_ref(home.hub, name)
    looked = git.list_refs(home.record, f"refs/org/look/{seat.name}")
    try:
        return git.only_in(home.record, list(looked.values()), ("refs/heads", "refs/org/experiments"))
    finally:
        for name in looked:
            git.delete_ref(home.record, name)


def _head(home: Home, entry: Path) -> str | None:
    """The commit that is checked out; None before the first."""
    text = _text(entry / "HEAD")
    name = text.removeprefix("ref: ")
    return (
        git.resolve(home.hub, name)
        if re.fullmatch(r"[0-9a-f]{40}|refs/heads/[^\s~^:?*\[\\-][^\s~^:?*\[\\]*", name)
        else None
    )


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes()[:4096]).strip()
    except OSError:
        return ""


def _bytes(path: Path) -> bytes:
    try:
        return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
    except OSError:
        return b""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(files.printable(name, 60).replace("\n", "?") for name in names[:NAMED]) + more
