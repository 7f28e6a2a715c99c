"""`send` and `inbox`: letters, which are files; they travel with no office running."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from org.cli.verb import HUMAN, Call, as_json, pass_call, print_json, say, verb
from org.errors import BadInput

if TYPE_CHECKING:
    from org.home import Home
    from org.records import Letter

POLL_S = 0.5


@verb("send", 'org send chief "try a longer warmdown first"', 'echo "a longer text" | org send all -')
@click.argument("to")
@click.argument("text", required=False)
@click.option("--kind", default="note", help="task, report, question, review or note.")
@click.option("--about", metavar="E0042", help="What it is about: an experiment, an idea.")
@click.option("--reply-to", metavar="ID", help="The letter it answers.")
@as_json
@pass_call
def send(
    call: Call, to: str, text: str | None, kind: str, about: str | None, reply_to: str | None, is_json: bool
) -> None:
    """Write to TO: a seat, a role, all, council or human. Without TEXT, or with -, the text is read from stdin."""
    from org.team import mail

    body = sys.stdin.read(mail.MAX_BODY_BYTES + 1) if text in (None, "-") else text
    assert body is not None
    if not body.strip():
        raise BadInput('the letter is empty; write org send TO "text"')
    letters = mail.send(call.home, call.who, to, body, kind=kind, about=about, reply_to=reply_to)
    if is_json:
        number = letters[0].id if letters else None
        row = {
            "id": number,
            "delivery": "queued" if letters else "refused",
            "reason": None if letters else "nobody else is there",
        }
        print_json({**row, "to": [letter.to for letter in letters]})
    else:
        say(f"{letters[0].id} to {', '.join(letter.to for letter in letters)}" if letters else "nobody else is there")


@verb("inbox", "org inbox", "org inbox --wait 60", "org --seat j1 inbox --json")
@click.argument("letter", metavar="[ID]", required=False)
@click.option("--peek", is_flag=True, help="Show without acknowledging.")
@click.option(
    "--wait",
    "wait_s",
    type=float,
    metavar="S",
    is_flag=False,
    flag_value=3600.0,
    help="Wait up to S seconds for a letter.",
)
@as_json
@pass_call
def inbox(call: Call, letter: str | None, peek: bool, wait_s: float | None, is_json: bool) -> None:
    """Your letters, oldest first; reading acknowledges. With ID: one letter, read before or not."""
    from org.team import mail

    home, box = call.home, call.who
    if wait_s is not None:
        _wait(lambda: mail.waiting(home, box) > 0, wait_s)
    if letter is not None:
        found = mail.find(home, box, letter)
        if found is None:
            raise BadInput(f"{box} has no letter {letter:.40}; `org inbox` lists what is new")
        mail.acknowledge(home, box, letter)
        letters = [found]
    else:
        letters = mail.inbox(home, box, read=not peek)
    if box == HUMAN:
        letters = _rendered(home, letters)
    if is_json:
        print_json([mail.to_json(one) for one in letters])
    else:
        say("\n\n".join(mail.show(one) for one in letters) if letters else f"no new letter for {_name(box)}")


def _rendered(home: Home, letters: list[Letter]) -> list[Letter]:
    """What a person reads has its citations filled in and its numbers held against the ledger."""
    from dataclasses import replace

    from org.team import prose

    if not letters:
        return []
    reader = prose.reader(home)
    return [replace(letter, body=reader.read(letter.body)) for letter in letters]


def _wait(is_there: object, limit_s: float) -> None:
    """Look at the folder until a letter is there or the time is over."""
    import time

    assert callable(is_there)
    end = time.monotonic() + limit_s
    while not is_there() and time.monotonic() < end:
        time.sleep(min(POLL_S, max(0.0, end - time.monotonic())))


def _name(box: str) -> str:
    return "you" if box == HUMAN else box
