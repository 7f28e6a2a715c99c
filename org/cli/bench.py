"""`bench`: how good the organisation's own rules are, measured on planted truth. Trains nothing, needs no home."""

from __future__ import annotations

from typing import Any

import click

from org.cli import view
from org.cli.verb import Count, as_json, print_json, say, tell, verb

WHAT = ("stats",)


@verb("bench", "org bench stats", "org bench stats --campaigns 100 --seed 2 --json")
@click.argument("what", type=click.Choice(WHAT), metavar="stats")
@click.option(
    "--campaigns", type=Count(1, 10_000), default=20, help="Campaigns of 650 runs a row; 20 take some minutes."
)
@click.option("--seed", type=Count(0, 999_999), default=1, help="Another number, other ideas and other luck.")
@as_json
def bench(what: str, campaigns: int, seed: int, is_json: bool) -> None:
    """The evidence rule on simulated campaigns: nulls and effects of 1 to 4 sigma, one idea in five or in twenty good,
    additive or in conflict, sigma estimated or known; beside it a greedy rule and one that verifies win by win."""
    from org.bench import ruletable

    def told(row: dict[str, Any]) -> None:
        tell(f"{row['scenario']}, sigma {row['sigma']}, {row['rule']}: gain {row['gain']:.1f}")

    rows = ruletable.table(campaigns, seed, on_row=told)
    if is_json:
        print_json(rows)
        return
    say(view.table(ruletable.HEAD, [ruletable.cells(row) for row in rows], [None] * len(rows)))
    made_by = rows[0]["versions"]
    say(f"\nseed {seed}, {campaigns} campaigns of {rows[0]['budget']} runs a row, org {made_by['org']}")
    for line in ruletable.missed(rows):
        say(line)
