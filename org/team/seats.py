"""Seats: who they are and their worktrees, made and moved without a checkout.

Files come from the record, never by git in a folder that an agent can write. Work that is not filed is copied aside
before anything of it is overwritten. Every function may be killed between two lines and called again.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from org import charter as charters
from org import files
from org.errors import BadInput, OrgError, did_you_mean
from org.evidence.rules import matches_any
from org.failpoint import failpoint
from org.home import RESERVED_SEATS, Home, check_id, seat_branch
from org.lab import record
from org.records import Charter, Seat
from org.team import mail, roster
from org.team.roster import PERSON
from org.world import git, worktrees

MAX_KEPT_BYTES = 5_000_000  # of one file copied aside


# --- making and moving -------------------------------------------------------------------------------------------


def load(home: Home, name: str) -> Seat | None:
    """The seat, or None when there is none of that name."""
    row = files.read_json(home.seat_file(name))
    return Seat.from_dict(row) if isinstance(row, dict) else None


def require(home: Home, name: str) -> Seat:
    """The seat; BadInput naming near ones when there is none."""
    seat = load(home, name)
    if seat is None:
        known = list(mail.seats(home))
        raise BadInput(f"there is no seat '{name:.40}'{did_you_mean(name, known)}; `org seat NAME` makes one")
    return seat


def all_seats(home: Home) -> list[Seat]:
    """Every seat by name, j2 before j10; retired ones too."""
    return [seat for name in mail.seats(home) if (seat := load(home, name)) is not None]


def present(home: Home) -> list[Seat]:
    """The seats that are here now, by name: see `roster.members`."""
    return [seat for name in roster.members(home) if (seat := load(home, name)) is not None]


def create(
    home: Home,
    name: str,
    role: str = PERSON,
    backend: str = PERSON,
    program: str | None = None,
    device: str | None = None,
) -> Seat:
    """The seat with its worktree, made or mended; one that exists keeps its program and its files, and takes the role,
    backend and device given. Raises BadInput for a name that may not be used."""
    check_id(name, "seat")
    if name in RESERVED_SEATS:
        raise BadInput(f"no seat may be called '{name}'; the org uses that name itself")
    with files.locked(home.seat(name) / "lock"):
        old = load(home, name)
        slug = old.program if old else check_id(program or "main", "program")
        branch = seat_branch(slug, name)
        record.ensure_program(home, slug)
        _mend_worktree(home, name, branch, is_new=old is None)
        failpoint("seats.worktree")
        seat = Seat(
            name=name,
            role=role,
            backend=backend,
            program=slug,
            branch=branch,
            worktree=str(home.worktree(name)),
            device=device,
            created=old.created if old else files.utc_now(),
            session=old.session if old and old.backend == backend else "",
        )
        if seat != old:
            files.replace_json(home.seat_file(name), seat.to_dict())
    return seat


def move(home: Home, seat: Seat, program: str) -> Seat:
    """The seat works on `program` from here on: its worktree holds the program's measured head, on the seat's branch there.
    Its branch of the program before stays. Files that were not filed are first copied to comms/seats/<seat>/saved-…"""
    check_id(program, "program")
    with files.locked(home.seat(seat.name) / "lock"):
        seat = require(home, seat.name)
        if seat.program != program:
            head = record.ensure_program(home, program)
            branch = seat_branch(program, seat.name)
            _lay(home, seat, branch, head, keep_ref=True)
            failpoint("seats.moved")
            seat = seat.moved(program, branch)
            files.replace_json(home.seat_file(seat.name), seat.to_dict())
    return seat


def sync(home: Home, seat: Seat) -> Seat:
    """Bring the worktree's files and the seat's branch to the program's measured head; what was not filed is copied aside
    first, as in `move`."""
    with files.locked(home.seat(seat.name) / "lock"):
        seat = require(home, seat.name)
        head = record.ensure_program(home, seat.program)
        _lay(home, seat, seat.branch, head, keep_ref=True)
    return seat


def set_aside(home: Home, seat: Seat) -> Path | None:
    """Move everything in the worktree to comms/seats/<seat>/saved-… and return that, if any of it is in no commit of the
    seat's branch or its program's head: notes, scripts and checkpoints too. Bytecode is no work."""
    worktree = Path(seat.worktree)
    with files.locked(home.seat(seat.name) / "lock"):
        commits = (_tip(home, seat.name, seat.branch), record.program_head(home, seat.program)[0])
        known = [_blobs(home, commit) for commit in commits if commit]
        if all(any(_holds(worktree, path, tree.get(path)) for tree in known) for path in _leaves(worktree)):
            return None
        target = home.seat(seat.name) / f"saved-{_stamp()}"
        target.mkdir(parents=True)
        for path in worktree.iterdir():
            if path.name != ".git" or path.is_dir():
                shutil.move(path, target / path.name)
    return target


def _leaves(worktree: Path) -> Iterable[str]:
    """Every path of the worktree that is no plain folder, bytecode and its .git file left out."""
    for folder, names, leaves in os.walk(worktree):
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        names[:] = [name for name in names if name != "__pycache__" and name not in links]
        for leaf in (*leaves, *links):
            path = (Path(folder) / leaf).relative_to(worktree).as_posix()
            if path != ".git":
                yield path


def _holds(worktree: Path, path: str, data: bytes | None) -> bool:
    """Whether the path holds exactly `data`, a link's being where it leads."""
    if data is None:
        return False
    place = worktree / path
    if place.is_symlink():
        return os.fsencode(place.readlink()) == data
    return place.is_file() and place.stat().st_size == len(data) and place.read_bytes() == data


