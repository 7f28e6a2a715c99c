"""Mailboxes as folders: tmp -> rename into new -> rename into cur -> rename into archive/<day>. Who writes to whom is not its matter.

A letter only ever moves forward, by one rename, so whoever looks through the folders in that order cannot miss it. Its id is
its file name: delivered twice, it is there once.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from org import files
from org.errors import BadInput, Busy
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home
from org.records import Letter
from org.team import envelope

STALE_TMP_S = 24 * 3600.0
ARCHIVED_AFTER_S = 24 * 3600.0
READING_S = 5.0
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Place = Literal["new", "cur", "archive"]


# --- looking -----------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[Path]:
    """What lies in a folder of a box, by name; hidden files are nobody's letters."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return []
        raise


def place(home: Home, seat: str, letter_id: str) -> tuple[Place, Path] | None:
    """Where a letter lies now: waiting in new/, read in cur/, or read and put away. In the order it moves, so that one on
    its way is seen."""
    box, name = home.mailbox(seat), f"{letter_id}.md"
    if (path := box / "new" / name).exists():
        return "new", path
    if (path := box / "cur" / name).exists():
        return "cur", path
    return ("archive", found) if (found := _archived(box, letter_id)) else None


def was_read(home: Home, seat: str, letter_id: str) -> bool:
    """Whether the letter was acknowledged once, however long ago."""
    box = home.mailbox(seat)
    return (box / "cur" / f"{letter_id}.md").exists() or _archived(box, letter_id) is not None


def all_of(home: Home, seat: str, since: str = "") -> Iterator[Path]:
    """Every letter's file in the box, unread, read or put away; of the archive the days from `since` (a date) on. Lazy: a
    folder is listed when the one before it was gone through, so that no letter moves past."""
    box = home.mailbox(seat)
    for folder in ("new", "cur"):
        yield from names(box / folder)
    for day in days(box):
        if day.name >= since:
            yield from names(day)


def days(box: Path) -> list[Path]:
    """The folders of the archive, oldest first."""
    return [path for path in names(box / "archive") if _DAY.fullmatch(path.name)]


