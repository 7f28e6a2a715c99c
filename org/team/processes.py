"""The org's recurring conversations: pages in `processes/` say when whom is asked what, and replies are letters.

State is files: one JSON file each time a process ran, so whoever runs it may be killed in between and go on. Decides
nothing about research, and does not read the answers; `standup` shows them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from org import files
from org.errors import BadInput, did_you_mean
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home
from org.records import Record
from org.team import mail, roster

KEYS = ("when", "who", "input", "writes", "answers_within")
WHEN_FORM = "`daily 07:00`, `every 2h`, `end`, or several with commas"
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Process:
    """One page of `processes/`. `body` is what every seat of `who` is asked."""

    name: str
    when: tuple[str, ...]  # "daily 07:00" | "every 2h" | "end"
    who: tuple[str, ...]  # seats, roles, "all"
    input: tuple[str, ...]  # files of the home that the asked should read first
    writes: str | None  # what the answers become, such as comms/standup/{date}.md
    answers_within_s: float
    body: str


@dataclass(frozen=True)
class Ask(Record):
    """comms/processes/<name>-<stamp>.json: one time a process was run."""

    process: str
    about: str  # "standup-2026-03-01-1": what replies name
    asked_at: str
    deadline: str
    seats: tuple[str, ...]
    letter: str  # id of the question, the same in every box
    body: str
    closed: str | None = None


# --- what people write -------------------------------------------------------------------------------------------


def load(folder: Path) -> list[Process]:
    """The processes of an org folder (`prompts/orgs/<name>`), by name. Raises BadInput naming file and field."""
    pages = folder / "processes"
    return [_process(path) for path in sorted(pages.glob("*.md"))] if pages.is_dir() else []


def _process(path: Path) -> Process:
    try:
        fields, body = files.front_matter(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text") from None
    if not ID_PATTERN.fullmatch(path.stem):
        raise BadInput(f"{path}: a process is named with a-z 0-9 _ - only; rename the file")
    for key in fields:
        if key not in KEYS:
            raise BadInput(f"{path}: unknown key '{key}'{did_you_mean(str(key), KEYS)}; known here: {', '.join(KEYS)}")
    for key in ("when", "who", "answers_within"):
        if fields.get(key) in (None, "", []):
            raise BadInput(f"{path}: '{key}' is missing; a process says when, who and answers_within")
    if not body.strip():
        raise BadInput(f"{path}: the page has no text below its front matter; write what is asked")
    when = _texts(path, "when", fields["when"])
    for part in when:
        _check_when(path, part)
    who = _texts(path, "who", fields["who"])
    for name in who:
        if not ID_PATTERN.fullmatch(name):
            raise BadInput(f"{path}: who: '{name:.40}' is no seat or role")
    inputs = _texts(path, "input", fields.get("input") or [])
    writes = fields.get("writes")
    for name in (*inputs, *([writes] if writes is not None else [])):
        if not isinstance(name, str) or name.startswith("/") or ".." in Path(name).parts or not name.isprintable():
            raise BadInput(f"{path}: '{name!s:.60}' must be a path inside the home, such as comms/results.tsv")
    within = _seconds(str(fields["answers_within"]))
    if within is None:
        raise BadInput(
            f"{path}: answers_within: '{fields['answers_within']!s:.40}' is no duration; write 90s, 5m or 2h"
        )
    return Process(path.stem, when, who, inputs, writes, within, body.strip())


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) and part.strip() for part in parts):
        raise BadInput(f"{path}: {key} must be a text or a list of texts, not {value!r:.60}")
    return tuple(part.strip() for part in parts)


def _check_when(path: Path, part: str) -> None:
    kind, _, rest = part.partition(" ")
    if part == "end" or (kind == "every" and _seconds(rest)) or (kind == "daily" and _clock(rest)):
        return
    raise BadInput(f"{path}: when: '{part:.40}' is not known; write {WHEN_FORM}")


def _seconds(text: str) -> float | None:
    """`90s`, `5m`, `2h`, `1d` in seconds; None when it is no such duration above zero."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*([smhd])", text.strip())
    return (float(match[1]) * SECONDS[match[2]] or None) if match else None


def _clock(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text.strip())
    return (int(match[1]), int(match[2])) if match else None


# --- when --------------------------------------------------------------------------------------------------------


def due(process: Process, now: str, last_run: str | None, budget_ended: str | None) -> bool:
    """Whether `process` should run at `now`. Times are ISO-8601 with a zone; `daily` is read on the clock of `now`'s zone.

    last_run: when it last ran, or when the org was launched if it never did; None makes a periodic process due at once.
    budget_ended: when the launch's budget ended, None while it lasts; `end` is due once after that.
    """
    moment = datetime.fromisoformat(now)
    last = datetime.fromisoformat(last_run) if last_run else None
    for part in process.when:
        kind, _, rest = part.partition(" ")
        if kind == "end":
            is_due = budget_ended is not None and (last is None or last < datetime.fromisoformat(budget_ended))
        elif kind == "every":
            is_due = last is None or moment - last >= timedelta(seconds=_seconds(rest) or 0)
        else:
            hour, minute = _clock(rest) or (0, 0)
            slot = moment.replace(hour=hour, minute=minute, second=0, microsecond=0)
            slot -= timedelta(days=1 if slot > moment else 0)
            is_due = last is None or last < slot
        if is_due:
            return True
    return False


