"""`refute`: attack a tentative win and follow it, attack by attack. The lab decides what breaks it; here it is only shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from org.cli.run import document, follow_up
from org.cli.verb import Call, as_json, pass_call, print_json, say, verb
from org.home import Home, check_experiment

if TYPE_CHECKING:
    from org.evidence.refute import Attack
    from org.records import Contract

RUN_HEAD = ("run", "seed", "status", "metric", "steps", "FLOPs", "params", "cpu s", "train s")


@verb("refute", "org refute E0042", "org refute E0042 --dry", "org refute E0042 --by without:WIDTH --no-wait")
@click.argument("experiment", metavar="E0042")
@click.option(
    "--by",
    "asked",
    default="",
    metavar="ATTACK",
    help="One attack: seeds, matched, without:KNOB, or retuned. Default: those left, the cheapest a chance first.",
)
@click.option("--dry", is_flag=True, help="Show claim, diff, raw runs and the attacks that are left; file nothing.")
@click.option("--no-wait", is_flag=True, help="File one attack and return; the answer comes as a letter.")
@as_json
@pass_call
def refute(call: Call, experiment: str, asked: str, dry: bool, no_wait: bool, is_json: bool) -> None:
    """Try to refute a tentative win, as cheaply as that can be: until an attack breaks it or it has stood them all. One
    that breaks is retracted."""
    from org.lab import ledger, refutations

    home, name = call.home, check_experiment(experiment)
    if dry:
        page = refutations.page(home, name)
        if asked:
            found = refutations.plan(home, book := ledger.read(home), _charter(home), name)
            page["attacks"] = [refutations.choice(book, found, asked).to_dict()]
        print_json(page) if is_json else say(text(page))
        return
    filed = []
    while True:
        contract = refutations.file(home, name, asked, call.who)
        filed.append(contract)
        _follow(home, contract, no_wait, is_json)
        if no_wait or asked or not _left(home, name):
            break
    if is_json:
        book = ledger.read(home)
        rows = [document(home, one, book.verdicts.get(one.experiment)) | {"attack": one.attack} for one in filed]
        line = book.retracted.get(name)
        print_json({"refutes": name, "attacks": rows, "why": line["why"] if line else None, **_ended(home, name)})
    elif not no_wait:
        say(f"{name} {_ended(home, name)['said'] or 'is not decided'}")


def _follow(home: Home, contract: Contract, no_wait: bool, is_json: bool) -> None:
    """To its verdict, and what follows from that."""
    from org.errors import RunFailed
    from org.lab import follow

    if not is_json:
        try:
            follow_up(home, contract, is_json, no_wait)
        except RunFailed as error:  # a crash on a fresh seed is an answer too
            say(f"  {error}")
    elif not no_wait:
        follow.drive(home, contract.experiment, lambda line: None)
    if not no_wait:
        follow.settle(home)


def _left(home: Home, name: str) -> list[Attack]:
    """The attacks that a claim still has to stand; none where it has fallen, by whatever hand."""
    from org.lab import ledger, refutations

    book = ledger.read(home)
    if name in book.retracted:
        return []
    found = refutations.plan(home, book, _charter(home), name)
    return [] if found.ended.outcome == "refuted" or found.under_way else found.left


def _ended(home: Home, name: str) -> dict[str, Any]:
    from org.evidence import standing
    from org.lab import ledger

    book = ledger.read(home)
    one = standing.standings(book.experiments, book.verdicts)[name]
    return {**one.to_dict(), "said": one.said}


def _charter(home: Home) -> Any:
    from org import charter

    return charter.load(home)


# --- the page ----------------------------------------------------------------------------------------------------


def text(page: dict[str, Any]) -> str:
    """The page for people and agents: claim, diff, runs, attacks."""
    knobs = ", ".join(f"{k['name']} {k['old']} to {k['new']}" for k in page["knobs"])
    effect = (
        f"effect {page['effect']:+.5f} ± {page['se']:.5f}, z {page['z']:.2f}, n {page['n']}, sigma {page['sigma']:.4g}"
    )
    equal = f"matched on {page['matched']}" + (f", control {page['control']}" if page["control"] else "")
    lines = [
        f"{page['experiment']} claims {page['claim']}: {effect} ({page['metric']}; {page['scale']}, {equal})",
        *([f"knobs: {knobs}"] if knobs else []),
        "",
        "diff, without comments:",
        *(f"  {line}" for line in page["diff"]),
        *([f"  … {page['diff_left_out']} lines more"] if page["diff_left_out"] else []),
        "",
        "runs:",
        *(f"  {line}" for line in _runs(page)),
        *([f"  … {page['runs_left_out']} earlier ones"] if page["runs_left_out"] else []),
        "",
        *(["attacks made:", *(f"  {t['experiment']} {t['attack']}: {t['state']}" for t in page["trials"])] if page["trials"] else []),
        "attacks left, the best first:" if page["attacks"] else "no attack is left",
        *(f"  {a['name']}: {a['asks']} about {a['runs']} runs, chance {a['chance']:.0%}" for a in page["attacks"]),
    ]  # fmt: skip
    return "\n".join(lines)


def _runs(page: dict[str, Any]) -> list[str]:
    from org.cli import view

    fields = ("run", "seed", "status", "metric", "steps", "flops", "params", "cpu_s", "train_s")
    cells = [
        ["-" if (v := run[f]) is None else f"{v:.6g}" if isinstance(v, float) else str(v) for f in fields]
        for run in page["runs"]
    ]
    return view.table(RUN_HEAD, cells, [None] * len(cells)).splitlines()
