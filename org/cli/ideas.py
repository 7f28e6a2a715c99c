"""`idea` and `wiki`: what people and seats think of, and what the org knows beyond its tables. Pages, which anyone may edit."""

from __future__ import annotations

import click

from org.cli import view
from org.cli.verb import Call, as_json, pass_call, print_json, say, tell, verb


@verb("idea", 'org idea "share the embedding with the head: fewer parameters, the same loss"', "org idea --json")
@click.argument("text", nargs=-1)
@as_json
@pass_call
def idea(call: Call, text: tuple[str, ...], is_json: bool) -> None:
    """Add an idea; without TEXT list them. An idea is tested by `org run --idea I0007`."""
    from org.team import ideas

    home = call.home
    if text:
        number = ideas.add(home, " ".join(text), call.who)
        if is_json:
            print_json({"idea": number})
        else:
            say(number)
        return
    found = ideas.list_ideas(home)
    if is_json:
        print_json(found)
    elif found:
        say(
            view.table(
                ("idea", "status", "source", "title"), [[i["id"], i["status"], i["source"], i["title"]] for i in found]
            )
        )
    else:
        say('no idea yet; add one with org idea "text"')


@verb("wiki", 'org wiki "Muon wants a warm-up only above depth 12 (E0017)"', "org wiki find muon warmup")
@click.argument("words", nargs=-1)
@as_json
@pass_call
def wiki(call: Call, words: tuple[str, ...], is_json: bool) -> None:
    """Add a page, or `find` the pages that hold every word; without words list them. Numbers that the ledger does not
    carry are marked on the page; `{E0042.effect}` becomes what it has."""
    from org.team import prose
    from org.team import wiki as pages

    home = call.home
    reader = prose.reader(home)
    if words and words[0] != "find":
        text = " ".join(words)
        for mark in reader.marks(text):
            tell(
                f"org: {view.cut(mark.text, 80)} is {mark.kind}"
                + (f"; the ledger: {mark.ledger}" if mark.ledger else "")
            )
        path = pages.add(home, reader.read(text), call.who)
        if is_json:
            print_json({"path": str(path)})
        else:
            say(str(path))
        return
    found = pages.find(home, " ".join(words[1:]))
    if is_json:
        print_json(found)
    else:
        for page in found:
            say(f"{page['path']}  {page['title']}\n    {reader.read(page['excerpt'])}")
        if not found:
            say("no page")
