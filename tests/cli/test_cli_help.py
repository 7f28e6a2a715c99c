"""Help and start-up: every verb has an example that parses, and what agents call all day starts cheaply."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from org.cli import main
from org.cli.verb import Verb
from org.home import Home
from org.words import CONTROLS, GAINS

from .conftest import Cli

HEAVY = ("pydantic", "rich", "torch", "optuna", "matplotlib", "libtmux", "numpy", "watchdog", "asyncio")
ALL_DAY = ("status", "results", "inbox", "send human hi", "idea", "run -m x", "brief")


def verb(name: str) -> Verb:
    command = main.org.get_command(click.Context(main.org), name)
    assert isinstance(command, Verb), name
    return command


@pytest.mark.parametrize("name", main.VERBS)
def test_help_ends_with_examples_that_parse(cli: Cli, name: str) -> None:
    done = cli(name, "--help")
    assert done.code == 0
    command = verb(name)
    assert command.examples
    for line in command.examples:
        assert line in done.out
        words = shlex.split(line.rpartition("| ")[2])
        assert words[0] == "org"
        rest = words[1:]
        while rest[0].startswith("--"):
            rest = rest[2:]
        assert rest[0] == name
        with command.make_context(name, list(rest[1:]), resilient_parsing=False):
            pass
    assert done.out.rstrip().splitlines()[-1].strip() == command.examples[-1]


def test_the_help_of_run_names_every_axis_and_control(cli: Cli) -> None:
    words = " ".join(cli("run", "--help").out.split())
    assert f"{', '.join(GAINS[:-1])} or {GAINS[-1]}" in words
    assert f"[{'|'.join(CONTROLS)}]" in words


def test_the_list_of_verbs_loads_none_of_them() -> None:
    code = (
        "import sys\nfrom org.cli import main\nmain.call(['--help'])\n"
        "print(*[m for m in sys.modules if m.startswith('org.')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name, (_, what) in main.VERBS.items():
        assert (f"{name}  " in out) == bool(what)
    loaded = set(out.splitlines()[-1].split())
    assert loaded <= {"org.cli", "org.cli.main", "org.cli.verb", "org.errors", "org.home"}


def test_no_arguments_prints_the_help(cli: Cli) -> None:
    done = cli()
    assert (done.code, done.err) == (0, "")
    assert "Verbs:" in done.out


@pytest.mark.parametrize("line", ALL_DAY)
def test_what_agents_call_all_day_loads_nothing_heavy(tiny_home: Home, line: str) -> None:
    from org import charter

    charter.load(tiny_home)  # the first reader after an edit pays for its validation, nobody after it
    code = (
        "import sys\nfrom org.cli import main\nmain.call(sys.argv[1:])\n"
        f"print('HEAVY', *[m for m in {HEAVY} if m in sys.modules])"
    )
    argv = [sys.executable, "-c", code, "--home", str(tiny_home.root), *shlex.split(line)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY", done.stderr


@pytest.mark.slow  # seconds of starts that are measured
def test_starting_a_verb_costs_at_most_three_argparse_scripts(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
    try:
        import start
    finally:
        sys.path.pop(0)
    for name, ratio in start.ratios(("status", "run"), tmp_path).items():
        assert ratio <= 3.0, f"{name}: {ratio:.2f}"
