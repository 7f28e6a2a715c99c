"""`results`: every verdict as a table, as CSV, as JSON; `--predictions` scores them; `--check` holds ledger, record and result files against each other."""

from __future__ import annotations

import sys
from typing import Any

import click

from org.cli import view
from org.cli.verb import Call, as_json, pass_call, print_json, say, verb
from org.home import Home

HEAD = ("experiment", "verdict", "effect ± se", "z", "n", "program", "seat", "commit", "change")


@verb("results", "org results", "org results --csv", "org results --predictions", "org results --check --json")
@click.option("--check", is_flag=True, help="Compare ledger, record and result files; exit 1 when they disagree.")
@click.option("--csv", "is_csv", is_flag=True, help="As CSV.")
@click.option(
    "--predictions",
    is_flag=True,
    help="How good predictions were, by seat, backend, and author and source of ideas; and who refuted what.",
)
@click.option("--kept", is_flag=True, help="Only what was kept: wins, and changes shown to do no harm.")
@as_json
@pass_call
def results(call: Call, check: bool, is_csv: bool, predictions: bool, kept: bool, is_json: bool) -> int | None:
    """Every experiment with its verdict: effect (candidate - baseline) and its standard error, z, and tier."""
    from org.lab import fidelity, ledger

    home = call.home
    if check:
        return _check(fidelity.problems(home), len(ledger.read(home).rows), is_json)
    book = ledger.read(home)
    if predictions:
        _predictions(home, book, is_json)
        return None
    shown = rows(book)
    if kept:
        from org.records import KEPT

        # a win of an attack says that the claim stood, which is listed itself
        shown = [r for r in shown if r["verdict"] and r["verdict"]["outcome"] in KEPT]
        shown = [r for r in shown if not (r["retracted"] or r["refutes"])]
    if is_json:
        print_json(shown)
    elif is_csv:
        _print_csv(shown)
    elif not book.experiments:
        say("no experiment yet; `org launch` or `org run` makes some")
    else:
        from org import charter

        say(text(book, shown, charter.load(home).scale))
    return None


def text(book: Any, shown: list[dict[str, Any]], scale: str) -> str:
    """The table, and what it comes to. scale: the charter's; another one is named."""
    colours = [view.OUTCOME_COLOURS.get((row["verdict"] or {}).get("outcome", "")) for row in shown]
    table = view.table(HEAD, [_line(row, scale) for row in shown], colours) if shown else "nothing kept yet"
    return f"{table}\n\n{_summary(book)}"


def _summary(book: Any) -> str:
    from org.lab.tally import tally
    from org.words import counted

    told = tally(book)
    parts = [f"{told.runs} runs", f"{told.verdicts} verdicts", f"{told.wins} wins of which {told.verified} verified"]
    parts += [f"{told.controls} kept under a control"] if told.controls else []
    # a stack is no win of its own, and its members are tentative until their removal is measured: the table shows it verified
    parts += [f"{counted(told.verifications, 'verification')}, {told.passed} passed"] if told.verifications else []
    parts += [f"{told.credited} members of stacks credited"] if told.credited else []
    parts += [f"{told.retracted} retracted"] if told.retracted else []
    return ", ".join(parts)


def rows(book: Any) -> list[dict[str, Any]]:
    """The rows of `--json`: every experiment, oldest first; one without a verdict has null."""
    from org.cli.run import verdict_row
    from org.evidence import ladder, stack, standing

    ended = standing.standings(book.experiments, book.verdicts)
    credits = stack.credits(book.moves)
    retests = ladder.retests(book.experiments, book.verdicts)
    return [
        {
            "experiment": name,
            "program": contract.program,
            "seat": contract.seat,
            "commit": contract.commit,
            "baseline": contract.baseline_commit,
            "description": contract.description,
            "claim": contract.claim,
            "control": contract.control or None,
            "expect": contract.expect,
            "idea": contract.idea,
            "knobs": [{"name": knob.name, "old": knob.old, "new": knob.new} for knob in contract.knobs],
            "verdict": verdict_row(book.verdicts.get(name)),
            "stage": contract.stage,
            "members": list(contract.members),
            "credit": _credit_row(credits.get(name)),
            "promotes": contract.promotes,
            "refutes": contract.refutes,
            "attack": contract.attack or None,
            "refutation": ended[name].to_dict() if name in ended else None,
            "withstood": ended[name].said if name in ended else "",
            "scale": contract.scale,
            "retests": [
                {"experiment": r.experiment, "scale": r.scale, "state": r.state} for r in retests.get(name, ())
            ],
            "retracted": name in book.retracted,
            "owes": ladder.owes(contract, book.verdicts.get(name), retests.get(name, ())),
            "on_the_ladder": ladder.said(retests.get(name, ()), book.retracted.get(name)),
        }
        for name, contract in book.experiments.items()
    ]


