"""`bench`: how fast an organisation makes verified progress and whether it fools itself, on planted truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from org.cli import view
from org.cli.verb import Count, as_json, print_json, say, tell, verb
from org.errors import BadInput

WHAT = ("t0", "t1", "breaker", "stats")


@verb(
    "bench",
    "org bench t0",
    "org bench t0 --repeats 50 --brain my_brain.py --plot t0.png",
    "org bench t0 solo greedy --out results",
    "org bench t0 all chief-juniors:1 tpe:8",
    "org bench t1 --minutes 25 --out results",
    "org bench breaker --worlds 5",
    "org bench stats --campaigns 100 --seed 2 --json",
)
@click.argument("what", type=click.Choice(WHAT), metavar="t0|t1|breaker|stats")
@click.argument("orgs", nargs=-1, metavar="[ORG…]")
@click.option(
    "--repeats", type=Count(1, 10_000), default=200, help="t0: worlds that every org is put through; t1: at most."
)
@click.option(
    "--devices", type=Count(1, 64), default=8, help="t0, t1: devices an org has at most; one a seat that proposes."
)
@click.option(
    "--brain", default="offline", metavar="FILE", help="t0, t1: the researcher of the orgs: offline, tpe, or your file."
)
@click.option("--plot", metavar="FILE", help="t0: draw gains against device-hours here (.png or .svg).")
@click.option(
    "--out", metavar="DIR", help="t0, t1: write table, rows and picture here; t1 goes on with the runs of DIR."
)
@click.option("--minutes", type=Count(1, 10_000), default=25, help="t1: after so many no run is begun.")
@click.option("--cores", type=Count(1, 1024), help="t1: runs at once; default: the cores there are.")
@click.option("--trainer", metavar="DIR", help="t1: your copy of nanochat/, instead of the one that came along.")
@click.option(
    "--campaigns", type=Count(1, 10_000), default=20, help="stats: campaigns of 650 runs a row; 20 take minutes."
)
@click.option("--worlds", type=Count(1, 1000), default=1, help="breaker: worlds of 80 claims; one takes seconds.")
@click.option("--seed", type=Count(0, 999_999), default=1, help="Another number, other ideas and other luck.")
@as_json
def bench(what: str, orgs: tuple[str, ...], is_json: bool, **options: Any) -> None:
    """t0: every shipped org and the controls on a task whose truth is known, in virtual time (docs/bench.md). Name some
    (`all` is every one), or NAME:N for one on N devices.
    t1: greedy and gated orgs on the real trainer, minutes of every core; started again with the same --out it goes on.
    breaker: how many of 40 planted spurious wins a world `org refute` refutes, and how many of 40 true ones.
    stats: the evidence rule on simulated campaigns of nulls and planted effects."""
    if orgs and what not in ("t0", "t1"):
        raise BadInput(f"`org bench {what}` takes no org: {' '.join(orgs):.60}")
    if what == "t0":
        _t0(orgs, is_json, **options)
    elif what == "t1":
        _t1(orgs, is_json, **options)
    elif what == "breaker":
        _breaker(options["worlds"], options["seed"], is_json)
    else:
        _stats(options["campaigns"], options["seed"], is_json)


def _t0(
    orgs: tuple[str, ...],
    is_json: bool,
    repeats: int,
    devices: int,
    brain: str,
    plot: str | None,
    out: str | None,
    seed: int,
    **_: Any,
) -> None:
    from org.bench import t0
    from org.cli import benchpage, benchplot
    from org.cli.tasks import INSTALLATION
    from org.team import roster

    prompts = INSTALLATION / "prompts"
    everyone = t0.named(prompts, orgs, roster.org_hash, devices)
    found = t0.play(everyone, prompts, repeats, seed, devices, brain, told=counter(repeats))
    rows = t0.table(everyone, found, seed, devices)
    made_by = rows[0]["versions"]
    said = (
        f"seed {seed}, {repeats} repeats, brain {brain}, org {made_by['org']}, a table of {made_by['rows']} rows; bpb"
    )
    again = ["org", "bench", "t0", *orgs, "--repeats", str(repeats), "--seed", str(seed)]
    again += ["--devices", str(devices)] * (devices != 8) + ["--brain", brain] * (brain != "offline")
    caption = benchpage.caption(again, said)
    if plot:
        benchplot.draw(Path(plot), everyone, found, rows, caption)
    if out:
        folder = made(out)
        benchplot.draw(folder / "t0.svg", everyone, found, rows, caption)
        table = benchpage.markdown(t0.HEAD, [t0.cells(row) for row in rows])
        benchpage.write(folder, "t0", rows, benchpage.page("T0", table, t0.missed(rows), caption, "t0.svg"))
    if is_json:
        print_json(rows)
        return
    show(rows)
    say(f"\n{said}")
    for line in t0.missed(rows):
        say(line)


def _t1(
    orgs: tuple[str, ...],
    is_json: bool,
    repeats: int,
    devices: int,
    brain: str,
    out: str | None,
    minutes: int,
    cores: int | None,
    trainer: str | None,
    seed: int,
    **_: Any,
) -> None:
    from org.bench import measure, t0, t1
    from org.cli import benchpage, benchplot
    from org.cli.tasks import INSTALLATION
    from org.team import roster

    code = Path(trainer).resolve() if trainer else measure.CODE
    if not (code / "train.py").is_file():
        raise BadInput(f"{code} is no trainer: it has no train.py; name a folder like nanochat/")
    folder = made(out) if out else cache() / f"seed-{seed}"
    everyone = t0.named(INSTALLATION / "prompts", orgs or t1.DEFAULT, roster.org_hash, devices)
    setting = t1.Setting(INSTALLATION / "prompts", seed, brain, devices)
    tell(f"t1: runs are kept in {folder}; stop it when you like, the same command goes on")
    found, facts = t1.play(everyone, setting, folder, minutes, repeats, cores, code, told=tell)
    rows = t1.table(everyone, found, facts, setting)
    if len(facts["data"]) > 1:
        tell(
            f"t1: these runs read different corpora ({', '.join(facts['data'])}); give each --out folder one machine's runs"
        )
    said = (
        f"seed {seed}, {rows[0]['repeats']} repeats, {t1.RUNS} base runs of device-time an org, {t1.PAIRS} fresh seeds, "
        f"{t1.TOKENS} tokens a run, {facts['runs']} runs, {facts['core_s'] / 60:.0f} core-minutes; bpb"
    )
    again = ["org", "bench", "t1", *orgs, "--repeats", str(max(1, rows[0]["repeats"])), "--seed", str(seed)]
    again += ["--out", out] if out else []
    again += ["--devices", str(devices)] * (devices != 8) + ["--brain", brain] * (brain != "offline")
    again += ["--trainer", trainer] if trainer else []
    caption = benchpage.caption(again, said)
    benchplot.draw_t1(folder / "t1.svg", rows, caption)
    table = benchpage.markdown(t1.HEAD, [t1.cells(row) for row in rows])
    benchpage.write(folder, "t1", rows, benchpage.page("T1", table, t1.ordering(rows), caption, "t1.svg"))
    if is_json:
        print_json(rows)
        return
    say(view.table(t1.HEAD, [t1.cells(row) for row in rows], [None] * len(rows)))
    say(f"\n{said}")
    for line in t1.ordering(rows):
        say(line)
    say(f"rows, table and picture: {folder}/t1.json, t1.md, t1.svg")


def made(out: str) -> Path:
    """The folder that `--out` names, made where it is missing."""
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cache() -> Path:
    """Where T1 keeps its runs when nobody says: they are worth minutes, and belong to no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "org-bench"


