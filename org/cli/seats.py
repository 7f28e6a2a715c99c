"""`seat` and `hold`: places to work in, and panes left alone."""

from __future__ import annotations

import shlex

import click

from org import files
from org.cli.verb import Call, as_json, pass_call, print_json, say, verb
from org.errors import BadInput, did_you_mean
from org.home import RESERVED_SEATS, Home, check_id
from org.words import counted


@verb("seat", "org seat me", "org seat j1 --program optimizer", "org seat me --sync --json")
@click.argument("name")
@click.option("--program", metavar="SLUG", help="The line of research it works on; moves a seat that exists.")
@click.option("--sync", is_flag=True, help="Bring the worktree to its program's measured head.")
@as_json
@pass_call
def seat(call: Call, name: str, program: str | None, sync: bool, is_json: bool) -> None:
    """Make a seat with a worktree of its own, or move it to another program. Prints the worktree to cd into, and where
    what was not filed was moved to."""
    from org.team import seats

    home = call.home
    if check_id(name, "seat") in RESERVED_SEATS:
        raise BadInput(f"'{name}' is a word of the org's own; call the seat something else, such as me")
    if program is not None:
        check_id(program, "program")
    before = seats.saved(home, name)
    found = seats.load(home, name)
    if found is None:
        found = seats.create(home, name, program=program)
    else:  # also mends a worktree that was removed
        found = seats.create(home, name, found.role, found.backend, device=found.device)
    if program is not None and program != found.program:
        found = seats.move(home, found, program)
    elif sync:
        found = seats.sync(home, found)
    saved = [str(path) for path in seats.saved(home, name) if path not in before]
    if is_json:
        said = {"seat": found.name, "worktree": found.worktree, "branch": found.branch, "program": found.program}
        print_json({**said, "saved": saved})
    else:
        say(f"{found.name} on {found.branch}")
        for path in saved:
            say(f"what was not filed is in {path}")
        say(f"cd {shlex.quote(found.worktree)}")


@verb("hold", "org hold j3", "org hold all", "org hold junior --off")
@click.argument("name", metavar="SEAT|ROLE|all")
@click.option("--off", is_flag=True, help="Let go again.")
@pass_call
def hold(call: Call, name: str, off: bool) -> None:
    """Not a byte is typed into a held seat's pane; its mail waits and its border says so. A role or `all`: every seat that
    is here."""
    from org.team import mail

    home = call.home
    for seat in _held_by(home, name):
        mark, count = home.held(seat), mail.waiting(home, seat)
        letters = counted(count, "letter", one="a")
        if off:
            was = mark.exists()
            mark.unlink(missing_ok=True)
            then = f"; {letters} will be delivered" if count else ""
            say(f"{seat} is {'no longer held' if was else 'not held'}{then}")
        else:
            if not mark.exists():  # held twice is held since the first time
                files.replace(mark, files.utc_now() + "\n")
            then = f"; {letters} wait{'s' if count == 1 else ''}" if count else ""
            say(f"{seat} is held{then}; let go with `org hold {seat} --off`")


def _held_by(home: Home, name: str) -> list[str]:
    """The seats that NAME stands for: the seat, else those of the role, or all that are here."""
    from org.team import roster

    found = roster.named(home, check_id(name, "seat"))
    if not found:
        members = roster.members(home)
        known = [*members, *sorted(set(members.values())), "all"] if members else []
        raise BadInput(f"there is no seat '{name}'{did_you_mean(name, known)}; seats: {', '.join(known) or 'none yet'}")
    return found