def _credit_row(credit: Any) -> dict[str, Any] | None:
    """What leave-one-out found a member of a passed stack to be worth; None for what is in no such stack."""
    if credit is None:
        return None
    return {name: getattr(credit, name) for name in ("experiment", "outcome", "effect", "se", "z")}


CREDITS = {"helps": "credited in {}", "inert": "left {}", "unknown": "in {}, no credit"}


def _line(row: dict[str, Any], scale: str = "") -> list[str]:
    """scale: the charter's, where one that differs is to be named."""
    verdict = row["verdict"] or {}
    marks = [m for m in (verdict.get("tier"), "reported" if verdict.get("trust") == "reported" else None) if m]
    if row["credit"]:
        marks.append(CREDITS[row["credit"]["outcome"]].format(row["credit"]["experiment"]))
    is_out = any(test["state"] == "fell" for test in row["retests"])
    marks += [*row["on_the_ladder"], *([] if is_out else [f"owes {scale}" for scale in row["owes"]])]
    marks += [row["withstood"]] if row["withstood"] and not row["retracted"] else []
    marks += [f"at {row['scale']}"] if scale and row["scale"] != scale else []
    said = verdict.get("outcome", "open") + (f" ({', '.join(marks)})" if marks else "")
    effect, se, z = verdict.get("effect"), verdict.get("se"), verdict.get("z")
    number = "-" if effect is None else f"{effect:+.4f}" + (f" ± {se:.4f}" if se is not None else "")
    count = str(verdict.get("n", "-"))
    shown_z = "-" if z is None else f"{z:.1f}"
    return [
        row["experiment"], said, number, shown_z, count, row["program"], row["seat"], row["commit"][:7], row["description"]
    ]  # fmt: skip


def _print_csv(shown: list[dict[str, Any]]) -> None:
    import csv

    from org.files import printable

    fields = ("outcome", "tier", "effect", "se", "z", "n", "matched_on", "trust")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    firsts = ["experiment", "program", "seat", "commit", "claim", "expect"]
    lasts = ["description", "stage", "scale", "control", "retracted", "promotes", "refutes", "attack"]
    writer.writerow([*firsts, *fields, *lasts])
    for row in shown:
        verdict = row["verdict"] or {}
        row = {**row, "description": " ".join(printable(row["description"]).split())}
        measured = [verdict.get(name) for name in fields]
        writer.writerow([*(row[name] for name in firsts), *measured, *(row[name] for name in lasts)])


def _predictions(home: Home, book: Any, is_json: bool) -> None:
    from org.evidence import predictions, standing
    from org.files import printable
    from org.team import ideas

    found = predictions.scores(book.experiments, book.verdicts, ideas.origins(home))
    attacks = standing.scores(book.experiments, book.verdicts, standing.fell(book.experiments, book.verdicts))
    if is_json:
        print_json([score.to_dict() for score in found] + [{"by": "attacks", **s.to_dict()} for s in attacks])
        return
    if not found:
        say("no prediction was scored yet; `org run --expect X` makes one")
    else:
        lines = [[s.by, printable(s.who, 60), str(s.n), predictions.signs(s), f"{s.error:.4f}"] for s in found]
        say(view.table(("by", "who", "n", "sign right", "mean abs error"), lines))
    if attacks:
        cells = [[printable(s.who, 60), *map(str, (s.tried, s.found, s.confirmed, s.missed))] for s in attacks]
        say("\nattacks on tentative wins")
        say(view.table(("who", "tried", "refuted", "stand", "of which fell later"), cells))


def _check(problems: list[dict[str, Any]], lines: int, is_json: bool) -> int | None:
    if is_json:
        print_json({"ok": not problems, "lines": lines, "problems": problems})
    else:
        for problem in problems:
            say(f"line {problem['line']}: {problem['what']}")
        say(f"{lines} ledger lines, {len(problems)} problems")
    return 1 if problems else None