def saved(home: Home, name: str) -> list[Path]:
    """Folders of work copied aside, oldest first."""
    return sorted(home.seat(name).glob("saved-*"))


def _mend_worktree(home: Home, name: str, branch: str, is_new: bool) -> None:
    """The worktree exists, on `branch`, with files in it. One that is whole is not touched."""
    worktree = home.worktree(name)
    at = _branch_of(home, worktree)
    if at == branch and not is_new:
        return
    slug = branch.split("/")[1]
    if at is None:
        _set_aside_folder(home, name, worktree)
        worktrees.add(home.hub, worktree, branch, record.main_ref(slug).removeprefix("refs/heads/"))
        failpoint("seats.added")
    # a kill in the middle of a move leaves HEAD on another branch than seat.json says: seat.json is right
    tip = _tip(home, name, branch) or record.program_head(home, slug)[0]
    _lay(home, Seat(name, "", "", slug, at or branch, str(worktree), None, ""), branch, tip, keep_ref=False)


def _set_aside_folder(home: Home, name: str, worktree: Path) -> None:
    """A folder with files that the hub knows nothing of is moved, not deleted: somebody may have worked there."""
    if worktree.is_dir() and [p.name for p in worktree.iterdir()] not in ([], [".git"]):
        target = home.seat(name) / f"saved-{_stamp()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(worktree, target)


def _branch_of(home: Home, worktree: Path) -> str | None:
    if not (worktree / ".git").is_file():
        return None
    return next((t.branch or "" for t in worktrees.list_worktrees(home.hub) if t.path == worktree.resolve()), None)


def _lay(home: Home, seat: Seat, branch: str, commit: str, keep_ref: bool) -> None:
    """The worktree on `branch`, which is at `commit`, with that commit's files in it."""
    charter = charters.load(home)
    worktree = Path(seat.worktree)
    old_tip = _tip(home, seat.name, seat.branch)
    old_files = _blobs(home, old_tip) if old_tip else {}
    new_files = _blobs(home, commit)
    _keep_unfiled(home, charter, seat, old_files, new_files)
    failpoint("seats.saved")
    full = f"refs/heads/{branch}"
    if keep_ref:
        before = git.resolve(home.hub, full)
        if before and before != commit and not git.is_ancestor(home.hub, before, commit):
            git.update_ref(home.hub, f"refs/org/saved/{seat.name}/{_stamp()}", before)
    git.fetch(home.hub, home.record, [f"+{_pinned(home, seat.name, commit)}:{full}"])
    _point_head(home, worktree, branch)
    failpoint("seats.head")
    stale = (set(old_files) | _editable(worktree, charter)) - set(new_files)
    for path in stale:
        _remove(worktree, path)
    git.export(home.record, commit, worktree, overwrite=True)
    worktrees.fill_index(worktree)