def show(rows: list[dict[str, Any]]) -> None:
    """T0's rows as people read them."""
    from org.bench import t0

    say(view.table(t0.HEAD, [t0.cells(row) for row in rows], [None] * len(rows)))


def counter(repeats: int) -> Any:
    """Says now and then how many repeats are done."""

    def told(done: int) -> None:
        if done % max(1, repeats // 10) == 0:
            tell(f"{done} of {repeats} repeats")

    return told


def _stats(campaigns: int, seed: int, is_json: bool) -> None:
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


def _breaker(worlds: int, seed: int, is_json: bool) -> None:
    """Exit 0 whatever the rates are: they are for people to judge, and a line says where one misses its goal."""
    from org.bench import breaker

    found = breaker.cases(range(seed, seed + worlds), on_world=lambda world: tell(f"world {world}"))
    rows = breaker.table(found)
    if is_json:
        print_json({"seed": seed, "worlds": worlds, "rows": rows, "missed": breaker.missed(rows)})
        return
    say(view.table(breaker.HEAD, [breaker.cells(row) for row in rows], [None] * len(rows)))
    say(f"\nworlds {seed} to {seed + worlds - 1}, {breaker.EACH} spurious and {breaker.EACH} true claims each")
    for line in breaker.missed(rows):
        say(line)
