"""`standup`, `plot`, `brief`, `audit`: pages rendered from the ledger, and a text's numbers held against it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from org.cli import view
from org.cli.verb import HUMAN, Call, as_json, pass_call, print_json, say, verb
from org.errors import BadInput
from org.home import Home


@verb("standup", "org standup", "org standup now --json", "org standup review")
@click.argument("what", type=click.Choice(["show", "now", "review"]), default="show")
@as_json
@pass_call
def standup(call: Call, what: str, is_json: bool) -> None:
    """The newest morning page. `now` asks every seat, waits for the answers and makes today's; where no office runs it is
    made from the ledger. `review` opens your section of it in $EDITOR and says what was understood and who gets it."""
    from org.cli import review

    home = call.home
    if what == "review":
        call.require_person("the review section")
        review.review(home, latest(home) or _write(home), is_json)
        return
    asked: dict[str, object] = {}
    path = latest(home) if what == "show" else None
    if what == "now" and call.who == HUMAN:  # the questions are letters of the person's
        path, asked = review.ask(home)
    path = path or _write(home)
    text = path.read_text(encoding="utf-8", errors="replace")
    if is_json:
        print_json({"path": str(path), "text": text, **asked})
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
    """What a seat needs to begin or go on: task, place, budget, mail, what was tried, what is known, where the skills are.
    At most 1,250 tokens; what does not fit is counted, with the command that shows it. No letter is acknowledged."""
    import time

    from org import charter
    from org.lab import ledger
    from org.team import brief as briefs

    home, who = call.home, call.who
    page = briefs.page(home, ledger.read(home), charter.load(home), who, time.time())
    if is_json:
        print_json({"seat": who, "text": page.text, "cut": dict(page.cut)})
    else:
        say(page.text.rstrip("\n"))


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
