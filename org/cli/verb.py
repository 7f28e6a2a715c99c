"""What every verb shares: who calls it, from which home, how its help ends. The only place that reads ORG_SEAT."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from org.errors import BadInput, Refused, did_you_mean
from org.home import Home, check_id, find_home

if TYPE_CHECKING:
    from org.records import Seat

HUMAN = "human"


@dataclass
class Call:
    """One call of the command: the home it works on and who acts."""

    home_option: str | None = None
    seat_option: str | None = None

    @property
    def home(self) -> Home:
        """`--home`, else $ORG_HOME, else the nearest parent with a charter. Raises BadInput."""
        return find_home(self.home_option, dict(os.environ), Path.cwd())

    @property
    def who(self) -> str:
        """$ORG_SEAT in a seat's pane, else `--seat`, else the person. A seat that does not exist is BadInput, and so is
        another one's name in a pane: what is signed and filed there is that seat's."""
        pane = os.environ.get("ORG_SEAT")
        if pane and self.seat_option not in (None, pane):
            raise BadInput(
                f"--seat {self.seat_option!r:.40}: this is {pane}'s pane, and {pane} acts here; leave it out"
            )
        name = (pane or HUMAN) if self.seat_option is None else self.seat_option
        if name == HUMAN:
            return name
        home = self.home
        if not home.seat_file(check_id(name, "seat")).is_file():
            known = [p.parent.name for p in home.seats.glob("*/seat.json")]
            raise BadInput(f"there is no seat '{name}'{did_you_mean(name, known)}; make it with `org seat {name}`")
        return name

    def require_person(self, what: str) -> None:
        """Raises Refused when a seat acts: `what` is the person's own."""
        if self.who != HUMAN:
            raise Refused(f"{what} is the person's, and {self.who} acts here; ask with `org send human TEXT`")

    def seat(self) -> Seat:
        """The seat that acts; a person's is the one whose worktree they stand in. Raises BadInput naming `org seat`."""
        from org.team import seats

        home, name = self.home, self.who
        if name == HUMAN:
            name = _standing_in(home) or name
        seat = seats.load(home, name) if name != HUMAN else None
        if seat is None:
            raise BadInput("an experiment is run from a seat's worktree; make yours with `org seat me` and cd into it")
        return seat


def _standing_in(home: Home) -> str | None:
    """The seat whose worktree holds the current folder."""
    here, worktrees = Path.cwd().resolve(), home.worktrees.resolve()
    if worktrees not in here.parents:
        return None
    name = here.relative_to(worktrees).parts[0]
    return name if home.seat_file(name).is_file() else None


pass_call = click.make_pass_decorator(Call, ensure=True)


class Verb(click.Command):
    """A command that also takes `--home` and `--seat` behind its name, and whose help ends with examples."""

    def __init__(self, *arguments: Any, examples: tuple[str, ...] = (), **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.examples = examples
        for name, what in (
            ("home", "the home folder"),
            ("seat", "who acts; in a seat's pane that seat, else the person"),
        ):
            option = click.Option(
                [f"--{name}", f"{name}_option"],
                metavar=name.upper(),
                help=what,
                expose_value=False,
                hidden=True,
                callback=_keep,
            )
            self.params.append(option)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _keep(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is not None:
        setattr(ctx.ensure_object(Call), str(option.name), value)


def verb(name: str, *examples: str) -> Callable[[Callable[..., Any]], Verb]:
    """Make a function a verb called `name`. `examples`: command lines that its help ends with; a test parses them."""
    return click.command(name, cls=Verb, examples=examples, context_settings={"help_option_names": ["-h", "--help"]})


as_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON document and nothing else.")


class Count(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """A whole number in a range; its error says the allowed form."""

    name = "N"

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if re.fullmatch(r"[0-9]{1,6}", text) and self.low <= int(text) <= self.high:
            return int(text)
        self.fail(f"'{text:.40}' is not allowed; use a whole number from {self.low} to {self.high}", param, ctx)


def print_json(value: Any) -> None:
    """Exactly one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def say(text: str = "") -> None:
    """A line for people on stdout, seen at once also through a pipe."""
    print(text, flush=True)


def tell(text: str) -> None:
    """A line about the work on stderr, so that stdout stays what was asked for."""
    print(text, file=sys.stderr, flush=True)
