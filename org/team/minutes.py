"""What becomes of the answers to a process: the page that its `writes` names, and letters to whom it concerns.

Answers are quoted, with their numbers held against the ledger; who did not answer in time is named. Where answers were
ranked without names, the page keeps them under letters, with the tally, and says at its end who wrote which.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from org import files
from org.errors import OrgError
from org.home import Home
from org.team import mail, processes, ranking, roster
from org.team.processes import ANSWER_LIMIT, Ask
from org.team.prose import Reader, cell, quote

if TYPE_CHECKING:
    from pathlib import Path

SENDER = "office"
LETTER_BYTES = 32 * 1024  # of the answers in a letter; the page, or `comms/processes`, has all


def page(done: Ask, reader: Reader) -> str:
    """The Markdown page of a run that is over. Pure."""
    answers = done.past[0].answers
    sections = [f"# {done.process.capitalize()} {done.about}", f"_{_line(done)}_"]
    if done.subject:
        sections.append(f"About {done.subject}.")
    if done.question:
        sections.append(f"## Question\n\n{quote(done.question, ANSWER_LIMIT)}")
    if done.facts and not done.question:
        sections.append(f"## What was handed over\n\n{done.facts}")
    if len(done.script) < 2:
        sections += [f"## {cell(seat, 32)}\n\n{_read(text, reader)}" for seat, text in answers.items()]
        return "\n\n".join([*sections, *([] if answers else ["Nobody answered."])]) + "\n"
    labels = ranking.labels(_authors(done), f"{done.salt}:page")
    if (end := conclusion(done)) is not None:
        seat, text, against = end
        sections.append(f"## Synthesis\n\nBy {cell(seat, 32)}.\n\n{_read(_named(done, text, seat, labels), reader)}")
        if against:
            sections.append(f"## Dissent\n\n{_read(_named(done, against, seat, labels), reader)}")
    elif len(done.past) < len(done.script) or not done.past[-1].answers:
        sections.append("## Synthesis\n\nNone was written in time.")
    places = processes.places(done)
    if not _has_dissent(done) and len(places) > 1:
        last = places[-1].author
        why = f"Nobody wrote one down; the answer that was ranked last is {labels[last]}."
        sections.append(f"## Dissent\n\n{why}\n\n{_read(_answer_of(done, last), reader)}")
    if places:
        head = "| answer | mean place | times first | ranked by |\n|---|---|---|---|"
        rows = [f"| {labels[p.author]} | {p.mean:.2f} | {p.first} | {p.by} |" for p in places]
        sections.append("## Ranking\n\n" + "\n".join([head, *rows]))
    rounds = processes.answered(done)
    shown = [at for at in rounds if not processes.is_conclusion(done, at)]
    for at in shown:
        which = f", round {at + 1}" if len(shown) > 1 else ""
        said = [
            f"### Answer {labels[author]}\n\n{_read(done.past[at].answers[author], reader)}"
            for author in sorted(done.past[at].answers, key=lambda author: (len(labels[author]), labels[author]))
        ]
        sections.append("\n\n".join([f"## Answers{which}", *said]))
    remarks = sorted(
        _read(ranking.relabelled(text, past.labels.get(seat, {}), labels), reader)
        for at, past in enumerate(done.past)
        if at not in rounds
        for seat, text in past.answers.items()
    )
    if remarks:
        sections.append("\n\n".join(["## What was said of them", *remarks]))
    who = ", ".join(f"{label}: {cell(author, 32)}" for author, label in sorted(labels.items(), key=lambda row: row[1]))
    return "\n\n".join([*sections, f"## Who wrote what\n\n{who or 'Nobody answered.'}"]) + "\n"


def write(home: Home, done: Ask, reader: Reader) -> Path | None:
    """Put the page where `writes` says, whole or not at all; None where the process writes none."""
    if done.writes is None:
        return None
    path = home.root / done.writes
    files.replace(path, page(done, reader))
    return path


def conclusion(done: Ask) -> tuple[str, str, str] | None:
    """(who, what, the dissent that it keeps) of a last round that asked one seat alone, once it answered."""
    at = len(done.past) - 1
    if not processes.is_conclusion(done, at):
        return None
    [(seat, text)] = done.past[at].answers.items()
    return seat, *ranking.dissent(text)


# --- letters -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outgoing:
    """A letter to be sent, whole: a second sending of the same run has the same id."""

    id: str
    to: tuple[str, ...]
    kind: str
    about: str
    reply_to: str | None
    body: str


def letter(home: Home, done: Ask, reader: Reader) -> Outgoing | None:
    """What is told to whom: the asker; of an experiment its author and the chiefs; of a dry program the chiefs. A page by the
    clock that writes nothing goes to the chiefs too, or to the person where there is none; one that writes is told nobody."""
    if done.writes is not None and not done.occasion:
        return None
    here = roster.members(home)
    chiefs = [name for name, role in here.items() if roster.is_chief(role)]
    to = [done.asker] if done.asker else [*([done.author] if done.author in here else []), *(chiefs or ["human"])]
    if not done.past[0].answers and not done.asker:
        return None  # nobody has said anything, and nobody waits for it
    digest = hashlib.sha256(f"{done.about}:{done.salt}".encode()).hexdigest()[:20]
    lines = [f"{done.process.capitalize()}{f' on {done.subject}' if done.subject else ''}: {_line(done)}"]
    if (end := conclusion(done)) is not None:
        labels = ranking.labels(_authors(done), f"{done.salt}:page")
        lines.append(_read(_named(done, end[1], end[0], labels), reader))
        lines += ["Dissent:", _read(_named(done, end[2], end[0], labels), reader)] if end[2] else []
    else:
        for seat, text in done.past[0].answers.items() if len(done.script) < 2 else ():
            lines += [f"{seat}:", _read(text, reader)]
    if done.writes is not None:
        lines.append(f"All of it, with every answer: $ORG_HOME/{done.writes}")
    body = "\n\n".join(lines).encode()[:LETTER_BYTES].decode(errors="ignore") + "\n"
    kind = "report" if done.asker else "review"
    return Outgoing(f"told-{digest}", tuple(dict.fromkeys(to)), kind, done.subject or done.about, _reply(done), body)


def tell(home: Home, told: Outgoing) -> list[str]:
    """Send it to every box that has not got it; safe to repeat. Returns what could not be delivered."""
    problems = []
    for box in told.to:
        try:
            mail.send(home, SENDER, box, told.body, told.kind, told.about, told.reply_to, letter_id=told.id)
        except OrgError as error:
            problems.append(f"letter {told.id} to {box}: {error}")
    return problems


# --- parts -------------------------------------------------------------------------------------------------------


def _line(done: Ask) -> str:
    """Who asked, how many answered, and who did not in time."""
    asked = done.past[0].seats
    silent = missing(done)
    by = f" by {cell(done.asker, 32)}" if done.asker else ""
    count = f"{len(done.past[0].answers)} of {len(asked)} answered"
    left = f"; left out, no answer in time: {', '.join(cell(seat, 32) for seat in silent)}" if silent else ""
    return f"Asked {done.asked_at[:16].replace('T', ' ')} UTC{by}; {count}{left}."


def missing(done: Ask) -> list[str]:
    """Who was asked in some round and did not answer in time."""
    return list(dict.fromkeys(seat for said in done.past for seat in said.seats if seat not in said.answers))


def _reply(done: Ask) -> str | None:
    return done.question_letter or None


def _authors(done: Ask) -> list[str]:
    rounds = [at for at in processes.answered(done) if not processes.is_conclusion(done, at)]
    return list(dict.fromkeys(seat for at in rounds for seat in done.past[at].answers))


def _answer_of(done: Ask, author: str) -> str:
    """The last that an author answered himself."""
    said = [done.past[at].answers for at in processes.answered(done) if not processes.is_conclusion(done, at)]
    return next((answers[author] for answers in reversed(said) if author in answers), "")


def _has_dissent(done: Ask) -> bool:
    end = conclusion(done)
    return end is not None and bool(end[2])


def _named(done: Ask, text: str, seat: str, labels: dict[str, str]) -> str:
    """The words of a conclusion with the page's letters in the place of its reader's."""
    return ranking.relabelled(text, done.past[-1].labels.get(seat, {}), labels)


def _read(text: str, reader: Reader) -> str:
    return reader.read(quote(text, ANSWER_LIMIT))
