"""`promote`: file re-tests at another scale and follow them. The lab decides what carries; here it is only shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from org.cli.run import document, follow_up
from org.cli.verb import Call, as_json, pass_call, print_json, verb
from org.home import Home, check_experiment

if TYPE_CHECKING:
    from org.records import Contract


@verb("promote", "org promote E0042 --to demo", "org promote E0042 E0043 --to std --no-wait --json")
@click.argument("experiments", metavar="E0042…", nargs=-1, required=True)
@click.option("--to", "scale", required=True, metavar="SCALE", help="A scale of the charter, the next one as a rule.")
@click.option("--no-wait", is_flag=True, help="Return when they are filed.")
@as_json
@pass_call
def promote(call: Call, experiments: tuple[str, ...], scale: str, no_wait: bool, is_json: bool) -> None:
    """Measure what was kept again at another scale, both arms on fresh seeds. What does not carry is retracted."""
    from org.lab import follow, promotions

    home = call.home
    filed = promotions.promote(home, [check_experiment(name) for name in experiments], scale, call.who)
    if not is_json:
        for contract in filed:
            follow_up(home, contract, is_json, no_wait)
            if not no_wait:
                follow.settle(home)
        return
    if not no_wait:
        for contract in filed:
            follow.drive(home, contract.experiment, lambda line: None)
        follow.settle(home)
    print_json({"scale": scale, "promotions": [_row(home, contract) for contract in filed]})


def _row(home: Home, contract: Contract) -> dict[str, Any]:
    """What happened to one of them: `carried` is null while nothing is known."""
    from org.evidence import ladder
    from org.lab import ledger

    book = ledger.read(home)
    verdict = book.verdicts.get(contract.experiment)
    row = document(home, contract, verdict)
    carried = {"carried": True, "fell": False}.get(ladder.state(verdict))
    line = next((r for r in book.moves if r.get("retracts") and r["experiment"] == contract.experiment), None)
    found = {"promotes": contract.promotes, **row, "carried": carried}
    return {**found, "retracts": list(line["retracts"]) if line else [], "why": line["why"] if line else None}
