"""`office`, hidden: the organisation's one background process, in a tmux window of its own, showing the board."""

from __future__ import annotations

import click

from org.cli.verb import Call, pass_call, verb


@verb("office", "org office --plain")
@click.option("--plain", is_flag=True, help="No board; only lines.")
@pass_call
def office(call: Call, plain: bool) -> None:
    """Dispatch runs, ring doorbells, watch seats, run the processes. `org launch` starts it."""
    from org.cli import board
    from org.team import office as offices

    offices.run(call.home, None if plain else board.render)
