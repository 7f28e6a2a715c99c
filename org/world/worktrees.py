"""Worktrees of the hub: added, listed, removed, and mended after a kill. The only one that changes its entries.

Files of a worktree are none of its business: nothing is checked out here (filters and hooks of an agent's choosing
would run); callers lay them in with `git.export`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from org.world import git, gitcall
from org.world.gitcall import GitError, rev


@dataclass(frozen=True)
class Worktree:
    """A worktree the hub knows; `branch` is None when HEAD is detached, `head` None before the first commit."""

    path: Path
    branch: str | None
    head: str | None


def add(hub: Path, path: Path, branch: str, start: str) -> None:
    """A worktree of `hub` at `path` on `branch`, which is made at `start` when absent. No file is checked out: lay them
    in with `git.export` from a repository of ours, then `fill_index`.

    Adding what is already there is fine. Mends what a kill left behind: an entry with an empty commondir (it breaks
    every worktree command in the hub), an entry whose folder is gone, a folder that holds nothing but a dangling .git.
    """
    path = _place(path)
    with gitcall.held(hub):  # 16 at once without it: 6 of 192 failed, each leaving an orphan branch
        _mend(hub, path, branch)
        known = {tree.path: tree for tree in _worktrees(hub)}
        if path in known:
            if known[path].branch != branch:
                raise GitError(f"{path} is a worktree of branch {known[path].branch}, not {branch}; remove it first")
            return
        if path.is_dir() and any(path.iterdir()):
            raise GitError(f"{path} has files but is no worktree of {hub}; move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        make = ["worktree", "add", "--quiet", "--no-checkout"]
        if git.ref_value(hub, f"refs/heads/{rev(branch)}") is None:
            gitcall.output(hub, *make, "--no-track", "-b", branch, "--", str(path), rev(start))
        else:
            gitcall.output(hub, *make, "--", str(path), branch)


def remove(hub: Path, path: Path) -> None:
    """Delete the worktree at `path` with everything in it, and the hub's entry; its branch stays. Missing is fine."""
    path = _place(path)
    with gitcall.held(hub):
        _mend(hub, path, None)
        if path in {tree.path for tree in _worktrees(hub)}:
            gitcall.output(hub, "worktree", "remove", "--force", "--force", "--", str(path))
        elif path.exists():
            raise GitError(f"{path} is no worktree of {hub}; nothing was removed")


def list_worktrees(hub: Path) -> list[Worktree]:
    """The worktrees of `hub`, those whose folder is missing left out."""
    with gitcall.held(hub):
        _mend(hub, None, None)
        return [tree for tree in _worktrees(hub) if tree.path.exists()]


def fill_index(worktree: Path) -> None:
    """Fill the worktree's index from HEAD, touching no file: status is clean once the files of HEAD are laid in.
    The .git file is named outright: where it is missing git would search upwards and write the person's own index."""
    place = _place(worktree)
    gitcall.run([f"--git-dir={place / '.git'}", f"--work-tree={place}", "read-tree", "HEAD"], cwd=place)


def _worktrees(hub: Path) -> list[Worktree]:
    found = []
    for block in os.fsdecode(gitcall.output(hub, "worktree", "list", "--porcelain", "-z")).split("\0\0"):
        fields = dict((line + " ").split(" ", 1) for line in block.split("\0") if line)
        if "worktree" not in fields or "bare" in fields:
            continue
        value = {key: text.removesuffix(" ") for key, text in fields.items()}
        branch = value["branch"].removeprefix("refs/heads/") if "branch" in value else None
        head = value.get("HEAD", git.ABSENT)
        found.append(Worktree(Path(value["worktree"]), branch, None if head == git.ABSENT else head))
    return found


def _mend(hub: Path, path: Path | None, branch: str | None) -> None:
    """Move broken and stale entries out of `worktrees/`. Moved, not deleted: an index and a reflog may be worth a look."""
    entries = hub / "worktrees"
    for entry in sorted(entries.iterdir()) if entries.is_dir() else []:
        if _is_half_made(entry):
            _set_aside(hub, entry)
            continue
        place = Path(_text(entry / "gitdir"))
        is_ours = (path is not None and place == path / ".git") or (
            branch is not None and _text(entry / "HEAD") == f"ref: refs/heads/{branch}"
        )
        if is_ours and not place.exists():
            _set_aside(hub, entry)
    if path is not None and path.is_dir() and [child.name for child in path.iterdir()] == [".git"]:
        link = path / ".git"
        target = _text(link).removeprefix("gitdir: ")
        if link.is_file() and not Path(target, "commondir").exists():
            link.unlink()
            path.rmdir()


def _place(path: Path) -> Path:
    """As git writes it: absolute, with the symlinks on the way resolved."""
    return path.absolute().parent.resolve() / path.name


def _is_half_made(entry: Path) -> bool:
    """git writes gitdir, HEAD and commondir one by one; killed in between, the empty one stops every later command."""
    return entry.is_dir() and not all(_text(entry / name) for name in ("commondir", "gitdir", "HEAD"))


def _set_aside(hub: Path, entry: Path) -> None:
    aside = hub / "org-broken"
    aside.mkdir(exist_ok=True)
    number = sum(1 for _ in aside.iterdir())
    while (aside / f"{entry.name}-{number}").exists():
        number += 1
    entry.rename(aside / f"{entry.name}-{number}")


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes()).strip().strip("\0")
    except OSError:  # missing, or a folder where a file should be: both mean "not written"
        return ""
