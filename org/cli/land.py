"""`land`: a program's verified work as a branch of the person's own repository. Theirs to ask for, no agent's."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from org.cli.verb import Call, as_json, pass_call, print_json, say, verb

if TYPE_CHECKING:
    from org.lab.book import Book
    from org.lab.land import Landing
    from org.records import Charter


@verb("land", "org land optimizer", "org land main --dry", "org land main --branch faster --json")
@click.argument("program")
@click.option("--branch", metavar="NAME", help="The branch to make, or to continue. [org/PROGRAM]")
@click.option("--dry", is_flag=True, help="Say what would land; make nothing.")
@as_json
@pass_call
def land(call: Call, program: str, branch: str | None, dry: bool, is_json: bool) -> None:
    """Bring PROGRAM's verified head back as a branch on top of your last commit. Your files, HEAD and index stay."""
    from org.lab import land as landings
    from org.lab import ledger

    home = call.home
    call.require_person("landing")
    landing = landings.land(home, program, branch, dry, call.who)
    if is_json:
        print_json(document(landing, ledger.read(home)))
    else:
        from org import charter

        _print(landing, ledger.read(home), charter.load(home))


def document(landing: Landing, book: Book) -> dict[str, Any]:
    """The `--json` of section 12; `status` is made, there, nothing or dry."""
    return {
        "program": landing.program,
        "branch": landing.branch,
        "commit": landing.commit,
        "report": str(landing.report) if landing.report else None,
        "experiments": [_row(book, change.commit, step) for change in landing.changes for step in change.steps],
        "files": list(landing.files),
        "status": landing.status,
        "on": landing.on,
        "differs": [{"file": path, "why": why} for path, why in landing.differs],
        "notices": list(landing.notices),
    }


def _row(book: Book, commit: str, step: Any) -> dict[str, Any]:
    from org.cli.run import verdict_row
    from org.evidence import stack

    credits = stack.credits(book.moves)
    members = [
        {
            "experiment": name,
            "description": book.experiments[name].description,
            "credit": {key: getattr(credits[name], key) for key in ("outcome", "effect", "se", "z")}
            if name in credits
            else None,
            "retracted": _retracted(book, name),
        }
        for name in step.members
    ]
    verdict = verdict_row(book.verdicts[step.experiment])
    return {
        "experiment": step.experiment,
        "commit": commit,
        "verdict": verdict,
        "members": members,
        "removed": list(step.removed),
        "retracted": _retracted(book, step.experiment),
    }


def _retracted(book: Book, name: str) -> dict[str, Any] | None:
    """By which re-test, at which scale, and what that measured; None for what stands."""
    row = book.retracted.get(name)
    if row is None:
        return None
    verdict = book.verdicts.get(str(row.get("experiment")))
    measured = {key: getattr(verdict, key, None) for key in ("outcome", "effect", "se", "z", "n")}
    return {"experiment": row.get("experiment"), "scale": row.get("scale"), **measured}


def _print(landing: Landing, book: Book, charter: Charter) -> None:
    from org.lab.landtext import numbers, one_line, taken_back

    top, branch = one_line(str(landing.place.top), 300), landing.branch
    if landing.status == "nothing":
        _say_notices(landing)
        say(f"{landing.on[:7]} of {top} holds everything verified in {landing.program}; nothing was made")
        return
    done = {"made": "is at", "there": "is there already, at", "dry": "would be at"}[landing.status]
    say(f"{branch} of {top} {done} {landing.commit[:7]}, on {landing.on[:7]}")
    for change in landing.changes:
        for step in change.steps:
            verdict = book.verdicts[step.experiment]
            said = f"{numbers(verdict, charter.metric.name)} (verified, {verdict.trust})"
            say(f"  {change.commit[:7]} {step.experiment} of {', '.join(step.members)}: {said}")
            for name in (step.experiment, *step.members):
                if back := taken_back(book, charter, name):
                    say(f"  {name} was {back}")
    for name in landing.files:
        say(f"  {one_line(name, 200)}")
    for name, why in landing.differs:
        say(f"  not as measured: {one_line(name, 200)}: {why}")
    _say_notices(landing)
    if landing.report:
        say(f"  {landing.report}")
        name = shlex.quote(branch)
        say(f"git diff {landing.on[:7]} {name} shows it, git merge {name} takes it")
    else:
        say("nothing was made")


def _say_notices(landing: Landing) -> None:
    for notice in landing.notices:
        say(f"  {notice}")
