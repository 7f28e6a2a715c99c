"""The folder a seat works in: made, mended and laid out without a checkout, for one seat or for all of a launch.

Files come from the record, never by git in a folder that an agent can write. Work that is not filed is moved aside,
never overwritten. Every function may be killed between two lines and called again. Callers hold the
seats' own locks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from org import charter as charters
from org import files, times
from org.errors import BadInput, OrgError
from org.evidence.rules import matches_any
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home, seat_branch
from org.lab import ledger
from org.records import Charter
from org.world import git, worktrees
from org.world.gitcall import GitError

Say = Callable[[str], None]
Tree = Mapping[git.Entry, bytes]


@dataclass(frozen=True)
class Place:
    """Where a seat is to work. `is_new`: nothing is known of it yet, so its files are laid in whatever is there."""

    name: str
    program: str
    is_new: bool = False

    @property
    def branch(self) -> str:
        return seat_branch(self.program, self.name)


@dataclass(frozen=True)
class Move:
    """A worktree goes from one branch to another (or stays), which is put at `commit`. `keep_ref`: commits that the branch
    would lose by it are pinned first."""

    name: str
    old: str
    branch: str
    commit: str
    keep_ref: bool = False


# --- made and mended ---------------------------------------------------------------------------------------------


def ensure(home: Home, places: Sequence[Place], heads: Mapping[str, str], say: Say = lambda line: None) -> None:
    """Every worktree exists, on its branch, with files in it. One that is whole is not touched, and neither is one that
    its agent put on a branch of its own while there is work in it. heads: program -> commit."""
    there = worktrees.branches(home.hub)
    cut_off = [p for p in places if not p.is_new and _real(home.worktree(p.name)) not in there and _adopt(home, p, say)]
    there = worktrees.branches(home.hub) if cut_off else there
    refs = git.list_refs(home.hub, "refs/heads/program")
    at = {place.name: there.get(_real(home.worktree(place.name))) for place in places}
    for place in places:
        if at[place.name] == place.branch and f"refs/heads/{place.branch}" not in refs and not place.is_new:
            _bring_back_branch(home, place, heads[place.program], say)
    for place in places:
        if at[place.name] == place.branch and not place.is_new:
            _complete(home, place, heads, say, with_files=place not in cut_off)
    todo = [p for p in places if (at[p.name] != p.branch or p.is_new) and not _is_elsewhere(home, p, at[p.name], say)]
    if not todo:
        return
    tips = _tips(home, {p.name: p.branch for p in todo if f"refs/heads/{p.branch}" in refs})
    aims = {p.name: tips.get(p.name) or heads[p.program] for p in todo}
    lost = [p for p in todo if at[p.name] is None]
    for place in lost:
        _move_folder_aside(home, place.name, say)
        if not place.is_new:
            say(f"{place.name}: its worktree was gone and is back, at {aims[place.name][:7]} of {place.branch}")
    worktrees.add_all(home.hub, [(home.worktree(p.name), p.branch, aims[p.name]) for p in lost])
    failpoint("seats.added")
    # a kill in the middle of a move leaves HEAD on another branch than seat.json says: seat.json is right
    lay(home, [Move(p.name, at[p.name] or p.branch, p.branch, aims[p.name]) for p in todo], say)


def _adopt(home: Home, place: Place, say: Say) -> bool:
    """A folder with files that the hub no longer knows becomes its worktree again, as it lies there."""
    folder = home.worktree(place.name)
    if folder.is_symlink() or not folder.is_dir() or not any(path.name != ".git" for path in folder.iterdir()):
        return False
    try:
        worktrees.adopt(home.hub, folder, place.branch)
    except GitError:
        return False  # a repository of somebody's is in there: it is moved aside
    say(f"{place.name}: its worktree was cut off from {home.hub.name} and is joined to it again, its files untouched")
    return True


def _complete(home: Home, place: Place, heads: Mapping[str, str], say: Say, with_files: bool) -> None:
    """A worktree without an index was left half-way by a kill: the index is the last that is written. With `with_files`
    files of its commit that are missing, or begun, are laid in; no other is touched."""
    folder = home.worktree(place.name)
    entry = worktrees.entry_of(home.hub, folder)
    if entry is None or (entry / "index").exists():
        return
    commit = _base(home, place, heads)
    missing = {
        found: data
        for found, data in git.contents(home.record, commit).items()
        if _is_missing(folder, found.path, data)
    }
    if with_files:
        kept = home.seat(place.name) / f"saved-{times.stamp()}"
        git.lay_out(folder, missing, aside=kept)
        for found, data in missing.items():
            if _is_begun(kept / found.path, data):
                (kept / found.path).unlink()  # the whole file lies in the worktree
        if _holds_work(kept, missing, {}):
            say(f"{place.name}: what was not filed is in {kept}")
        say(f"{place.name}: its worktree was half laid out; {len(missing)} files and its index were laid in")
    files.replace(entry / "index", worktrees.index_of(home.record, commit))


def _base(home: Home, place: Place, heads: Mapping[str, str]) -> str:
    """The commit its branch is at, in the record too; the program's head where it has no branch."""
    is_there = git.resolve(home.hub, f"refs/heads/{place.branch}") is not None
    return _tips(home, {place.name: place.branch})[place.name] if is_there else heads[place.program]


