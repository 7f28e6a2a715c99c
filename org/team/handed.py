"""The facts that a page's `input` hands to who is asked: code, numbers and claims from the record, no proposer's words.

Each is bounded. What a seat wrote about its own experiment (why, description, letters) is in none but `ledger`, which is
the table that everybody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from org import files
from org.errors import OrgError
from org.evidence import contract as contracts
from org.home import Home
from org.records import Contract, Verdict
from org.team.occasions import Occasion
from org.team.prose import cell, quote
from org.world import git

if TYPE_CHECKING:
    from org.lab.book import Book

DIFF_LIMIT = 12_000  # characters
QUESTION_LIMIT = 8_000
RUNS, VERDICTS = 40, 30  # lines of a table
AXES = ("params", "flops", "tokens", "train_s")


def facts(home: Home, book: Book, names: tuple[str, ...], occasion: Occasion) -> str:
    """The facts named, as Markdown sections in the order named; what is no fact, a file, is left out."""
    contract, verdict = book.experiments.get(occasion.subject), book.verdicts.get(occasion.subject)
    parts = []
    for name in names:
        if name == "question" and occasion.question:
            parts.append(f"### Question\n\n{quote(occasion.question, QUESTION_LIMIT)}")
        elif name == "ledger":
            parts.append(f"### Ledger, the newest last\n\n{_ledger(book)}")
        elif contract is not None and name == "diff":
            parts.append(f"### Diff\n\n{_diff(home, contract)}")
        elif contract is not None and name == "claim":
            parts.append(f"### Claim\n\n{_claim(contract, verdict)}")
        elif contract is not None and name == "runs":
            parts.append(f"### Runs\n\n{_runs(book, contract, verdict)}")
    return "\n\n".join(parts)


def _diff(home: Home, contract: Contract) -> str:
    """What the candidate changes against its baseline, as code without comments and docstrings, which are words of the
    proposer; as indented text, so that nothing in it is read as ours."""
    old, new = contract.baseline_commit, contract.commit
    rest = f"All of it: `git --git-dir $ORG_HOME/comms/record.git diff {old[:12]} {new[:12]}`."
    try:
        paths = [path for _, path in git.diff_names(home.record, old, new)]
        before, after = git.read_files(home.record, old, paths), git.read_files(home.record, new, paths)
    except OrgError:
        return f"It cannot be read now. {rest}"
    lines: list[str] = []
    for path in paths:
        was, now = (side.get(path, b"").decode(errors="replace") for side in (before, after))
        lines += contracts.code_changes(path, was, now)
    text = files.printable("\n".join(lines), DIFF_LIMIT)
    shown = "\n".join(f"    {line}" for line in text.splitlines()) or "    (the same code)"
    return f"{shown}\n\n{rest}" if len(text) > DIFF_LIMIT or contracts.TOO_LONG in text else shown


def _claim(contract: Contract, verdict: Verdict | None) -> str:
    lines = [
        f"- {contract.experiment} claims `{contract.claim}` at scale {contract.scale}, {contract.matched} held equal"
    ]
    if contract.expect is not None:
        lines.append(f"- predicted {contract.expect:+.4f}")
    lines += [f"- {knob.name} {knob.old}→{knob.new}" for knob in contract.knobs]
    if contract.new_constants:
        lines.append(f"- new constants: {', '.join(contract.new_constants)}")
    lines.append(f"- {contract.lines_added} lines added, {contract.lines_removed} removed")
    if verdict is not None and verdict.effect is not None:
        se = f" ± {verdict.se:.4f}" if verdict.se is not None else ""
        z = f", z {verdict.z:.2f}" if verdict.z is not None else ""
        lines.append(
            f"- measured {verdict.effect:+.4f}{se}{z} over {verdict.n} runs: {verdict.outcome}, {verdict.tier}"
        )
    lines += [f"- {axis} {ratio:.2f}x the baseline's" for axis, ratio in _ratios(verdict).items()]
    return files.printable("\n".join(lines), 4000)


def _ratios(verdict: Verdict | None) -> dict[str, float]:
    """Axis -> candidate over baseline, of those that both arms report."""
    matching: Mapping[str, Mapping[str, float | None]] = verdict.matching if verdict is not None else {}
    found = {}
    for axis in AXES:
        sides = matching.get(axis) or {}
        base, own = sides.get("baseline"), sides.get("candidate")
        if base and own is not None:
            found[axis] = own / base
    return found


def _runs(book: Book, contract: Contract, verdict: Verdict | None) -> str:
    """Every run the verdict rests on, as it came."""
    names = verdict.runs if verdict is not None else ()
    runs = [book.results[name] for name in names if name in book.results]
    rows = ["| run | arm | seed | status | metric | steps | params | seconds |", "|---|---|---|---|---|---|---|---|"]
    for run in runs[:RUNS]:
        arm = (
            "baseline" if run.tree == contract.baseline_tree else "candidate" if run.tree == contract.tree else run.arm
        )
        metric = "-" if run.metric is None else f"{run.metric:.5f}"
        seconds = "-" if run.train_s is None else f"{run.train_s:.1f}"
        rows.append(
            f"| {run.run} | {arm} | {run.seed} | {run.status} | {metric} | {run.steps or '-'} | {run.params or '-'} | {seconds} |"
        )
    more = f"\n\n{len(runs) - RUNS} more: `org results --json`." if len(runs) > RUNS else ""
    return "\n".join(rows) + more if runs else "No run is on record."


def _ledger(book: Book) -> str:
    names = list(book.verdicts)[-VERDICTS:]
    lines = []
    for name in names:
        verdict, contract = book.verdicts[name], book.experiments.get(name)
        effect = "not measured" if verdict.effect is None else f"{verdict.effect:+.4f}"
        gone = ", retracted" if name in book.retracted else ""
        said = cell(contract.description, 90) if contract else "?"
        program = f"{contract.program}: " if contract else ""
        lines.append(
            f"- {name} {program}{said}: {verdict.outcome} {verdict.tier or ''} {effect}{gone}".replace("  ", " ")
        )
    return "\n".join(lines) or "No verdict yet."
