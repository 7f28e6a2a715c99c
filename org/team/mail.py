"""Letters as files: tmp -> rename into new -> rename into cur. Works with the office dead; keeps the letters' form to itself.

A letter's id is its file name, so sending it twice delivers it once. Signatures tell a letter written by `org send` in a
seat from one dropped into the folder by something else; agents share the user, so this detects and does not prevent.
Does not ring anybody: that a letter waits is seen by looking (`waiting`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

from org import files
from org.errors import BadInput, did_you_mean
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home, check_id
from org.records import Letter
from org.team import roster

MAX_BODY_BYTES = 64 * 1024
MAX_FILE_BYTES = MAX_BODY_BYTES + 4096  # the front matter is below 1 KB
MAX_AT_ONCE = 500  # letters one reading takes; the rest stay in new/
STALE_TMP_S = 24 * 3600.0
KINDS: tuple[str, ...] = get_args(get_type_hints(Letter)["kind"])
PLACES = ("human", "office", "org")  # who writes letters without being a seat
FIELDS = ("id", "from", "to", "kind", "about", "reply_to", "created", "signature")


# --- sending -----------------------------------------------------------------------------------------------------


def send(
    home: Home,
    sender: str,
    to: str,
    body: str,
    kind: str = "note",
    about: str | None = None,
    reply_to: str | None = None,
    letter_id: str | None = None,
) -> list[Letter]:
    """Deliver `body` to every box that `to` names: a seat, a role, `all`, `council` (the chiefs), `human`. A role and
    `all` mean who is here now (`roster.members`); by its name a retired seat gets its letter too.

    One id for all copies; the sender gets none unless it is named itself. With `letter_id` the call may be repeated after
    a crash: a box that has the letter, read or not, is left alone. Raises BadInput before anything is delivered.
    """
    boxes = recipients(home, to, sender)
    _check_sender(home, sender)
    if kind not in KINDS:
        raise BadInput(f"kind '{kind:.40}' is unknown{did_you_mean(kind, KINDS)}; use one of {', '.join(KINDS)}")
    body = body.encode("utf-8", "replace").decode()
    size = len(body.encode())
    if size > MAX_BODY_BYTES:
        raise BadInput(
            f"the letter has {size / 1024:.0f} KB, the limit is {MAX_BODY_BYTES // 1024} KB; "
            "put the text into a file and send its path"
        )
    for name, value in (("about", about), ("reply_to", reply_to)):
        if value is not None and (len(value) > 120 or not value.isprintable() or not value.strip()):
            raise BadInput(
                f"{name} {value!r:.60} is not allowed; use one line of at most 120 characters, such as E0042"
            )
    now = datetime.now(UTC)
    letter = Letter(
        id=check_id(letter_id or new_id(now.isoformat(), sender), "letter id"),
        sender=sender,
        to=to,
        kind=kind,  # type: ignore[arg-type]  # checked against KINDS above
        created=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        body=body,
        about=about,
        reply_to=reply_to,
        verified=True,
    )
    key = _key(home, sender, make=True)
    assert key is not None
    sent = []
    for box in boxes:
        copy = replace(letter, to=box)
        copy = replace(copy, signature=_signature(copy, key))
        _deliver(home.mailbox(box), copy)
        sent.append(copy)
    return sent


def recipients(home: Home, to: str, sender: str) -> list[str]:
    """The boxes that `to` stands for, in order. Raises BadInput naming who is known."""
    if to == "human":
        return ["human"]
    roles = roster.members(home)
    is_seat = to in roles or (ID_PATTERN.fullmatch(to) is not None and home.seat_file(to).is_file())
    if is_seat and (to in roles or to not in roles.values()):  # a retired `chief` gives way to the role
        return [to]
    if to == "all" and roles:
        return [name for name in roles if name != sender]
    if to in roles.values():
        return [name for name, role in roles.items() if role == to and name != sender]
    if to == "council" and roles:
        return [name for name, role in roles.items() if role.startswith("chief") and name != sender]
    if not roles:
        raise BadInput(
            f"nobody is called '{to:.40}': no seat exists yet; make seats with `org launch`, or write to human"
        )
    names = [*roles, *sorted(set(roles.values())), "all", "human"]
    known = list(dict.fromkeys(names))
    raise BadInput(f"nobody is called '{to:.40}'{did_you_mean(to, known)}; known: {', '.join(known)}")


def seats(home: Home) -> dict[str, str]:
    """Name -> role of every seat, retired ones too, by name (j2 before j10). A folder without a readable seat.json is none."""
    found = {}
    for file in home.seats.glob("*/seat.json"):
        row = files.read_json(file)
        if isinstance(row, dict) and ID_PATTERN.fullmatch(file.parent.name):
            found[file.parent.name] = str(row.get("role", ""))
    return {name: found[name] for name in sorted(found, key=roster.by_name)}


def new_id(now: str, seat: str) -> str:
    """`l-261121-051502-` and nine hex digits: microseconds, then what tells apart two letters of one instant. Ids sort by time."""
    when = datetime.fromisoformat(now).astimezone(UTC)
    salt = hashlib.sha256(seat.encode() + secrets.token_bytes(8)).hexdigest()[:4]
    return f"l-{when:%y%m%d-%H%M%S}-{when.microsecond:05x}{salt}"


# --- reading -----------------------------------------------------------------------------------------------------


def inbox(home: Home, seat: str, read: bool = True) -> list[Letter]:
    """Letters waiting for `seat`, oldest first. With `read` they are acknowledged: each moves to cur/ and is returned by
    one reader only. What is no letter moves to bad/ and leaves a line in the events; it never raises.

    An effect that must survive a crash is keyed by the letter's id and done before `acknowledge`: see `peek`.
    """
    box = home.mailbox(seat)
    letters = []
    for path in _names(box / "new")[:MAX_AT_ONCE]:
        try:
            letter = _read(home, seat, path)
        except FileNotFoundError:
            continue  # another reader was first
        except (BadInput, OSError) as error:
            if read:
                _set_aside(home, seat, path, str(error))
            continue
        if (box / "cur" / path.name).exists():  # sent again while its first copy was being read
            if read:
                path.unlink(missing_ok=True)
            continue
        if not read or acknowledge(home, seat, letter.id):
            letters.append(letter)
    if read:
        _sweep(box / "tmp")
    return sorted(letters, key=lambda letter: (letter.created, letter.id))


def peek(home: Home, seat: str) -> list[Letter]:
    """Letters waiting for `seat`; nothing moves."""
    return inbox(home, seat, read=False)


def acknowledge(home: Home, seat: str, letter_id: str) -> bool:
    """Move a letter from new/ to cur/; False when somebody else did."""
    box = home.mailbox(seat)
    name = f"{check_id(letter_id, 'letter id')}.md"
    (box / "cur").mkdir(parents=True, exist_ok=True)
    try:
        (box / "new" / name).rename(box / "cur" / name)
    except FileNotFoundError:
        return False
    failpoint("mail.cur")
    return True


def waiting(home: Home, seat: str) -> int:
    """How many letters wait, by a look at the folder."""
    return len(_names(home.mailbox(seat) / "new"))


def find(home: Home, seat: str, letter_id: str) -> Letter | None:
    """One letter of `seat`, read or not."""
    check_id(letter_id, "letter id")
    for folder in ("new", "cur"):
        try:
            return _read(home, seat, home.mailbox(seat) / folder / f"{letter_id}.md")
        except (OSError, BadInput):
            continue  # not here, or not a letter
    return None


def received(home: Home, seat: str, since: str) -> list[Letter]:
    """Letters to `seat` created at or after `since` (UTC ISO-8601), read or not, oldest first. Skips what is no letter."""
    first = new_id(since, seat)[:15]  # to the second; other names than ours are always looked at
    found = {}
    for folder in ("cur", "new"):
        for path in _names(home.mailbox(seat) / folder):
            if path.name.startswith("l-") and path.name[:15] < first:
                continue
            try:
                letter = _read(home, seat, path)
            except (OSError, BadInput):
                continue  # moved on, or not a letter
            if letter.created >= since:
                found[letter.id] = letter
    return sorted(found.values(), key=lambda letter: (letter.created, letter.id))


def show(letter: Letter) -> str:
    """The letter for a terminal: one head line, then the body, control characters made harmless."""
    parts = [letter.id, f"{letter.kind} from {letter.sender}" + ("" if letter.verified else " (unverified)")]
    parts += [f"about {letter.about}"] if letter.about else []
    parts += [f"answers {letter.reply_to}"] if letter.reply_to else []
    return files.printable("  ".join([*parts, letter.created]).replace("\n", " ")) + "\n" + files.printable(letter.body)


def to_json(letter: Letter) -> dict[str, Any]:
    """The row of `org inbox --json`."""
    return {
        "id": letter.id,
        "from": letter.sender,
        "verified": letter.verified,
        "to": letter.to,
        "kind": letter.kind,
        "about": letter.about,
        "reply_to": letter.reply_to,
        "created": letter.created,
        "body": letter.body,
    }


# --- the form of a letter ----------------------------------------------------------------------------------------


def render(letter: Letter) -> str:
    """The letter's file. The front matter is YAML, written so that no YAML reader is needed: a verb that every agent calls
    all day must not pay for one."""
    row = {**to_json(letter), "signature": letter.signature}
    return "---\n" + "".join(f"{name}: {_scalar(row[name])}\n" for name in FIELDS) + "---\n" + letter.body


def parse(text: str, where: str) -> Letter:
    """The letter in `text`, `verified` False. Raises BadInput when it is torn or no letter; what a hand-written one
    leaves out is filled in."""
    head, separator, body = text[4:].partition("\n---\n")
    if not text.startswith("---\n") or not separator:
        raise BadInput(f"{where}: no letter, or half of one: it needs front matter between two '---' lines")
    row = _fields(head)
    if row is None:
        row, body = files.front_matter(text, where)
    given = {name: str(row[name]) for name in FIELDS if row.get(name) not in (None, "")}
    for name in ("id", "from", "to"):
        if not ID_PATTERN.fullmatch(given.get(name, "")):
            raise BadInput(f"{where}: the front matter has no proper '{name}'")
    if len(head) > 4000 or len(body.encode()) > MAX_BODY_BYTES:
        raise BadInput(f"{where}: larger than a letter may be")
    return Letter(
        id=given["id"],
        sender=given["from"],
        to=given["to"],
        kind=given["kind"] if given.get("kind") in KINDS else "note",  # type: ignore[arg-type]
        created=given.get("created", ""),
        body=body,
        about=given.get("about"),
        reply_to=given.get("reply_to"),
        signature=given.get("signature", ""),
    )


def _scalar(value: str | None) -> str:
    if value is None:
        return "null"
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}|[0-9]{4}-[0-9T:.-]{10,}Z", value)
    return value if plain and value not in ("null", "true", "false") else json.dumps(value, ensure_ascii=False)


def _fields(head: str) -> dict[str, str | None] | None:
    """The front matter in the form `render` writes, or None: then it is for the YAML reader."""
    row: dict[str, str | None] = {}
    for line in head.split("\n"):
        name, _, value = line.partition(": ")
        if name not in FIELDS or name in row:
            return None
        if value.startswith('"'):
            try:
                row[name] = json.loads(value)
            except ValueError:
                return None
        elif re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]*", value):
            row[name] = None if value == "null" else value
        else:
            return None
    return row


def _signature(letter: Letter, key: str) -> str:
    """HMAC over everything a reader sees, the box it was meant for included."""
    row = [letter.id, letter.sender, letter.to, letter.kind, letter.about, letter.reply_to, letter.created, letter.body]
    return hmac.new(key.encode(), json.dumps(row).encode(), hashlib.sha256).hexdigest()


# --- files -------------------------------------------------------------------------------------------------------


def _deliver(box: Path, letter: Letter) -> None:
    """At most once by the letter's id; whole or not at all."""
    name = f"{letter.id}.md"
    for folder in ("tmp", "new", "cur"):
        (box / folder).mkdir(parents=True, exist_ok=True)
    if any((box / folder / name).exists() for folder in ("new", "cur")):
        return
    temporary = box / "tmp" / f"{letter.id}.{os.getpid()}.{secrets.token_hex(3)}"
    temporary.write_bytes(render(letter).encode())
    failpoint("mail.tmp")
    temporary.rename(box / "new" / name)
    failpoint("mail.new")