def known_program(home: Home, name: str) -> str | None:
    """The program that a worktree of the seat is on by its branch, if it was laid out whole; its seat.json may be lost."""
    found = re.fullmatch(rf"program/([^/]+)/{name}", worktrees.branches(home.hub).get(_real(home.worktree(name)), ""))
    entry = worktrees.entry_of(home.hub, home.worktree(name)) if found else None
    return found[1] if found and entry and (entry / "index").exists() and ID_PATTERN.fullmatch(found[1]) else None


def _is_elsewhere(home: Home, place: Place, at: str | None, say: Say) -> bool:
    """Whether its agent switched the worktree to a branch of its own, or to none, and left work there that no commit has."""
    if at is None or place.is_new or at == place.branch or re.fullmatch(rf"program/[^/]+/{place.name}", at):
        return False
    if not unfiled(home, place.name, place.branch, place.program):
        return False
    where = f"on branch {files.printable(at, 60)}" if at else "on no branch"
    say(f"{place.name}: its worktree is {where} with work in it, and was left so; `git switch {place.branch}` there")
    return True


def _bring_back_branch(home: Home, place: Place, head: str, say: Say) -> None:
    """A branch that somebody deleted is put back where the worktree's own log last had it, or at the seat's last experiment
    on that program where that is later, else at the program's head. The worktree's files are not touched."""
    filed = [
        c.commit for c in ledger.read(home).experiments.values() if (c.seat, c.program) == (place.name, place.program)
    ]
    logged, last = _logged(home, place.name), git.resolve(home.record, filed[-1]) if filed else None
    if last and git.resolve(home.hub, last) is None:
        git.update_ref(home.record, f"refs/org/lay/{place.name}", last)
        git.fetch(home.hub, home.record, [f"+refs/org/lay/{place.name}:refs/org/lay/{place.name}"])
    tip = logged or last or head
    if logged and last and not git.is_ancestor(home.hub, last, logged):
        tip = last
        if not git.is_ancestor(home.hub, logged, last):
            git.update_ref(home.hub, f"refs/org/saved/{place.name}/{times.stamp()}", logged)
    git.update_ref(home.hub, f"refs/heads/{place.branch}", tip)
    say(f"{place.name}: its branch {place.branch} was gone and is back, at {tip[:7]}")


def _logged(home: Home, name: str) -> str | None:
    """The commit that HEAD of the worktree last moved to, when the hub still has it."""
    entry = worktrees.entry_of(home.hub, home.worktree(name))
    try:
        lines = (entry / "logs" / "HEAD").read_bytes()[-65_536:].splitlines() if entry else []
    except OSError:
        return None
    for line in reversed(lines):
        found = re.match(rb"[0-9a-f]{40} ([0-9a-f]{40}) ", line)
        if found and found[1] != b"0" * 40:
            return git.resolve(home.hub, found[1].decode())
    return None


