"""`send` and `inbox`: letters, which are files; they travel with no office running."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from org.cli.verb import HUMAN, Call, as_json, pass_call, print_json, say, verb
from org.errors import BadInput, OrgError
from org.failpoint import failpoint

if TYPE_CHECKING:
    from org.home import Home
    from org.records import Letter

SHOWN_AT_ONCE = 64 * 1024  # bytes: an agent that comes back to 500 letters must not lose its context window to them
MAX_WAIT_S = 7 * 24 * 3600.0


@verb("send", 'org send chief "try a longer warmdown first"', 'echo "a longer text" | org send all -')
@click.argument("to")
@click.argument("text", required=False)
@click.option("--kind", default="note", help="task, report, question, review or note.")
@click.option("--about", metavar="E0042", help="What it is about: an experiment, an idea.")
@click.option("--reply-to", metavar="ID", help="The letter it answers: one you got, or wrote to them.")
@click.option("--wait", "wait_s", type=float, metavar="S", help="Answer when it was read, or after S seconds.")
@as_json
@pass_call
def send(
    call: Call,
    to: str,
    text: str | None,
    kind: str,
    about: str | None,
    reply_to: str | None,
    wait_s: float | None,
    is_json: bool,
) -> None:
    """Write to TO: a seat, a role, all, council or human. Without TEXT, or with -, the text is read from stdin. Says what
    became of it: processed (read), accepted, queued or refused, and why. A task about an idea needs an objection on its page."""
    from org.team import delivery, envelope, ideapage, mail

    try:
        if kind == "task" and ideapage.IDEA.fullmatch(about or ""):
            from org.team import ideas

            ideas.check_assignable(call.home, str(about))
        limit_s = _seconds(wait_s or 0.0)
        body = _body(text, envelope.MAX_BODY_BYTES)
        try:
            letters, missed = mail.send(call.home, call.who, to, body, kind=kind, about=about, reply_to=reply_to), None
        except mail.Undelivered as error:
            letters, missed = error.sent, error
            if not letters:
                raise
        if not letters:
            raise BadInput(f"nobody else is there: '{to:.40}' names only who writes; write to human")
    except OrgError as error:
        if is_json:
            print_json({"id": None, "delivery": "refused", "reason": str(error), "to": [], "boxes": []})
            raise
        error.args = (f"refused: {error}",)
        raise
    number, names = letters[0].id, [letter.to for letter in letters]
    rows = delivery.follow(call.home, number, names, limit_s) if limit_s else delivery.look(call.home, number, names)
    rows += [delivery.Delivery(box, "refused", why) for box, why in (missed.missed if missed else {}).items()]
    all_of_it = delivery.of_all(rows)
    if is_json:
        row = {"id": number, "delivery": all_of_it.word, "reason": all_of_it.reason, "to": names}
        print_json({**row, "boxes": [one.to_json() for one in rows]})
    else:
        say(f"{number} to {', '.join(names)}: {all_of_it.word} ({all_of_it.reason})")
    if missed:
        raise missed


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
    """Your letters, oldest first, 64 KB of them at a time; reading acknowledges. With ID: one letter, whole, read before or not."""
    from org.team import arrival, boxes, mail

    home, box = call.home, call.who
    limit_s = _seconds(wait_s or 0.0)

    def look() -> list[Letter]:
        if letter is None:
            return mail.peek(home, box, is_tidy=not peek)
        found = mail.find(home, box, letter)
        return [found] if found else []

    with arrival.awaited(home, box, look, limit_s), boxes.reading(home, box):
        letters = look()  # another reader may have been first; shown, then acknowledged, so that a kill loses nothing
        if letter is not None and not letters:
            raise BadInput(f"{box} has no letter {letter:.40}; `org inbox` lists what is new")
        if letter is None and not is_json:
            letters = _fitting(letters)
        _print(home, box, letters, is_json, None if letter is not None else "new" if peek else "cur")
        failpoint("inbox.shown")
        for one in letters if not peek else ():
            mail.acknowledge(home, box, one.id)


def _print(home: Home, box: str, letters: list[Letter], is_json: bool, folder: str | None) -> None:
    """All of them, out of this process before it returns. folder: where they lie afterwards; None shows long ones whole."""
    from org.team import envelope, mail

    if box == HUMAN:
        letters = _rendered(home, letters)
    if is_json:
        print_json([envelope.to_json(one) for one in letters])
    elif not letters:
        say(f"no new letter for {'you' if box == HUMAN else box}")
    else:
        say("\n\n".join(_shown(home.mailbox(box) / folder, one) if folder else envelope.show(one) for one in letters))
        if folder and (left := mail.waiting(home, box) - len(letters)) > 0:
            say(
                f"\n[{left} letter{'s' if left > 1 else ''} more, which wait: `org inbox` shows them when these are read]"
            )
    sys.stdout.flush()


def _fitting(letters: list[Letter]) -> list[Letter]:
    """As many, oldest first, as one reading shows; the others stay unread."""
    from org.team import envelope

    kept, size = 0, 0
    for letter in letters:
        size += min(len(letter.body.encode()), envelope.SHOWN_BYTES)
        if kept and size > SHOWN_AT_ONCE:
            break
        kept += 1
    return letters[:kept]


def _body(text: str | None, most: int) -> str:
    """The text, byte for byte: a line end stays what it is, and what is no UTF-8 is refused rather than mended."""
    data = sys.stdin.buffer.read(most + 1) if text in (None, "-") else os.fsencode(str(text))
    if len(data) > most:
        raise BadInput(
            f"the letter has more than {most // 1024} KB, the limit; put the text into a file and send its path"
        )
    try:
        body = data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"the letter is no UTF-8 text (byte {error.start}); put it into a file and send its path"
        ) from None
    if not body.strip():
        raise BadInput('the letter is empty; write org send TO "text"')
    return body


def _seconds(wait_s: float) -> float:
    if not 0 <= wait_s <= MAX_WAIT_S:  # not a number is in no range
        raise BadInput(f"--wait {wait_s:g} is not allowed; use seconds from 0 to {MAX_WAIT_S:.0f}")
    return wait_s


def _shown(folder: Path, letter: Letter) -> str:
    """The letter for a terminal; of a long one the beginning, how much there is more, and where all of it is."""
    from dataclasses import replace

    from org.team import envelope

    head, rest = envelope.split(letter.body)
    if not rest:
        return envelope.show(letter)
    from org.files import printable
    from org.team import tokens  # 20 ms, which only a long letter is worth

    more = f"{len(rest.encode()):,} bytes more, about {tokens.count(rest):,} tokens"
    whole = printable(str(folder / f"{letter.id}.md")).replace("\n", "\N{REPLACEMENT CHARACTER}")
    shown = envelope.show(replace(letter, body=head)).rstrip("\n")
    return f"{shown}\n[{more}: `org inbox {letter.id}` shows all of it; the file is {whole}]"


def _rendered(home: Home, letters: list[Letter]) -> list[Letter]:
    """What a person reads has its citations filled in and its numbers held against the ledger."""
    from dataclasses import replace

    from org.team import prose

    if not letters:
        return []
    reader = prose.reader(home)
    return [replace(letter, body=reader.read(letter.body)) for letter in letters]
