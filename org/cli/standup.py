"""`standup`, `plot`, `brief`, `audit`: pages rendered from the ledger, and a text's numbers held against it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from org.cli import view
from org.cli.verb import HUMAN, Call, as_json, pass_call, print_json, say, verb
from org.errors import BadInput
from org.home import Home

if TYPE_CHECKING:
    from org.lab.ledger import Book
    from org.records import Contract


@verb("standup", "org standup", "org standup now --json")
@click.argument("what", type=click.Choice(["show", "now"]), default="show")
@as_json
@pass_call
def standup(call: Call, what: str, is_json: bool) -> None:
    """The newest morning page; `now` makes today's from the ledger. What stands below `## Review` in it is kept."""
    home = call.home
    path = latest(home) if what == "show" else None
    path = path or _write(home)
    text = path.read_text(encoding="utf-8", errors="replace")
    if is_json:
        print_json({"path": str(path), "text": text})
    else:
        say(text.rstrip("\n"))
        say(f"\n{path}")


def latest(home: Home) -> Path | None:
    pages = sorted(home.standups.glob("[0-9]*.md")) if home.standups.is_dir() else []
    return pages[-1] if pages else None


def _write(home: Home) -> Path:
    from org import charter, files
    from org.lab import ledger
    from org.team import standup as pages

    return pages.write(home, ledger.read(home), charter.load(home), files.utc_now(), {})


@verb("plot", "org plot")
@as_json
@pass_call
def plot(call: Call, is_json: bool) -> None:
    """Draw the progress from the ledger: every run a dot, the running best a line. SVG and PNG."""
    from org import charter
    from org.cli.plot import draw
    from org.lab import ledger

    home = call.home
    paths = [str(path) for path in draw(home, ledger.read(home), charter.load(home))]
    if is_json:
        print_json(paths)
    else:
        say("\n".join(paths))


@verb("brief", "org brief", "org --seat j1 brief --json")
@as_json
@pass_call
def brief(call: Call, is_json: bool) -> None:
    """What a seat needs to begin or go on: task, place, what was learned, what waits. At most a page."""
    from org import charter, files
    from org.lab import ledger
    from org.team import mail

    home, who = call.home, call.who
    rules, book = charter.load(home), ledger.read(home)
    row = files.read_json(home.seat_file(who)) if who != HUMAN else None
    lines = [f"# {who}", "", view.cut(rules.task, 600), ""]
    if row:
        lines.append(f"You are {who} ({row['role']}) on program {row['program']}, worktree {row['worktree']}.")
    lines.append(f"Edit {', '.join(rules.editable)}; frozen: {', '.join(rules.frozen) or 'nothing else'}.")
    lines.append(f"The rules are in {home.charter}.")
    lines.append(
        f"Metric {rules.metric.name}, {rules.metric.direction} is better; letters waiting: {mail.waiting(home, who)}."
    )
    open_ones = [c for c in book.open() if who in (HUMAN, c.seat)]
    done = [
        c for name, c in book.experiments.items() if name in book.verdicts and (not row or c.program == row["program"])
    ]
    lines += ["", "## Learned", *(_learned(book, c) for c in done[-12:])]
    lines += ["", "## Waiting", *(f"- {c.experiment} {view.cut(c.description, 120)}" for c in open_ones[-8:])]
    lines += ["", 'File an experiment: org run -m "why" --expect X. Read your mail: org inbox.']
    text = "\n".join(lines)
    if is_json:
        print_json({"seat": who, "text": text})
    else:
        say(text)


def _learned(book: Book, contract: Contract) -> str:
    verdict, gone = book.verdicts[contract.experiment], book.retracted.get(contract.experiment)
    later = f", retracted at {gone['scale']} by {gone['experiment']}" if gone else ""
    said = f"{view.outcome(verdict)} {view.effect(verdict)}{later}"
    return f"- {contract.experiment} {said}: {view.cut(contract.description, 120)}"


@verb("audit", "org audit comms/standup/2026-03-01.md", "org audit report.md --json")
@click.argument("file")
@as_json
@pass_call
def audit(call: Call, file: str, is_json: bool) -> int | None:
    """Mark every number in FILE (- for stdin) that the ledger does not support. Exit 1 when there is one.

    A line is judged by the experiments it names; a page that the org made has no mark.
    """
    from org import files
    from org.team import prose

    try:
        text = sys.stdin.read() if file == "-" else files.read_plain(Path(file)).decode(errors="replace")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise BadInput(f"{file} is no file; name a text to check, or - for stdin") from None
    marks = prose.reader(call.home).marks(text)
    if is_json:
        rows = [{"line": m.line, "text": m.text, "kind": m.kind, "ledger": m.ledger} for m in marks]
        print_json({"ok": not marks, "marks": rows})
    else:
        for m in marks:
            say(
                f"{file}:{m.line}: {view.cut(m.text, 80)} is {m.kind}"
                + (f"; the ledger: {m.ledger}" if m.ledger else "")
            )
        say(f"{len(marks)} marks")
    return 1 if marks else None
