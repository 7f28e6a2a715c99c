"""Seats: who they are, made, moved and brought to their program's head. What lies in their folders, `team.worktree` knows.

Every function may be killed between two lines and called again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from org import files
from org.errors import BadInput, MissingTool, did_you_mean
from org.failpoint import failpoint
from org.home import ID_PATTERN, RESERVED_SEATS, Home, check_id, seat_branch
from org.lab import record
from org.records import Seat
from org.team import boxes, mail, roster, worktree
from org.team.roster import PERSON


@dataclass(frozen=True)
class Wanted:
    """A seat as it is asked for; `program` counts for a new one only."""

    name: str
    role: str = PERSON
    backend: str = PERSON
    program: str | None = None
    device: str | None = None


# --- who they are ------------------------------------------------------------------------------------------------


def load(home: Home, name: str) -> Seat | None:
    """The seat, or None when there is none of that name, or what lies there has not the form of one."""
    row = files.read_json(home.seat_file(name))
    return Seat.from_dict(row) if isinstance(row, dict) and not Seat.misfit(row) else None


def require(home: Home, name: str) -> Seat:
    """The seat; BadInput naming near ones when there is none."""
    seat = load(home, name)
    if seat is None:
        if ID_PATTERN.fullmatch(name) and home.seat_file(name).is_file():
            raise BadInput(f"{home.seat_file(name)} is damaged; `org launch` sets it aside and makes it again")
        known = list(mail.seats(home))
        raise BadInput(f"there is no seat '{name:.40}'{did_you_mean(name, known)}; `org seat NAME` makes one")
    return seat


def all_seats(home: Home) -> list[Seat]:
    """Every seat by name, j2 before j10; retired ones too."""
    return [seat for name in mail.seats(home) if (seat := load(home, name)) is not None]


def present(home: Home) -> list[Seat]:
    """The seats that are here now, by name: see `roster.members`."""
    return [seat for name in roster.members(home) if (seat := load(home, name)) is not None]


# --- making and moving -------------------------------------------------------------------------------------------


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
    return create_all(home, [Wanted(name, role, backend, program, device)])[0]


def create_all(home: Home, wanted: Sequence[Wanted], say: Callable[[str], None] = lambda line: None) -> list[Seat]:
    """`create` of several, what is the same for all read once; `say` is told what was mended."""
    for one in wanted:
        check_id(one.name, "seat")
        if one.name in RESERVED_SEATS:
            raise BadInput(f"no seat may be called '{one.name}'; the org uses that name itself")
        check_id(one.program or "main", "program")
    if shutil.which("git") is None:
        raise MissingTool("git is not installed; install it with `apt-get install git`")  # before any lock file is made
    made = []
    with ExitStack() as locks:
        for name in sorted(one.name for one in wanted):  # in one order: two callers must not wait for each other
            locks.enter_context(files.locked(home.seat(name) / "lock"))
        before = {one.name: load(home, one.name) for one in wanted}
        places = []
        for one in wanted:
            old = before[one.name]
            known = (
                old.program if old else worktree.known_program(home, one.name)
            )  # its seat.json may have been removed
            places.append(worktree.Place(one.name, known or one.program or "main", is_new=known is None))
        heads = record.ensure_programs(home, [place.program for place in places])
        worktree.ensure(home, places, heads, say)
        failpoint("seats.worktree")
        for one, place in zip(wanted, places, strict=True):
            old = before[one.name]
            seat = Seat(
                name=one.name,
                role=one.role,
                backend=one.backend,
                program=place.program,
                branch=place.branch,
                worktree=str(home.worktree(one.name)),
                device=one.device,
                created=old.created if old else files.utc_now(),
                session=old.session if old and old.backend == one.backend else "",
            )
            if seat != old:
                files.replace_json(home.seat_file(one.name), seat.to_dict())
                failpoint("launch.seat")
            boxes.make(home.mailbox(one.name))
            made.append(seat)
    return made


def move(home: Home, seat: Seat, program: str) -> Seat:
    """The seat works on `program` from here on: its worktree holds the program's measured head, on the seat's branch there.
    Its branch of the program before stays. Files that were not filed are first moved to comms/seats/<seat>/saved-…"""
    check_id(program, "program")
    with files.locked(home.seat(seat.name) / "lock"):
        seat = require(home, seat.name)
        if seat.program != program:
            head = record.ensure_program(home, program)
            branch = seat_branch(program, seat.name)
            worktree.lay(home, [worktree.Move(seat.name, seat.branch, branch, head, keep_ref=True)])
            failpoint("seats.moved")
            seat = seat.moved(program, branch)
            files.replace_json(home.seat_file(seat.name), seat.to_dict())
    return seat


def sync(home: Home, seat: Seat) -> Seat:
    """Bring the worktree's files and the seat's branch to the program's measured head; what was not filed is moved aside
    first, as in `move`."""
    with files.locked(home.seat(seat.name) / "lock"):
        seat = require(home, seat.name)
        head = record.ensure_program(home, seat.program)
        worktree.lay(home, [worktree.Move(seat.name, seat.branch, seat.branch, head, keep_ref=True)])
    return seat


def saved(home: Home, name: str) -> list[Path]:
    """Folders of work moved aside, oldest first."""
    return sorted(home.seat(name).glob("saved-*"))
