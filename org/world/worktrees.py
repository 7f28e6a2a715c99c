"""Worktrees of the hub: added, listed, removed, and mended after a kill. The only one that changes its entries.

Files of a worktree are none of its business: nothing is checked out here (filters and hooks of an agent's choosing
would run); callers lay them in with `git.export`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from org import files
from org.failpoint import failpoint
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
    add_all(hub, [(path, branch, start)])


def add_all(hub: Path, wanted: Sequence[tuple[Path, str, str]]) -> None:
    """`add` for many (path, branch, start), one after another under one lock; one process each, and two for all."""
    with gitcall.held(hub):  # 16 at once without it: 6 of 192 failed, each leaving an orphan branch
        places = [(_place(path), branch, start) for path, branch, start in wanted]
        _mend(hub, {path for path, _, _ in places}, {branch for _, branch, _ in places})
        known = {tree.path: tree for tree in _worktrees(hub)}
        there = git.list_refs(hub, "refs/heads")
        for path, branch, start in places:
            if path in known:
                if known[path].branch != branch:
                    raise GitError(
                        f"{path} is a worktree of branch {known[path].branch}, not {branch}; remove it first"
                    )
                continue
            if path.is_dir() and any(path.iterdir()):
                raise GitError(f"{path} has files but is no worktree of {hub}; move it away")
            path.parent.mkdir(parents=True, exist_ok=True)
            make = ["worktree", "add", "--quiet", "--no-checkout"]
            if f"refs/heads/{rev(branch)}" not in there:
                gitcall.output(hub, *make, "--no-track", "-b", branch, "--", str(path), rev(start))
            else:
                gitcall.output(hub, *make, "--", str(path), branch)
            failpoint("worktrees.added")


def adopt(hub: Path, path: Path, branch: str) -> None:
    """The folder at `path` is a worktree of `hub` again, on `branch` where nothing says another: what is missing or torn of
    the hub's entry and of the .git file is written, nothing else is touched. For a folder with work in it whose entry was
    lost or half written; its index may be missing afterwards. GitError where a repository of its own is in there."""
    path = _place(path)
    link = path / ".git"
    with gitcall.held(hub):
        if link.is_dir() or link.is_symlink():
            raise GitError(f"{link} is no file; a repository of its own is in the way")
        entries = hub.absolute().parent.resolve() / hub.name / "worktrees"
        entry = entry_of(hub, path, is_whole=False) or Path(_text(link).removeprefix("gitdir: "))
        if entry.name in ("", "..") or entry.parent != entries or entry.is_symlink():
            entry = next(e for n in range(10_000) if not (e := entries / f"{path.name}{n or ''}").exists())
        entry.mkdir(parents=True, exist_ok=True)
        for name, text in {"HEAD": f"ref: refs/heads/{branch}", "gitdir": str(link), "commondir": "../.."}.items():
            if not _text(entry / name):
                files.replace(entry / name, text + "\n")
        failpoint("worktrees.adopted")
        if _text(link) != f"gitdir: {entry}":
            files.replace(link, f"gitdir: {entry}\n")


def remove(hub: Path, path: Path) -> None:
    """Delete the worktree at `path` with everything in it, and the hub's entry; its branch stays. Missing is fine."""
    path = _place(path)
    with gitcall.held(hub):
        _mend(hub, {path}, set())
        if path in {tree.path for tree in _worktrees(hub)}:
            gitcall.output(hub, "worktree", "remove", "--force", "--force", "--", str(path))
        elif path.exists():
            raise GitError(f"{path} is no worktree of {hub}; nothing was removed")


def list_worktrees(hub: Path) -> list[Worktree]:
    """The worktrees of `hub`, those whose folder is missing left out."""
    with gitcall.held(hub):
        _mend(hub, set(), set())
        return [tree for tree in _worktrees(hub) if tree.path.exists()]


def branches(hub: Path) -> dict[Path, str]:
    """Folder -> the branch its HEAD names, "" where that is none, of every worktree that is there; read from the hub's own
    entries, without a process and without mending."""
    found = {}
    entries = hub / "worktrees"
    for entry in sorted(entries.iterdir()) if entries.is_dir() else []:
        link = Path(_text(entry / "gitdir"))
        if not _is_half_made(entry) and link.name == ".git" and _text(link).startswith("gitdir: "):
            head = _text(entry / "HEAD")
            found[link.parent] = head.removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else ""
    return found


def entry_of(hub: Path, path: Path, is_whole: bool = True) -> Path | None:
    """The hub's own folder for the worktree at `path`: what the worktree's .git file says could be an agent's. Without
    `is_whole` one that is half written too."""
    place = _place(path) / ".git"
    entries = hub / "worktrees"
    for entry in sorted(entries.iterdir()) if entries.is_dir() else []:
        if Path(_text(entry / "gitdir")) == place and not (is_whole and _is_half_made(entry)):
            return entry
    return None


def index_of(git_dir: Path, commit: str) -> bytes:
    """An index that holds the files of `commit`, made in a repository of ours: the same bytes serve every worktree."""
    with tempfile.TemporaryDirectory(prefix="org-index-") as folder:
        index = Path(folder) / "index"
        gitcall.output(git_dir, "read-tree", rev(commit), env={"GIT_INDEX_FILE": str(index)})
        return index.read_bytes()


def listed(git_dir: Path, index: Path) -> dict[str, str]:
    """path -> sha of what an index file of any repository holds, read in one of ours."""
    out = gitcall.output(git_dir, "ls-files", "--stage", "-z", env={"GIT_INDEX_FILE": str(index.absolute())})
    rows = [line.split(b"\t", 1) for line in out.split(b"\0")[:-1]]
    return {os.fsdecode(name): head.decode().split()[1] for head, name in rows}


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


def _mend(hub: Path, paths: AbstractSet[Path], branches: AbstractSet[str]) -> None:
    """Move broken and stale entries out of `worktrees/`. Moved, not deleted: an index and a reflog may be worth a look."""
    entries = hub / "worktrees"
    links, heads = {path / ".git" for path in paths}, {f"ref: refs/heads/{branch}" for branch in branches}
    for entry in sorted(entries.iterdir()) if entries.is_dir() else []:
        if _is_half_made(entry):
            _set_aside(hub, entry)
            continue
        place = Path(_text(entry / "gitdir"))
        if (place in links or _text(entry / "HEAD") in heads) and not place.exists():
            _set_aside(hub, entry)
    for path in paths:
        if path.is_dir() and [child.name for child in path.iterdir()] == [".git"]:
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