def _move_folder_aside(home: Home, name: str, say: Say) -> None:
    """A folder with files that the hub knows nothing of is moved, not deleted: somebody may have worked there."""
    folder = home.worktree(name)
    if folder.is_dir() and [p.name for p in folder.iterdir()] not in ([], [".git"]):
        target = home.seat(name) / f"saved-{times.stamp()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)
        say(f"{name}: what was not filed is in {target}")


# --- laid out ----------------------------------------------------------------------------------------------------


def lay(home: Home, moves: Sequence[Move], say: Say = lambda line: None) -> None:
    """Each worktree on its branch, which is at its commit, with that commit's files in it. What is in no commit and was in
    the way is in comms/seats/<seat>/saved-…: moved there, since somebody may be writing it at this moment."""
    charter = charters.load(home)
    read = functools.cache(lambda commit: git.contents(home.record, commit))
    index = functools.cache(lambda commit: worktrees.index_of(home.record, commit))
    refs = git.list_refs(home.hub, "refs/heads/program")
    tips = _tips(home, {m.name: m.old for m in moves if refs.get(f"refs/heads/{m.old}") not in (None, m.commit)})
    old = {m.name: read(tips.get(m.name, m.commit)) if f"refs/heads/{m.old}" in refs else {} for m in moves}
    _set_branches(home, moves, refs)
    for move in moves:
        folder = home.worktree(move.name)
        entry = worktrees.entry_of(home.hub, folder)
        if entry is None:
            raise OrgError(f"{folder} is no worktree of {home.hub}; move it away and run the command again")
        files.replace(entry / "HEAD", f"ref: refs/heads/{move.branch}\n")
        failpoint("seats.head")
        kept = home.seat(move.name) / f"saved-{times.stamp()}"
        for path in (_paths(old[move.name]) | _editable(folder, charter)) - _paths(read(move.commit)):
            _move_out(folder, path, kept)
        failpoint("seats.saved")
        git.lay_out(folder, read(move.commit), aside=kept)
        files.replace(entry / "index", index(move.commit))
        if _holds_work(kept, old[move.name], read(move.commit)):
            say(f"{move.name}: what was not filed is in {kept}")


def _set_branches(home: Home, moves: Sequence[Move], refs: Mapping[str, str]) -> None:
    """The hub's branches at the moves' commits, fetched from the record all at once."""
    ahead = [m for m in moves if refs.get(f"refs/heads/{m.branch}") != m.commit]
    for move in ahead:
        before = refs.get(f"refs/heads/{move.branch}")
        if move.keep_ref and before and not git.is_ancestor(home.hub, before, move.commit):
            git.update_ref(home.hub, f"refs/org/saved/{move.name}/{times.stamp()}", before)
    git.update_refs(home.record, {f"refs/org/lay/{m.name}": m.commit for m in ahead})
    if ahead:
        git.fetch(home.hub, home.record, [f"+refs/org/lay/{m.name}:refs/heads/{m.branch}" for m in ahead])


def _tips(home: Home, branches: Mapping[str, str]) -> dict[str, str]:
    """Seat -> the commit at the tip of its branch of the hub, which is there; its objects fetched into the record."""
    if not branches:
        return {}
    git.fetch(
        home.record, home.hub, [f"+refs/heads/{branch}:refs/org/seats/{name}" for name, branch in branches.items()]
    )
    there = git.list_refs(home.record, "refs/org/seats")
    return {name: there[f"refs/org/seats/{name}"] for name in branches}


def _paths(tree: Tree) -> set[str]:
    return {entry.path for entry in tree}


# --- work that no commit has -------------------------------------------------------------------------------------