def _read(home: Home, seat: str, path: Path) -> Letter:
    """The letter in `path`, its signature checked. Raises FileNotFoundError, OSError or BadInput; never waits on a pipe,
    never follows a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE_BYTES:
            raise BadInput(f"{path.name!r:.80}: not a plain file of at most {MAX_FILE_BYTES // 1024} KB")
        data = file.read(MAX_FILE_BYTES + 1)
    try:
        letter = parse(data.decode(), f"{path.name!r:.80}")
    except UnicodeDecodeError:
        raise BadInput(f"{path.name!r:.80}: not UTF-8 text") from None
    if path.name != f"{letter.id}.md":
        raise BadInput(f"{path.name!r:.80}: holds a letter with another id")
    if not letter.created:
        written = datetime.fromtimestamp(facts.st_mtime, UTC)
        letter = replace(letter, created=written.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    key = _key(home, letter.sender)
    is_signed = bool(key) and hmac.compare_digest(_signature(letter, key or "").encode(), letter.signature.encode())
    return replace(letter, verified=is_signed and letter.to == seat)


def _names(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


def _set_aside(home: Home, seat: str, path: Path, reason: str) -> None:
    """Out of new/, into bad/, with a line for people; nothing in a mailbox may stop its reader."""
    bad = home.mailbox(seat) / "bad"
    bad.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(bad / f"{int(time.time())}-{secrets.token_hex(3)}")
    except OSError:
        return  # gone already, or not ours to move
    row = {"t": files.utc_now(), "event": "bad letter", "seat": seat, "text": files.printable(reason, 300)}
    files.append_line(home.events, json.dumps(row))


def _sweep(tmp: Path) -> None:
    """Half-written letters of senders that were killed."""
    for path in _names(tmp):
        try:
            if time.time() - path.lstat().st_mtime > STALE_TMP_S:
                path.unlink()
        except OSError:
            continue  # gone, or a folder somebody put there


def _check_sender(home: Home, sender: str) -> None:
    if sender in PLACES or (ID_PATTERN.fullmatch(sender) and (home.seat(sender) / "seat.json").is_file()):
        return
    known = [*seats(home), "human"]
    raise BadInput(
        f"no seat is called '{sender:.40}'{did_you_mean(sender, known)}; letters come from {', '.join(known)}"
    )


def _key(home: Home, name: str, make: bool = False) -> str | None:
    """The seat's signing key, made on first use, readable by the owner only. A half-written one is never seen."""
    path = home.seat(name) / "key"
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        if not make:
            return None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".key.{os.getpid()}.{secrets.token_hex(3)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass  # another process made it at the same moment: that one counts
    finally:
        temporary.unlink()
    return path.read_text()
