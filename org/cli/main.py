"""`org [--home DIR] VERB …`: finds the verb, loads its file only then, and turns every expected error into one line.

The one place that catches OrgError. Bugs stay tracebacks.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from org.cli.verb import Call
from org.errors import OrgError, did_you_mean

# verb -> (module in org.cli, one line of help); the order of the help page
VERBS = {
    "init": ("init", "make a home: prompts/, comms/, worktrees/"),
    "launch": ("launch", "start the organisation, or bring back what is missing of it"),
    "attach": ("launch", "show the running organisation in this terminal"),
    "status": ("status", "who is there, what runs, what waits, what is best"),
    "stop": ("launch", "end the organisation, or one seat; the record stays"),
    "hold": ("seats", "let nothing be typed into a seat's pane; --off lets go"),
    "seat": ("seats", "make or move a seat: a worktree for a person or a script"),
    "run": ("run", "file what stands in the worktree as an experiment, and measure it"),
    "verify": ("run", "measure a tentative win again, on fresh seeds"),
    "refute": (
        "refute",
        "try to break a tentative win: fresh seeds, matched budget, without a part, re-tuned baseline",
    ),
    "stack": ("run", "verify the tentative wins of a program together"),
    "land": ("land", "bring a program's verified work back as a branch of your own repository"),
    "promote": ("promote", "measure what won again at another scale; what does not carry is retracted"),
    "results": ("results", "every verdict with its effect and standard error"),
    "send": ("mail", "write to a seat, a role, all or human"),
    "inbox": ("mail", "read your letters; reading acknowledges"),
    "idea": ("ideas", "add an idea, or list them"),
    "wiki": ("ideas", "add a page of knowledge, or find one"),
    "standup": ("standup", "the morning page; `now` makes it again"),
    "plot": ("standup", "draw the progress: SVG and PNG"),
    "audit": ("standup", "hold the numbers of a text against the ledger"),
    "brief": ("standup", "a short page to start or resume a seat's work with"),
    "bench": ("bench", "how fast orgs make verified progress, on planted truth"),
    "compare": ("compare", "several orgs side by side, ranked only where intervals keep apart"),
    "doctor": ("doctor", "check tools, charter, record; say what was mended"),
    "office": ("office", ""),  # what `org launch` runs in its own window; not for people
}


class Verbs(click.Group):
    """Knows every verb by name and loads one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (_, what) in VERBS.items() if what]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"org.cli.{VERBS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"'{args[0]:.40}' is no verb{near}; `org --help` lists them", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, what) for name, (_, what) in VERBS.items() if what])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            formatter.write("  org launch --chief 1 --juniors 8 --agents offline --budget 5m\n")


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--home", metavar="DIR", help="The home; else $ORG_HOME, else the nearest parent with a charter.")
@click.option("--seat", metavar="NAME", help="Who acts; in a seat's pane that seat ($ORG_SEAT), else the person.")
@click.option("--version", is_flag=True, help="Print the version.")
@click.pass_context
def org(ctx: click.Context, home: str | None, seat: str | None, version: bool) -> None:
    """A research organisation you can program: a chief and juniors in a tmux grid, mail made of files, and a gate that
    owns the runs, the seeds and the record. Every verb has --help."""
    if version:
        from org import __version__

        print(f"org {__version__}")
        ctx.exit()
    known = ctx.ensure_object(Call)
    known.home_option, known.seat_option = home, seat
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


# What is wrong with a place that somebody named: no bug of ours. A full disk is not, either.
PLACES = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR,
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """The console script: exits with the contract's codes."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal without UTF-8 is no error
    sys.exit(call(arguments))


def call(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code; every expected error is one line on stderr."""
    known = Call()
    try:
        done: Any = org.main(args=arguments, prog_name="org", standalone_mode=False, obj=known)
        sys.stdout.flush()
        return done if isinstance(done, int) else 0
    except click.UsageError as error:
        return _fail(_hint(error), 2)
    except click.ClickException as error:
        return _fail(error.format_message(), 1)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except OrgError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(_full(error, known), 1)
        if error.errno in PLACES:
            return _fail(f"{error.filename or 'the home'}: {error.strerror}", 1)
        raise


def _full(error: OSError, known: Call) -> str:
    """The place that could not be written, the file system it is on, and what to do. Where the system named no place it
    is the home."""
    try:
        place = Path(error.filename) if error.filename else known.home.root
    except OrgError:
        place = Path.cwd()
    there = next((p for p in (place.absolute(), *place.absolute().parents) if os.path.ismount(p)), Path("/"))
    return f"{place}: {error.strerror} (file system {there}); make room and run it again"


def _hint(error: click.UsageError) -> str:
    """Click's words as one line that ends with where to look."""
    text = error.format_message().rstrip(".")
    path = error.ctx.command_path if error.ctx else "org"
    return text if "--help" in text else f"{text}; see `{path} --help`"


def _fail(text: str, code: int) -> int:
    from org.files import printable

    print(f"org: {printable(' '.join(text.split()), 1000)}", file=sys.stderr, flush=True)
    return code
