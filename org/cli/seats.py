"""`seat` and `hold`: places to work in, and panes left alone."""

from __future__ import annotations

import shlex

import click

from org import files
from org.cli.verb import Call, as_json, pass_call, print_json, say, verb
from org.errors import BadInput, did_you_mean
from org.home import RESERVED_SEATS, check_id


@verb("seat", "org seat me", "org seat j1 --program optimizer", "org seat me --sync --json")
@click.argument("name")
@click.option("--program", metavar="SLUG", help="The line of research it works on; moves a seat that exists.")
@click.option("--sync", is_flag=True, help="Bring the worktree to its program's measured head.")
@as_json
@pass_call
def seat(call: Call, name: str, program: str | None, sync: bool, is_json: bool) -> None:
    """Make a seat with a worktree of its own, or move it to another program. Prints the worktree to cd into, and where a copy
    of what was not filed is."""
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


@verb("hold", "org hold j3", "org hold j3 --off")
@click.argument("name")
@click.option("--off", is_flag=True, help="Let go again.")
@pass_call
def hold(call: Call, name: str, off: bool) -> None:
    """Not a byte is typed into a held seat's pane; its mail waits and its border says so."""
    home = call.home
    if not home.seat_file(check_id(name, "seat")).is_file():
        known = sorted(p.parent.name for p in home.seats.glob("*/seat.json"))
        raise BadInput(f"there is no seat '{name}'{did_you_mean(name, known)}; seats: {', '.join(known) or 'none yet'}")
    mark = home.held(name)
    if off:
        mark.unlink(missing_ok=True)
    else:
        files.replace(mark, files.utc_now() + "\n")
    say(f"{name} is {'no longer held' if off else 'held; let go with `org hold ' + name + ' --off`'}")