# --- asking and collecting ---------------------------------------------------------------------------------------


def ask(home: Home, process: Process, now: str) -> Ask:
    """Ask every seat of `process.who`, in the person's name. What is asked is written down first: after a crash
    `open_asks` has it and `deliver` finishes the sending, without a second copy for anybody."""
    seats = _seats(home, process)
    date = now[:10]
    count = 1 + sum(row.about.startswith(f"{process.name}-{date}-") for row in asks(home, process.name))
    about = f"{process.name}-{date}-{count}"
    letter = mail.new_id(now, "human")
    deadline = datetime.fromisoformat(now) + timedelta(seconds=process.answers_within_s)
    record = Ask(
        process=process.name,
        about=about,
        asked_at=now,
        deadline=deadline.isoformat(),
        seats=tuple(seats),
        letter=letter,
        body=_question(process, about, letter, date),
    )
    files.replace_json(_file(home, process.name, now), record.to_dict())
    failpoint("processes.asked")
    deliver(home, record)
    return record


def deliver(home: Home, asked: Ask) -> None:
    """Send the question to every seat that has not got it; safe to repeat."""
    for seat in asked.seats:
        mail.send(home, "human", seat, asked.body, kind="question", about=asked.about, letter_id=asked.letter)


def collect(home: Home, process: Process, asked_at: str) -> dict[str, str]:
    """Seat -> its answer: the last signed letter to the person that replies to the question or is about it."""
    asked = _load(_file(home, process.name, asked_at))
    if asked is None:
        return {}
    answers = {}
    for letter in mail.received(home, "human", since=_utc(asked.asked_at)):
        is_reply = letter.reply_to == asked.letter or letter.about == asked.about
        if is_reply and letter.verified and letter.sender in asked.seats:
            answers[letter.sender] = letter.body
    return answers


def is_over(asked: Ask, answers: dict[str, str], now: str) -> bool:
    """Everybody answered, or the time is up."""
    return set(asked.seats) <= set(answers) or datetime.fromisoformat(now) >= datetime.fromisoformat(asked.deadline)


def close(home: Home, asked: Ask, now: str) -> None:
    """The answers are written up: `open_asks` leaves it out from here on."""
    files.replace_json(_file(home, asked.process, asked.asked_at), {**asked.to_dict(), "closed": now})


def asks(home: Home, name: str) -> list[Ask]:
    """Every time the process `name` ran, oldest first."""
    found = [_load(path) for path in home.processes.glob(f"{name}-*.json")] if home.processes.is_dir() else []
    return sorted((row for row in found if row and row.process == name), key=lambda row: _utc(row.asked_at))


def open_asks(home: Home, name: str) -> list[Ask]:
    """Asked and not written up yet: what to go on with after a restart."""
    return [row for row in asks(home, name) if row.closed is None]


def last_run(home: Home, name: str) -> str | None:
    """When the process was last asked, or None."""
    rows = asks(home, name)
    return rows[-1].asked_at if rows else None


def _seats(home: Home, process: Process) -> list[str]:
    """Who is asked, each once. A role that this launch has no seat of is left out: rosters vary, the page does not. A
    person's seat is asked by its name only: nobody may sit there, and the page would wait for an answer."""
    here, programs = roster.members(home), roster.members(home, people=False)
    found: list[str] = []
    for name in process.who:
        try:
            boxes = mail.recipients(home, name, "human")
        except BadInput:
            continue  # nobody of that name in this roster
        found += [seat for seat in boxes if seat in programs or (seat == name and seat in here)]
    return [seat for seat in dict.fromkeys(found) if seat != "human"]


def _question(process: Process, about: str, letter: str, date: str) -> str:
    lines = [process.body.replace("{date}", date), ""]
    if process.input:
        lines.append(f"Read first: {', '.join(name.replace('{date}', date) for name in process.input)}")
    within = f"{process.answers_within_s / 60:.3g} minutes"
    lines.append(f"Answer within {within}: `org send human --about {about} --reply-to {letter} 'your answer'`")
    return "\n".join(lines)


def _file(home: Home, name: str, asked_at: str) -> Path:
    return home.processes / f"{name}-{re.sub(r'[^0-9]', '', _utc(asked_at))}.json"


def _load(path: Path) -> Ask | None:
    row = files.read_json(path)
    try:
        return Ask.from_dict({**row, "seats": tuple(row["seats"])})
    except (TypeError, KeyError):
        return None  # not one of ours


def _utc(moment: str) -> str:
    """The moment as letters carry it, so that texts compare as times do."""
    when = datetime.fromisoformat(moment).astimezone(UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