def unfiled(home: Home, name: str, branch: str, program: str) -> list[str]:
    """Paths of the worktree, notes, scripts and checkpoints too, that neither the seat's branch nor its program's head holds
    as they are. Bytecode is no work."""
    folder = home.worktree(name)
    if not folder.is_dir():
        return []
    refs = git.list_refs(home.hub, "refs/heads/program")
    commits = set(_tips(home, {name: branch} if f"refs/heads/{branch}" in refs else {}).values())
    commits |= {head} if (head := git.resolve(home.record, f"refs/heads/program/{program}/main")) else set()
    known = [{entry.path: data for entry, data in git.contents(home.record, commit).items()} for commit in commits]
    return sorted(p for p in leaves(folder) if not any(_holds(folder, p, tree.get(p)) for tree in known))


def move_aside(home: Home, name: str) -> Path:
    """Move everything in the worktree to comms/seats/<seat>/saved-…, but for its .git file, and return that."""
    folder, target = home.worktree(name), home.seat(name) / f"saved-{times.stamp()}"
    target.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name != ".git" or path.is_dir():
            shutil.move(path, target / path.name)
    return target


def leaves(folder: Path) -> Iterable[str]:
    """Every path of the worktree that is no plain folder, bytecode and its .git file left out."""
    for place, names, found in os.walk(folder):
        links = [name for name in names if (Path(place) / name).is_symlink()]
        names[:] = [name for name in names if name != "__pycache__" and name not in links]
        for leaf in (*found, *links):
            path = (Path(place) / leaf).relative_to(folder).as_posix()
            if path != ".git":
                yield path


def _holds(folder: Path, path: str, data: bytes | None) -> bool:
    """Whether the path holds exactly `data`, a link's being where it leads."""
    if data is None:
        return False
    place = folder / path
    if place.is_symlink():
        return os.fsencode(place.readlink()) == data
    return place.is_file() and place.stat().st_size == len(data) and place.read_bytes() == data


def _holds_work(kept: Path, old: Tree, new: Tree) -> bool:
    """Whether anything among what was moved out is in no commit; the rest of it is removed."""
    known = [{entry.path: data for entry, data in tree.items() if entry.type == "blob"} for tree in (old, new)]
    for path in list(leaves(kept)):
        if any(_holds(kept, path, tree.get(path)) for tree in known):
            (kept / path).unlink()
    for place, _, _ in os.walk(kept, topdown=False):
        with contextlib.suppress(OSError):
            Path(place).rmdir()  # those that are empty now
    return kept.exists()


def _editable(folder: Path, charter: Charter) -> set[str]:
    """Paths of the worktree that match the charter's editable globs, links not followed."""
    found = set()
    for place, names, there in os.walk(folder):
        names[:] = [n for n in names if n not in (".git", "__pycache__") and not (Path(place) / n).is_symlink()]
        for leaf in there:
            path = (Path(place) / leaf).relative_to(folder).as_posix()
            if matches_any(path, charter.editable):
                found.add(path)
    return found


def _is_missing(root: Path, path: str, data: bytes) -> bool:
    """Whether nothing lies at the path, or the beginning of `data` and no more. Where its folder is a file or a link of the
    agent's, nothing is to be laid in."""
    for parent in reversed((root / path).relative_to(root).parents[:-1]):
        if (root / parent).is_symlink() or not (root / parent).is_dir():
            return not os.path.lexists(root / parent)
    return not os.path.lexists(root / path) or _is_begun(root / path, data)


def _is_begun(place: Path, data: bytes) -> bool:
    """Whether a plain file lies there that holds the beginning of `data` and no more."""
    try:
        facts = place.lstat()
        is_shorter = stat.S_ISREG(facts.st_mode) and facts.st_size < len(data)
        return is_shorter and data.startswith(files.read_plain(place, len(data)))
    except (OSError, BadInput):
        return False


def _move_out(root: Path, path: str, to: Path) -> None:
    parts = Path(path).parts
    if any((root / Path(*parts[:i])).is_symlink() for i in range(1, len(parts))):
        return  # a linked folder of the agent's: its content is not the worktree's
    if not (root / path).is_dir() or (root / path).is_symlink():
        files.move(root / path, to / path)


def _real(path: Path) -> Path:
    """As git writes it: absolute, with the symlinks on the way resolved."""
    return path.absolute().parent.resolve() / path.name