def _tip(home: Home, name: str, branch: str) -> str | None:
    """The commit at the tip of a seat's branch, its objects fetched into the record; None when the branch is not there."""
    ref = f"refs/org/seats/{name}"
    if git.resolve(home.hub, f"refs/heads/{branch}") is None:
        return None
    git.fetch(home.record, home.hub, [f"+refs/heads/{branch}:{ref}"])
    return git.resolve(home.record, ref)


def _pinned(home: Home, name: str, commit: str) -> str:
    """A ref of the record at `commit`, for the hub to fetch by."""
    ref = f"refs/org/lay/{name}"
    git.update_ref(home.record, ref, commit)
    return ref


def _blobs(home: Home, commit: str) -> dict[str, bytes]:
    names = [entry.path for entry in git.list_tree(home.record, commit) if entry.type == "blob"]
    return git.read_files(home.record, commit, names)


def _keep_unfiled(
    home: Home, charter: Charter, seat: Seat, old: Mapping[str, bytes], new: Mapping[str, bytes]
) -> Path | None:
    """Copy aside what is in the worktree, is in no commit, and is about to be replaced or removed."""
    worktree = Path(seat.worktree)
    changed = {}
    for path in _editable(worktree, charter) | set(old) | set(new):
        data = _read(worktree, path)
        if data is not None and data != old.get(path) and data != new.get(path):
            changed[path] = data
    if not changed:
        return None
    target = home.seat(seat.name) / f"saved-{_stamp()}"
    for path, data in changed.items():
        files.replace(target / path, data)
    return target


def _point_head(home: Home, worktree: Path, branch: str) -> None:
    """Put the worktree on `branch`, as `git symbolic-ref HEAD` would, in the hub's own entry for it: what the worktree's
    .git file says could be an agent's."""
    place = worktree.absolute().parent.resolve() / worktree.name / ".git"
    for entry in (home.hub / "worktrees").iterdir():
        if (entry / "gitdir").is_file() and Path(os.fsdecode((entry / "gitdir").read_bytes().strip())) == place:
            files.replace(entry / "HEAD", f"ref: refs/heads/{branch}\n")
            return
    raise OrgError(f"{worktree} is no worktree of {home.hub}; move it away and run the command again")


def _editable(worktree: Path, charter: Charter) -> set[str]:
    """Paths of the worktree that match the charter's editable globs, links not followed."""
    found = set()
    for folder, names, leaves in os.walk(worktree):
        names[:] = [n for n in names if n not in (".git", "__pycache__") and not (Path(folder) / n).is_symlink()]
        for leaf in leaves:
            path = (Path(folder) / leaf).relative_to(worktree).as_posix()
            if matches_any(path, charter.editable):
                found.add(path)
    return found


def _read(root: Path, path: str) -> bytes | None:
    """A plain file's bytes, no link followed at its end; None for anything else or something huge."""
    try:
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None  # missing, a link, or not ours to read: nothing to keep
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        return file.read() if stat.S_ISREG(facts.st_mode) and facts.st_size <= MAX_KEPT_BYTES else None


def _remove(root: Path, path: str) -> None:
    parts = Path(path).parts
    if any((root / Path(*parts[:i])).is_symlink() for i in range(1, len(parts))):
        return  # a linked folder of the agent's: its content is not the worktree's
    try:
        (root / path).unlink()
    except OSError:
        pass  # gone already, or a folder is in its place


def _stamp() -> str:
    return f"{datetime.now(UTC):%y%m%d-%H%M%S-%f}"
