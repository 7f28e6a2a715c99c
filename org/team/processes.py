"""The org's recurring conversations: each time a page of `processes/` runs, seats are asked by letter and answer by letter,
round after round. The pages are `pages`, when they run is `occasions`, what becomes of the answers is `minutes`.

State is files: one JSON file each time a process ran, so whoever runs it may be killed in between and go on; each seat is
asked once a round. An edit of a page does not change a run under way. Decides nothing about research.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from org import files, times
from org.errors import BadInput, OrgError
from org.failpoint import failpoint
from org.home import Home
from org.records import Letter, Record
from org.team import envelope, mail, pages, ranking, roster
from org.team.occasions import Occasion
from org.team.pages import CHAIR, EVERYONE, OF_AUTHOR, PEER, Process
from org.team.prose import quote

ANSWER_LIMIT = 8_000  # characters of one answer that are kept here; the letter has all
HANDED_BYTES = 40_000  # of all answers together in one letter of a later round


@dataclass(frozen=True)
class Said(Record):
    """A round that is over. answers: seat -> text, cut; labels: reader -> author -> label, of what each was handed."""

    seats: tuple[str, ...]
    answers: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask(Record):
    """comms/processes/<name>-<stamp>.json: one time a process was run, and the round that is asked now."""

    process: str
    about: str  # "standup-2026-03-01-1": what replies name
    asked_at: str
    deadline: str  # of the round
    seats: tuple[str, ...]  # of the round
    letter: str  # id of the round's question, the same in every box
    body: str
    closed: str | None = None
    occasion: str = ""  # "tentative:E0042"; "" for the clock
    subject: str = ""
    author: str = ""
    asker: str = ""
    question_letter: str = ""
    question: str = ""
    facts: str = ""  # what was handed over, as it was then
    writes: str | None = None
    within_s: float = 0.0
    script: tuple[dict[str, Any], ...] = ()  # every round: who, body
    salt: str = ""  # labels are drawn from it
    bodies: dict[str, str] = field(default_factory=dict)  # of a later round: each seat's own
    labels: dict[str, dict[str, str]] = field(default_factory=dict)  # of a later round: reader -> author -> label
    past: tuple[Said, ...] = ()

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Ask:
        said = (Said.from_dict({**old, "seats": tuple(old["seats"])}) for old in row.get("past") or ())
        lists = {"seats": tuple(row["seats"]), "script": tuple(row.get("script") or ()), "past": tuple(said)}
        return super().from_dict({**row, **lists})

    @property
    def first(self) -> tuple[str, ...]:
        """Whom the first round asked."""
        return self.past[0].seats if self.past else self.seats


# --- asking and collecting ---------------------------------------------------------------------------------------


def ask(home: Home, process: Process, now: str, occasion: Occasion | None = None, facts: str = "") -> Ask:
    """Ask the seats of the page's first round, in the person's name. What is asked is written down first: after a crash
    `open_asks` has it and `deliver` finishes the sending, without a second copy for anybody. facts: what its `input` hands
    over beside files."""
    occasion = occasion or Occasion()
    while _file(home, process.name, now).exists():  # two occasions of one moment are two runs
        now = times.utc(times.moment(now).timestamp() + 0.001)
    date = now[:10]
    count = 1 + sum(row.about.startswith(f"{process.name}-{date}-") for row in asks(home, process.name))
    about = f"{process.name}-{date}-{count}"
    everyone = seats(home, process.who, occasion, asks(home, process.name))
    script = process.rounds
    who = everyone if not script[0].who else _of_round(home, script[0].who, everyone, everyone, occasion)
    letter = envelope.new_id(now, "human")
    record = Ask(
        process=process.name,
        about=about,
        asked_at=now,
        deadline=_later(now, process.answers_within_s),
        seats=tuple(who),
        letter=letter,
        body=_question(script[0].body, process, facts, occasion.subject, about, letter, date),
        occasion=occasion.key,
        subject=occasion.subject,
        author=occasion.author,
        asker=occasion.asker,
        question_letter=occasion.letter,
        question=occasion.question,
        facts=facts,
        writes=process.writes and process.writes.replace("{date}", date).replace("{id}", about),
        within_s=process.answers_within_s,
        script=tuple({"who": list(each.who), "body": each.body.replace("{date}", date)} for each in script),
        salt=os.urandom(8).hex(),
    )
    files.replace_json(_file(home, process.name, now), record.to_dict())
    failpoint("processes.asked")
    deliver(home, record)
    return record


def go_on(home: Home, asked: Ask, answers: Mapping[str, str], now: str) -> Ask | None:
    """The next round, asked and written down, when there is one that anybody can be asked; else None: the answers of this
    one, which `finished` puts to the others, are the last."""
    done = finished(asked, answers)
    everyone = [seat for seat in asked.first if seat in done.past[0].answers]
    for number in range(len(done.past), len(asked.script)):
        step = asked.script[number]
        names = tuple(str(name) for name in step.get("who") or ())
        occasion = Occasion(asked.occasion, asked.subject, asked.author, asked.asker)
        who = everyone if not names else _of_round(home, names, everyone, list(asked.first), occasion)
        is_mutual = not names or EVERYONE in names  # each gets the others' answers; the chair gets all of them
        labels = {
            seat: ranking.labels(_handed(done, seat if is_mutual else ""), f"{asked.salt}:{number}:{seat}")
            for seat in who
        }
        who = [seat for seat in who if labels[seat]]
        if not who:
            done = replace(done, past=(*done.past, Said(())))  # nobody has anything before him
            continue
        letter = envelope.new_id(now, "human")
        head = f"About: {asked.subject}" if asked.subject else ""
        tail = _tail(asked.about, letter, asked.within_s)
        bodies = {
            seat: "\n\n".join(filter(None, [head, step["body"], asked.facts, _answers(done, labels[seat]), tail]))
            for seat in who
        }
        record = replace(
            done, deadline=_later(now, asked.within_s), seats=tuple(who), letter=letter, bodies=bodies,
            labels={seat: labels[seat] for seat in who},
        )  # fmt: skip
        files.replace_json(_file(home, asked.process, asked.asked_at), record.to_dict())
        failpoint("processes.round")
        deliver(home, record)
        return record
    return None


def finished(asked: Ask, answers: Mapping[str, str]) -> Ask:
    """`asked` with the answers of its round put to those of the rounds before; nobody is asked in it."""
    kept = {seat: files.printable(answers[seat], ANSWER_LIMIT) for seat in asked.seats if seat in answers}
    said = Said(asked.seats, kept, asked.labels)
    return replace(asked, past=(*asked.past, said), seats=(), bodies={}, labels={})


def deliver(home: Home, asked: Ask) -> list[str]:
    """Send the question to every seat that has not got it; safe to repeat. Returns what could not be delivered: a seat that
    was removed meanwhile, or broke its mailbox, is not waited for longer than the others are given."""
    problems = []
    for seat in asked.seats:
        body = asked.bodies.get(seat, asked.body)
        try:
            mail.send(home, "human", seat, body, kind="question", about=asked.about, letter_id=asked.letter)
        except OrgError as error:
            problems.append(f"{asked.about} to {seat}: {error}")
    return problems


def collect(home: Home, process: Process, asked_at: str) -> dict[str, str]:
    """Seat -> its answer in the round that is asked: the last signed letter to the person that replies to the question or,
    in a first round, is about it. Of a run that is written up: what stands in its last round."""
    asked = _load(_file(home, process.name, asked_at))
    if asked is not None and asked.closed and asked.past:
        return dict(asked.past[-1].answers)
    return {} if asked is None else {seat: letter.body for seat, letter in replies(home, asked).items()}


def replies(home: Home, asked: Ask) -> dict[str, Letter]:
    """The same as letters. In a later round only a reply to its own letter counts: what is only about the run may be an answer
    of the round before that came late."""
    answers = {}
    for letter in mail.received(home, "human", since=times.utc(asked.asked_at)):
        is_about = letter.about == asked.about and letter.reply_to is None and not asked.past
        if (letter.reply_to == asked.letter or is_about) and letter.verified and letter.sender in asked.seats:
            answers[letter.sender] = letter
    return answers


def is_over(asked: Ask, answers: Mapping[str, Any], now: str) -> bool:
    """Everybody answered, or the time is up."""
    return set(asked.seats) <= set(answers) or times.moment(now) >= times.moment(asked.deadline)


def close(home: Home, asked: Ask, now: str) -> None:
    """The answers are written up: `open_asks` leaves it out from here on."""
    files.replace_json(_file(home, asked.process, asked.asked_at), {**asked.to_dict(), "closed": now})


# --- what ran ----------------------------------------------------------------------------------------------------


def asks(home: Home, name: str) -> list[Ask]:
    """Every time the process `name` ran, oldest first."""
    found = [_load(path) for path in home.processes.glob(f"{name}-*.json")] if home.processes.is_dir() else []
    return sorted((row for row in found if row and row.process == name), key=lambda row: times.utc(row.asked_at))


def open_asks(home: Home, name: str) -> list[Ask]:
    """Asked and not written up yet: what to go on with after a restart."""
    return [row for row in asks(home, name) if row.closed is None]


# --- whom --------------------------------------------------------------------------------------------------------


def seats(home: Home, names: Sequence[str], occasion: Occasion, before: Sequence[Ask] = ()) -> list[str]:
    """Who is asked, each once, in the order of the names. A role that this launch has no seat of is left out: rosters vary,
    the page does not. A person's seat is asked by its name only: nobody may sit there, and the page would wait for an
    answer. Nobody is asked his own question. before: earlier runs, among which peers take turns."""
    here, programs = roster.members(home), roster.members(home, people=False)
    found: list[str] = []
    for name in names:
        author = OF_AUTHOR.fullmatch(name)
        if name == PEER and name not in here:
            found += _peer(programs, occasion.author, before)
        elif author:
            found += _own(programs, author[1], occasion.author)
        else:
            try:
                boxes = mail.recipients(home, name, "human")
            except BadInput:
                continue  # nobody of that name in this roster
            found += [seat for seat in boxes if seat in programs or (seat == name and seat in here)]
    return [seat for seat in dict.fromkeys(found) if seat not in ("human", occasion.asker) and seat in here]


def _peer(programs: Mapping[str, str], author: str, before: Sequence[Ask]) -> list[str]:
    """A colleague of the author's role: who was asked least often so far."""
    others = [seat for seat, role in programs.items() if role == programs.get(author) and seat != author]
    times_asked = [seat for run in before for seat in run.first]
    return sorted(others, key=times_asked.count)[:1]


