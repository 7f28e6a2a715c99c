"""`idea` and `wiki`: what people and seats think of, and what the org knows beyond its tables. Pages, which anyone may edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from org.cli import view
from org.cli.verb import HUMAN, Call, as_json, pass_call, print_json, say, tell, verb
from org.errors import BadInput, Refused

if TYPE_CHECKING:
    from org.home import Home


@verb(
    "idea",
    'org idea "share the embedding with the head: fewer parameters, the same loss" --expect -0.003',
    "org idea I0007",
    'org idea I0007 --object "its gain is the learning rate that comes along"',
    "org idea --json",
)
@click.argument("text", nargs=-1)
@click.option("--source", metavar="WHAT", help="What it came from: human, a seat, a paper's or a wiki page's file.")
@click.option("--mechanism", metavar="TEXT", help="What happens in training that is better afterwards.")
@click.option("--expect", type=float, metavar="X", help="The predicted change of the metric, as in -0.003.")
@click.option("--cost", metavar="TEXT", help="What it is predicted to cost: runs, step time, memory, lines.")
@click.option("--object", "objection", metavar="TEXT", help="The strongest objection to it.")
@click.option("--dead", metavar="WHY", help="Give idea I0007 up; the person's and the chief's word.")
@as_json
@pass_call
def idea(
    call: Call,
    text: tuple[str, ...],
    source: str | None,
    mechanism: str | None,
    expect: float | None,
    cost: str | None,
    objection: str | None,
    dead: str | None,
    is_json: bool,
) -> None:
    """Add an idea; without TEXT list them, with I0007 show that one, object to it or give it up. An idea is tested by
    `org run --idea I0007`."""
    from org.team import ideapage

    number = text[0] if len(text) == 1 and ideapage.IDEA.fullmatch(text[0]) else None
    fields = {"source": source, "mechanism": mechanism, "expect": expect, "cost": cost}
    if number is not None:
        if given := [f"--{name}" for name, value in fields.items() if value is not None]:
            raise click.UsageError(f"{given[0]} is said when an idea is added; afterwards edit the page of {number}")
        _change(call, number, objection, dead)
        _show(call, number, is_json)
    elif dead is not None:
        raise click.UsageError('--dead ends one idea: org idea I0007 --dead "why"')
    elif text:
        _add(call, " ".join(text), objection, is_json, **fields)
    elif any(value is not None for value in (*fields.values(), objection)):
        raise click.UsageError('these options are for an idea: org idea "text" --expect -0.003')
    else:
        _list(call, is_json)


def _add(call: Call, text: str, objection: str | None, is_json: bool, **fields: Any) -> None:
    from org.lab import ledger
    from org.team import ideapage, ideas

    if fields["expect"] is not None and not -1e9 < fields["expect"] < 1e9:
        raise BadInput("--expect is the predicted change of the metric: a finite number such as -0.003")
    home, book, who = call.home, ledger.read(call.home), call.who
    source = _source(home, fields.pop("source") or who)
    like = ideas.alike(home, text, book)
    if objection is not None:
        fields |= {"objection": objection, "objection_by": who}
    number = ideas.add(home, text, source, who, like, **fields)
    rows = {row["id"]: row for row in ideas.list_ideas(home, book)} if like else {}
    said = [ideapage.line(ideas.said(name, rows, book), 200) for name in like]
    if is_json:
        print_json(
            {"idea": number, "like": [{"id": name, "said": words} for name, words in zip(like, said, strict=True)]}
        )
        return
    say(number)
    if said:
        insist = f'org send chief --about {number} "…"'
        why = (
            f"the chief leaves it unless you insist: {insist}" if rows[number]["repeats"] else "nobody has tried it yet"
        )
        tell(f"org: {number} is like {'; '.join(said)}; {why}")


def _source(home: Home, named: str) -> str:
    """A paper or a wiki page by its place in the home, however its file was named; other words as they are."""
    from pathlib import Path

    from org.team import ideapage

    for folder in (home.papers, home.wiki):
        path = folder / Path(named).name
        if named.endswith(".md") and path.is_file():
            return f"{folder.name}/{path.name}"
    source = ideapage.line(named)
    if not source:
        raise BadInput("--source is empty; name a person, a seat or a file")
    return source


def _change(call: Call, number: str, objection: str | None, dead: str | None) -> None:
    from org.team import ideas

    home, who = call.home, call.who
    if dead is not None:
        _check_may_end(call)
    if objection is not None:
        before = ideas.object_to(home, number, objection, who)
        if before not in ("", who):
            tell(f"org: it replaces the objection of {before}")
    if dead is not None:
        ideas.bury(home, number, dead, who)


def _check_may_end(call: Call) -> None:
    """An idea is anybody's to doubt, and the person's and the chief's to end."""
    from org.team import seats

    if call.who != HUMAN:
        seat = seats.load(call.home, call.who)
        if seat is None or not seat.role.startswith("chief"):
            raise Refused(
                "--dead is the person's and the chief's word; object to it with `org idea I0007 --object TEXT`"
            )


