"""`compare`: several orgs side by side, by name on T0 or as homes by their ledgers; ranked only where intervals keep apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from org.cli import view
from org.cli.bench import counter, show
from org.cli.verb import Count, as_json, print_json, say, verb
from org.errors import BadInput
from org.home import Home


@verb("compare", "org compare chief-juniors solo", "org compare ../monday ../tuesday --json")
@click.argument("which", nargs=-1, required=True, metavar="HOME_OR_ORG…")
@click.option("--repeats", type=Count(1, 10_000), default=40, help="Of orgs by name: worlds that each is put through.")
@click.option("--devices", type=Count(1, 64), default=8, help="Of orgs by name: devices an org has at most.")
@click.option("--seed", type=Count(0, 999_999), default=1, help="Of orgs by name: another number, other worlds.")
@as_json
def compare(which: tuple[str, ...], repeats: int, devices: int, seed: int, is_json: bool) -> None:
    """Read homes that ran, or run org folders and controls by name on T0. Homes of one org folder are its repeats."""
    from org.bench import compare as comparing

    homes = [Home(Path(name).resolve()) for name in which if (Path(name) / "prompts" / "charter.yaml").is_file()]
    if homes and len(homes) < len(which):
        rest = next(name for name in which if not (Path(name) / "prompts" / "charter.yaml").is_file())
        raise BadInput(f"{rest} is no home, and a home is not compared with an org by name; name homes, or orgs")
    rows: list[dict[str, Any]]
    if homes:
        rows = comparing.compare(homes)
        found = comparing.standings(rows)
    else:
        rows, found = _played(which, repeats, devices, seed)
    said = comparing.ranking(found)
    if is_json:
        print_json({"rows": rows, "standings": [vars(one) | _ends(one) for one in found], "ranking": said})
        return
    if homes:
        say(view.table(HEAD, [_cells(row) for row in rows], [None] * len(rows)))
    else:
        show(rows)
    for line in said:
        say(line)


def _played(names: tuple[str, ...], repeats: int, devices: int, seed: int) -> tuple[list[dict[str, Any]], Any]:
    from org.bench import t0
    from org.cli.tasks import INSTALLATION
    from org.team import roster

    prompts = INSTALLATION / "prompts"
    everyone = t0.named(prompts, names, roster.org_hash, devices)
    found = t0.play(everyone, prompts, repeats, seed, devices, told=counter(repeats))
    rows = t0.table(everyone, found, seed, devices)
    return rows, t0.standings(rows)


HEAD = (
    "home",
    "org",
    "metric",
    "verified gain",
    "claimed",
    "claim/verified",
    "experiments",
    "kept",
    "runs",
    "device h",
)


def _cells(row: dict[str, Any]) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return [
        row["home"],
        row["org"] or "-",
        f"{row['metric']} at {row['scale']}",
        shown(row["verified_gain"], "+.4f"),
        shown(row["claimed_gain"], "+.4f"),
        shown(row["claimed_over_verified"], ".2f"),
        str(row["experiments"]),
        shown(row["kept_share"], ".0%"),
        str(row["runs"]),
        f"{row['device_h']:.2f}",
    ]


def _ends(one: Any) -> dict[str, Any]:
    """JSON has no infinity: an interval that one repeat does not have is null."""
    return {} if one.repeats > 1 else {"low": None, "high": None}