def _own(programs: Mapping[str, str], role: str, author: str) -> list[str]:
    """The seat of `role` that belongs to the author: the second junior's is the second breaker, counted round."""
    of_role = [seat for seat, its in programs.items() if its == role]
    beside = [seat for seat, its in programs.items() if its == programs.get(author)]
    return [of_role[beside.index(author) % len(of_role)]] if of_role and author in beside else []


def _of_round(
    home: Home, names: Sequence[str], everyone: Sequence[str], first: Sequence[str], occasion: Occasion
) -> list[str]:
    """Whom a round asks that names somebody: `everyone` who answered so far, the `chair`, who is the first of those, seats
    and roles."""
    found: list[str] = []
    for name in names:
        if name == EVERYONE:
            found += everyone
        elif name == CHAIR and not seats(home, [name], occasion):
            found += [seat for seat in first if seat in everyone][:1]
        else:
            found += seats(home, [name], occasion)
    return list(dict.fromkeys(found))


# --- the letters -------------------------------------------------------------------------------------------------


def _question(text: str, process: Process, facts: str, subject: str, about: str, letter: str, date: str) -> str:
    files_of = [name.replace("{date}", date) for name in process.input if name not in pages.FACTS]
    parts = [f"About: {subject}" if subject else "", text.replace("{date}", date), facts]
    parts.append(f"Read first: {', '.join(files_of)}" if files_of else "")
    return "\n\n".join([part for part in parts if part] + [_tail(about, letter, process.answers_within_s)])