def read(home: Home, seat: str, path: Path) -> Letter:
    """The letter in `path`, its signature checked, `created` a moment no later than the file's. Raises FileNotFoundError, OSError or BadInput; never waits on a pipe,
    never follows a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > envelope.MAX_FILE_BYTES:
            raise BadInput(f"{path.name!r:.80}: not a plain file of at most {envelope.MAX_FILE_BYTES // 1024} KB")
        data = file.read(envelope.MAX_FILE_BYTES + 1)
    try:
        letter = envelope.parse(data.decode(), f"{path.name!r:.80}")
    except UnicodeDecodeError:
        raise BadInput(f"{path.name!r:.80}: not UTF-8 text") from None
    if path.name != f"{letter.id}.md":
        raise BadInput(f"{path.name!r:.80}: holds a letter with another id")
    is_signed = letter.to == seat and envelope.is_signed(home, letter)
    created = envelope.written(letter.created, min(facts.st_mtime, time.time()))
    return replace(letter, verified=is_signed, created=created)


def _archived(box: Path, letter_id: str) -> Path | None:
    """In the folder of its day, which an id of ours says; another id may lie under any day."""
    name, moment = f"{letter_id}.md", envelope.moment_of(letter_id)
    folders = [box / "archive" / f"{moment:%Y-%m-%d}"] if moment else reversed(days(box))
    return next((folder / name for folder in folders if (folder / name).exists()), None)


# --- moving ------------------------------------------------------------------------------------------------------


def make(box: Path) -> None:
    """Where letters of this box come in, lie and are read; nothing where they are there."""
    for part in ("tmp", "new", "cur"):
        (box / part).mkdir(parents=True, exist_ok=True)


def deliver(box: Path, letter: Letter, is_repeated: bool = False) -> None:
    """At most once by the letter's id; whole or not at all. `is_repeated`: the id may have been delivered before, read and
    put away, and that counts."""
    name = f"{letter.id}.md"
    make(box)
    if any((box / folder / name).exists() for folder in ("new", "cur")):
        return
    if is_repeated and _archived(box, letter.id):
        return
    temporary = box / "tmp" / f"{letter.id}.{os.getpid()}.{os.urandom(3).hex()}"
    try:
        temporary.write_bytes(envelope.render(letter).encode())
        failpoint("mail.tmp")
        temporary.rename(box / "new" / name)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk: what is half there is room for others
        raise
    failpoint("mail.new")


@contextmanager
def reading(home: Home, seat: str) -> Iterator[None]:
    """One reader of this box at a time shows and acknowledges. A reader that was stopped holds the others up for some
    seconds and no longer: shown twice is better than not at all."""
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(home.mailbox(seat) / "reading", limit_s=READING_S))
        except Busy:
            pass  # stopped, or its terminal is
        yield


def acknowledge(box: Path, letter_id: str) -> bool:
    """From new/ to cur/; False when somebody else did."""
    name = f"{letter_id}.md"
    (box / "cur").mkdir(parents=True, exist_ok=True)
    try:
        (box / "new" / name).rename(box / "cur" / name)
    except FileNotFoundError:
        return False
    failpoint("mail.cur")
    return True


def archive(home: Home, now: datetime) -> int:
    """Put read letters older than a day away, from cur/ to archive/<its day>; returns how many. For the office, once an
    hour. One rename a letter: killed anywhere, every letter is in one of the two places, and whoever looks for one looks
    in both. The day is the letter's own, as its id says it, else its file's.
    """
    moved = 0
    for box in boxes(home):
        try:
            for path in names(box / "cur"):
                moved += _put_away(box, path, now)
        except OSError as error:
            if files.is_full(error):
                raise
            continue  # what a seat made of its own box keeps nobody else's letters in the way
    return moved


def boxes(home: Home) -> list[Path]:
    return [path for path in names(home.mail) if ID_PATTERN.fullmatch(path.name) and path.is_dir()]


def _put_away(box: Path, path: Path, now: datetime) -> bool:
    if path.suffix != ".md" or not ID_PATTERN.fullmatch(path.stem):
        return False  # somebody's file, not a letter
    try:
        facts = path.lstat()
        came = datetime.fromtimestamp(min(facts.st_mtime, now.timestamp()), UTC)
        written = envelope.moment_of(path.stem) or came
        # an id may name any day; what was said to be written tomorrow came no later than its file
        if not stat.S_ISREG(facts.st_mode) or now - min(written, came) <= timedelta(seconds=ARCHIVED_AFTER_S):
            return False
        folder = box / "archive" / f"{written:%Y-%m-%d}"
        folder.mkdir(parents=True, exist_ok=True)
        failpoint("mail.archive")
        path.rename(folder / path.name)
    except FileNotFoundError:
        return False  # somebody removed it
    failpoint("mail.archived")
    return True


def set_aside(home: Home, seat: str, path: Path, reason: str) -> None:
    """Out of new/, into bad/, with a line for people; nothing in a mailbox may stop its reader."""
    bad = home.mailbox(seat) / "bad"
    bad.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(bad / f"{int(time.time())}-{os.urandom(3).hex()}")
    except OSError:
        return  # gone already, or not ours to move
    failpoint("mail.bad")
    row = {"t": files.utc_now(), "event": "bad letter", "seat": seat, "text": files.printable(reason, 300)}
    files.append_line(home.events, json.dumps(row))


def sweep(tmp: Path) -> None:
    """Half-written letters of senders that were killed."""
    for path in names(tmp):
        try:
            if time.time() - path.lstat().st_mtime > STALE_TMP_S:
                path.unlink()
        except OSError:
            continue  # gone, or a folder somebody put there
