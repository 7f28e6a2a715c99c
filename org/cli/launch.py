"""`launch`, `attach`, `stop`: start the organisation, look at it, end it. What a launch is, `team.launch` knows."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from org import files, strictyaml
from org.cli import tasks
from org.cli.verb import Call, Count, as_json, pass_call, print_json, say, tell, verb
from org.errors import BadInput, MissingTool, OrgError
from org.home import Home, check_id

if TYPE_CHECKING:
    from org.records import Charter
    from org.team.roster import Options, Plan

INSTALL = {
    "git": "install it, as in `apt-get install git`",
    "tmux": "install it, as in `apt-get install tmux`, or use the gate alone: `org seat me`",
}


@verb(
    "launch",
    "org launch --chief 1 --juniors 8 --agents offline --budget 5m",
    "org launch --task kernel --budget 5m",
    "org launch --chief 0 --juniors 8 --dry-run",
    "org launch --detach",
)
@click.option("--chief", type=Count(0, 8), help="How many chiefs; with 0 every junior is on its own.")
@click.option("--juniors", type=Count(1, 64), help="How many juniors.")
@click.option(
    "--agents",
    metavar="SPEC",
    help="offline, claude:4,codex:4, claude=MODEL:4, anthropic:MODEL, openai:MODEL:4, a name of prompts/backends/, or "
    "cmd:'…'; default: what the org folder says.",
)
@click.option("--org", "folder", metavar="NAME", help="The org folder under prompts/orgs/.")
@click.option("--task", metavar="NAME|FILE", help="A folder of prompts/tasks/; a charter file must be this home's own.")
@click.option("--devices", metavar="SPEC", help="auto, cpu:N, or GPU numbers such as 0,1.")
@click.option("--budget", metavar="B", help="How long: 90s, 5m, 2h, or 100runs. Default: until `org stop`.")
@click.option("--max-usd", metavar="X", help="Stop when the seats' models have cost so many dollars since this launch.")
@click.option("--max-tokens", metavar="N", help="The same for tokens, sent and answered: 500000, 500k, 2M.")
@click.option("--dry-run", is_flag=True, help="Print every worktree, branch, pane and device; make nothing.")
@click.option("--detach", is_flag=True, help="Return when every seat is ready.")
@click.option("--watch", is_flag=True, help="Print progress lines on a terminal too, instead of attaching.")
@as_json
@pass_call
def launch(
    call: Call,
    chief: int | None,
    juniors: int | None,
    agents: str | None,
    folder: str | None,
    task: str | None,
    devices: str | None,
    budget: str | None,
    max_usd: str | None,
    max_tokens: str | None,
    dry_run: bool,
    detach: bool,
    watch: bool,
    is_json: bool,
) -> None:
    """Start the organisation, or bring back what is missing of it; safe to repeat. On a terminal it attaches, else it
    prints progress until the budget ends."""
    from org.agents import base, described
    from org.team import caps, roster

    cap = caps.Cap(
        max_usd=caps.parse_usd(max_usd) if max_usd is not None else None,
        max_tokens=caps.parse_tokens(max_tokens) if max_tokens is not None else None,
    )
    options = roster.Options(
        chief=chief,
        juniors=juniors,
        agents=base.parse_agents(agents, described.names(call.home)) if agents is not None else None,
        org=check_id(folder, "org folder") if folder is not None else None,
        devices=devices,
        budget=roster.parse_budget(budget) if budget is not None else None,
        cap=cap or None,
    )
    home = call.home
    folder_of_task = tasks.find(task, home) if task is not None else None
    if task is not None and folder_of_task is None:
        same_task(home, task)
    quiet = (lambda line: None) if is_json else say
    if not dry_run and home.org_file.is_file():
        from org.team import launch as launches

        launches.mend(home, quiet)
    plan = make_plan(home, options, folder_of_task)
    if dry_run:
        return _print_plan(plan, is_json)
    if folder_of_task is not None:
        tasks.adopt(home, folder_of_task)
    from org.team import launch as launches

    launches.launch(home, plan, quiet)
    if is_json:
        return print_json({"home": str(home.root), "seats": [seat.to_dict() for seat in plan.seats]})
    say(f"attach with `{_command(home, 'attach')}`, end it with `{_command(home, 'stop')}`")
    if detach:
        return None
    if not watch and sys.stdin.isatty() and sys.stdout.isatty():
        _attach(home, None)
    from org.cli import progress

    try:
        progress.follow(home, say)
    except KeyboardInterrupt:
        tell(f"org: it goes on without this terminal; `{_command(home, 'attach')}` or `{_command(home, 'stop')}`")
        raise
    return None


def make_plan(home: Home, options: Options, task: Path | None = None) -> Plan:
    """Check everything that can be wrong, then plan; makes nothing. task: the folder of one to adopt. Raises BadInput,
    MissingTool or Busy."""
    from org import charter as charters
    from org import schema
    from org.lab import record
    from org.team import pages, roster, seats
    from org.world import devices

    # one that is not copied here yet is looked at where it is
    source = home if task is None else replace(tasks.adopting(home, task), root=task.parents[2])
    charter = charters.from_plain(schema.charter(source.charter))
    previous = roster.facts(home)
    name = options.org or previous.get("org") or roster.DEFAULT_ORG
    if not home.org_folder(name).is_dir():
        known = ", ".join(sorted(p.name for p in home.org_folder("x").parent.glob("*/"))) or "none"
        raise BadInput(f"{home.org_folder(name)} is missing; org folders here: {known}")
    folder = schema.org_folder(home.org_folder(name))
    spec = options.devices if options.devices is not None else previous.get("devices_spec") or "auto"
    there = [d.name for d in devices.discover(spec)]
    need_tools(charter)
    if not (home.record / "HEAD").is_file():
        record.read_code(source, charter)
    plan = roster.plan(home, charter, folder, options, seats.all_seats(home), there, previous)
    pages.check(home.org_folder(name), [*roster.names(folder), *(seat.name for seat in plan.seats)])
    need_programs(home, plan)
    return plan


def need_tools(charter: Charter) -> None:
    """Raises MissingTool naming how to install the first one that is missing."""
    for tool, how in INSTALL.items():
        if shutil.which(tool) is None:
            raise MissingTool(f"{tool} is not installed; {how}")
    if charter.referee is not None and importlib.util.find_spec("torch") is None:
        raise MissingTool(
            "torch is not installed, and this charter's runs need it; run scripts/setup, or pip install 'org[train]'"
        )


def need_programs(home: Home, plan: Plan) -> None:
    """Raises MissingTool when a seat's own program, such as claude, is not installed, BadInput when its prices are not in
    the form. Writes nothing."""
    from org.agents import base, described, prices
    from org.records import Seat

    names = described.names(home)
    if any(base.kind(seat.backend, names) in base.PRICED for seat in plan.seats):
        prices.check(home)
    for seat in {seat.backend: seat for seat in plan.seats}.values():
        page = home.org_folder(plan.org) / "roles" / f"{seat.role}.md"
        base.backend(seat.backend, home).plan(home, Seat.from_dict({**seat.to_dict(), "created": ""}), page)


def same_task(home: Home, task: str) -> None:
    """`--task` names the charter this home has; another one belongs into a home of its own."""
    row = strictyaml.parse(_text(task), task)
    if row != strictyaml.read(home.charter):
        raise BadInput(
            f"a home works on the charter it was made with, and {task} is another than {home.charter}; "
            f"make a home for it: `org init DIR --task {shlex.quote(task)}`"
        )


def _text(path: str) -> str:
    try:
        return files.read_plain(Path(path), strictyaml.MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"--task {path}: no readable file is there") from None


def _print_plan(plan: Plan, is_json: bool) -> None:
    rows = [seat.to_dict() for seat in plan.seats]
    if is_json:
        return print_json({"seats": rows, "devices": list(plan.devices), "socket": plan.socket, "org": plan.org})
    from org.cli import view

    head = ("seat", "role", "backend", "device", "pane", "branch", "worktree")
    lines = [
        [s.name, s.role, s.backend, s.device or "-", f"{s.page}.{s.pane}", s.branch, s.worktree] for s in plan.seats
    ]
    for line in [head, *lines]:
        say(
            "  ".join(
                f"{cell:<{max(view.width(row[i]) for row in [head, *lines])}}" for i, cell in enumerate(line)
            ).rstrip()
        )
    say(f"devices: {', '.join(plan.devices)}; tmux -L {plan.socket}; nothing was made")
    return None


@verb("attach", "org attach", "org attach j3")
@click.argument("seat", required=False)
@pass_call
def attach(call: Call, seat: str | None) -> None:
    """Show the running organisation in this terminal; leave with Ctrl-b d, nothing stops. With SEAT: on its pane."""
    _attach(call.home, check_id(seat, "seat") if seat is not None else None)


def _attach(home: Home, seat: str | None) -> None:
    """Become tmux; returns only by an error."""
    from org.team import launch as launches

    if shutil.which("tmux") is None:
        raise MissingTool(f"tmux is not installed; {INSTALL['tmux']}")
    argv = launches.attach_argv(home, seat)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise OrgError("`org attach` needs a terminal; in a script use `org status --json`")
    os.execvp(argv[0], argv)


@verb("stop", "org stop", "org stop j4", "org stop --clean", "org stop j4 --clean --aside")
@click.argument("seat", required=False)
@click.option("--clean", is_flag=True, help="Also remove worktrees that hold nothing but what commits have.")
@click.option("--aside", is_flag=True, help="With --clean: move what they hold to comms/seats/<seat>/saved-… first.")
@pass_call
def stop(call: Call, seat: str | None, clean: bool, aside: bool) -> None:
    """End every process of the organisation, or one seat's. Nothing is lost: `org launch` brings it back."""
    if aside and not clean:
        raise BadInput("--aside says what --clean does with work; give both: `org stop --clean --aside`")
    options = {**_stop_options(call.home, seat, clean), "aside": aside}
    from org.team import launch as launches

    launches.stop(call.home, say, **options)


def _stop_options(home: Home, seat: str | None, clean: bool) -> dict[str, Any]:
    if seat is not None and not home.seat_file(check_id(seat, "seat")).is_file():
        known = ", ".join(sorted(p.parent.name for p in home.seats.glob("*/seat.json")))
        raise BadInput(f"there is no seat '{seat}'; seats: {known or 'none yet'}")
    return {"seat": seat, "clean": clean}


def _command(home: Home, words: str) -> str:
    """A command line that works from where the person is."""
    here = Path.cwd().resolve()
    own = Path(sys.executable).parent / "org"
    if shutil.which("org") is not None or not own.is_file():
        program = "org"
    else:  # not on the PATH: the virtual environment is not active
        program = shlex.quote(str(own.relative_to(here) if own.is_relative_to(here) else own))
    if home.root in (here, *here.parents):
        return f"{program} {words}"
    return f"{program} --home {shlex.quote(str(home.root))} {words}"