def _tail(about: str, letter: str, within_s: float) -> str:
    within = f"{within_s / 60:.3g} minutes"
    return f"Answer within {within}: `org send human --about {about} --reply-to {letter} 'your answer'`"


def answered(done: Ask) -> list[int]:
    """The rounds, from 0, whose answers were no rankings: what later ones are about."""
    return [at for at in range(len(done.past)) if not rankings(done, at)]


def rankings(done: Ask, at: int) -> dict[str, list[str]]:
    """Seat -> the authors as it ranked them in that round, of the seats that did."""
    said = done.past[at]
    if is_conclusion(done, at):
        return {}  # who writes up the others' rankings has no second voice
    found = {seat: ranking.ranked(text, said.labels.get(seat, {})) for seat, text in said.answers.items()}
    return {seat: order for seat, order in found.items() if order}


def is_conclusion(done: Ask, at: int) -> bool:
    """Whether that round is the page's last and one seat alone was asked in it, who answered: what came of the others."""
    is_last = at > 0 and at == len(done.past) - 1 and len(done.past) == len(done.script)
    return is_last and len(done.past[at].seats) == 1 == len(done.past[at].answers)


def places(done: Ask) -> list[ranking.Place]:
    """The tally over every ranking of every round."""
    said = [
        (order, done.past[at].labels[seat])
        for at in range(len(done.past))
        for seat, order in rankings(done, at).items()
    ]
    return ranking.tally(said)