def _show(call: Call, number: str, is_json: bool) -> None:
    from org.lab import ledger
    from org.team import ideas, prose

    home = call.home
    ideas.find(home, number)
    book = ledger.read(home)
    rows = {row["id"]: row for row in ideas.list_ideas(home, book)}
    row = rows[number]
    if is_json:
        print_json(row)
        return
    from org.files import printable

    reader = prose.reader(home)
    say(f"{number}  {_status(row)}  {printable(row['path'])}")
    for name, value in (("source", row["source"]), ("author", row["author"]), ("written", row["created"])):
        if value:
            say(f"  {name:10} {value}")
    if row["expect"] is not None:
        say(f"  {'predicts':10} {row['expect']:+g}")
    for name, key in (("mechanism", "mechanism"), ("cost", "cost"), ("objection", "objection"), ("dead", "dead")):
        by = f" ({row[f'{key}_by']})" if row.get(f"{key}_by") else ""
        if row[key]:
            say(f"  {name:10} {reader.read(row[key])}{by}")
    for name in row["like"]:
        say(f"  {'like':10} {ideas.said(name, rows, book)}")
    for test in row["experiments"]:
        say(f"  {'tested':10} {ideas.said(test['experiment'], {}, book)}")
    say(f"\n{printable(row['text'])}")


def _list(call: Call, is_json: bool) -> None:
    from org.team import ideas

    found = sorted(ideas.list_ideas(call.home), key=ideas.order)
    if is_json:
        print_json(found)
    elif found:
        rows = [[i["id"], _status(i), _whose(i), _tests(i), i["title"]] for i in found]
        say(view.table(("idea", "status", "source", "tested", "title"), rows))
    else:
        say('no idea yet; add one with org idea "text"')


def _status(idea: dict[str, Any]) -> str:
    """`parked: j1 asks you in l-…`, which `org send j1 --reply-to l-… TEXT` ends."""
    if idea["status"] == "parked":
        return f"parked: {idea['parked_by']} asks you in {idea['letter']}"
    return f"assigned to {idea['assigned_to']}" if idea["status"] == "assigned" else str(idea["status"])


def _whose(idea: dict[str, Any]) -> str:
    author = idea["author"]
    return str(idea["source"]) + (f" by {author}" if author not in ("", idea["source"]) else "")


def _tests(idea: dict[str, Any]) -> str:
    """`E0004 win, E0007 null`; what it repeats where nothing tested it."""
    tested = ", ".join(f"{test['experiment']} {test['outcome'] or 'runs'}" for test in idea["experiments"][-2:])
    return tested or (f"like {', '.join(idea['repeats'][-2:])}" if idea["repeats"] else "-")


@verb(
    "wiki",
    'org wiki "Muon wants a warm-up only above depth 12 (E0017)"',
    'org wiki --kind dead-end "WARMDOWN_FRAC above 0.8 hurts (E0021, E0024)"',
    "org wiki find muon warmup",
)
@click.argument("words", nargs=-1)
@click.option(
    "--kind", metavar="KIND", default="", help="finding, dead-end or open-question; by the first line when left out."
)
@as_json
@pass_call
def wiki(call: Call, words: tuple[str, ...], kind: str, is_json: bool) -> None:
    """Add a page, or `find` the pages that hold every word; without words list them. What the ledger or an older page says
    otherwise is named and stays with the page; `{E0042.effect}` becomes what the ledger has."""
    from org import charter
    from org.team import prose
    from org.team import wiki as pages

    home = call.home
    reader = prose.reader(home)
    if words and words[0] != "find":
        text = " ".join(words)
        marks = [
            f"{view.cut(mark.text, 80)} is {mark.kind}" + (f"; the ledger: {mark.ledger}" if mark.ledger else "")
            for mark in reader.marks(text)
        ]
        marks += pages.doubts(home, text, reader.book, charter.load(home).knobs, kind)
        path = pages.add(home, reader.read(text), call.who, kind, marks)
        for mark in marks:
            tell(f"org: {mark}")
        if is_json:
            print_json({"path": str(path), "marks": marks})
        else:
            say(str(path))
        return
    found = pages.find(home, " ".join(words[1:]))
    for page in found:
        page["warnings"] = pages.warnings(page, reader.book)
    if is_json:
        print_json(found)
        return
    for page in found:
        origin = f", brought from {page['origin']}" if page["origin"] else ""
        # the numbers of another org are not this ledger's to judge
        excerpt = page["excerpt"] if page["origin"] else reader.read(page["excerpt"])
        say(f"{page['path']}  [{page['kind']}{origin}] {page['title']}\n    {excerpt}")
        for name, what in page["evidence"].items():
            say(f"    {name}: {what}")
        for warning in page["warnings"]:
            say(f"    ! {view.cut(warning, 300)}")
    if not found:
        say("no page")