def _handed(done: Ask, without: str) -> list[str]:
    """Whose answers a letter has."""
    authors = dict.fromkeys(seat for at in answered(done) for seat in done.past[at].answers)
    return [author for author in authors if author != without]


def _answers(done: Ask, labels: Mapping[str, str]) -> str:
    """The earlier answers under the reader's labels, then what was said of them and the tally: no names."""
    rounds = answered(done)
    count = max(1, len(labels) * len(rounds) + sum(len(s.answers) for s in done.past))
    most = max(200, min(ANSWER_LIMIT, HANDED_BYTES // count // 4))  # a character has four bytes at most
    by_label = sorted(labels.items(), key=lambda row: (len(row[1]), row[1]))
    parts = []
    for at in rounds:
        which = f", round {at + 1}" if len(rounds) > 1 else ""
        for author, label in by_label:
            if author in done.past[at].answers:
                parts.append(f"### Answer {label}{which}\n\n{quote(done.past[at].answers[author], most)}")
    remarks = [
        quote(ranking.relabelled(text, said.labels.get(seat, {}), labels), most)
        for at, said in enumerate(done.past)
        if at not in rounds
        for seat, text in said.answers.items()
    ]
    if remarks:
        parts.append("### What was said of them\n\n" + "\n\n".join(sorted(remarks)))
    tally = [place for place in places(done) if place.author in labels]
    if tally:
        rows = [f"- Answer {labels[p.author]}: mean place {p.mean:.2f}, {p.first} times first" for p in tally]
        parts.append("### Tally\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _later(now: str, seconds: float) -> str:
    return (times.moment(now) + timedelta(seconds=seconds)).isoformat()


def _file(home: Home, name: str, asked_at: str) -> Path:
    return home.processes / f"{name}-{re.sub(r'[^0-9]', '', times.utc(asked_at))}.json"


def _load(path: Path) -> Ask | None:
    row = files.read_json(path)
    if not isinstance(row, dict) or Ask.misfit(row):
        return None  # not one of ours
    if times.seconds(row["asked_at"]) is None or times.seconds(row["deadline"]) is None:
        return None  # nor what no clock shows
    return Ask.from_dict(row)
