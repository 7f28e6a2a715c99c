"""The form of a letter: its front matter, its id, its signature, and how a terminal shows it. Knows no mailbox.

Signatures tell a letter written by `org send` in a seat from one dropped into the folder by something else; agents share
the user, so this detects and does not prevent.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

from org import files, strictyaml, times
from org.errors import BadInput
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home
from org.records import Letter

MAX_BODY_BYTES = 64 * 1024
MAX_FILE_BYTES = MAX_BODY_BYTES + 4096  # the front matter is below 1 KB
AHEAD_S = 60.0  # a letter is older than its file, by a clock that may have been set meanwhile
MAX_KEY_BYTES = 4096
SHOWN_BYTES = 4096  # of a body, in a terminal
KINDS: tuple[str, ...] = get_args(get_type_hints(Letter)["kind"])
FIELDS = ("id", "from", "to", "kind", "about", "reply_to", "created", "signature")
_MORE = re.compile(r"\d (?:bytes|letters?) more\b", re.IGNORECASE)
_ID = re.compile(r"l-(\d\d)(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-[0-9a-f]{9}", re.ASCII)


# --- ids ---------------------------------------------------------------------------------------------------------


def new_id(now: str, seat: str) -> str:
    """`l-261121-051502-` and nine hex digits: microseconds, then what tells apart two letters of one instant. Ids sort by time."""
    when = times.moment(now).astimezone(UTC)
    salt = hashlib.sha256(seat.encode() + os.urandom(8)).hexdigest()[:4]
    return f"l-{when:%y%m%d-%H%M%S}-{when.microsecond:05x}{salt}"


def moment_of(letter_id: str) -> datetime | None:
    """When a letter with an id of `new_id` was written, to the second; None for every other id."""
    match = _ID.fullmatch(letter_id)
    try:  # by hand: strptime's module costs 3 ms to load
        year, *rest = map(int, match.groups() if match else ())
        return datetime(2000 + year, *rest, tzinfo=UTC)  # type: ignore[misc,arg-type]  # five numbers by the pattern
    except ValueError:
        return None  # the 39th of a month


def written(created: str, came: float) -> str:
    """`created` as every letter of ours carries it, so that texts compare as times do; `came` (Unix seconds), when its file
    was written, for what is no time or lies after that: a letter from the future would be unanswered for ever."""
    when = times.seconds(created)
    return times.utc(came if when is None or when > came + AHEAD_S else when)


# --- the file ----------------------------------------------------------------------------------------------------


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
        row, body = strictyaml.front_matter(text, where)
    given = {name: str(row[name]) for name in FIELDS if row.get(name) not in (None, "")}
    try:
        "".join(given.values()).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which an escape in it may name
        raise BadInput(f"{where}: the front matter is not text") from None
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


# --- the signature -----------------------------------------------------------------------------------------------


def signature(letter: Letter, key: str) -> str:
    """HMAC over everything a reader sees, the box it was meant for included."""
    row = [letter.id, letter.sender, letter.to, letter.kind, letter.about, letter.reply_to, letter.created, letter.body]
    return hmac.new(key.encode(), json.dumps(row).encode(), hashlib.sha256).hexdigest()


def is_signed(home: Home, letter: Letter) -> bool:
    """Whether its sender's key made this signature over these words."""
    key = read_key(home, letter.sender)
    return bool(key) and hmac.compare_digest(signature(letter, key or "").encode(), letter.signature.encode())


def read_key(home: Home, name: str) -> str | None:
    """None where none is, or something that is no key: a pipe would be waited for by whoever reads a letter."""
    try:
        return files.read_plain(home.seat(name) / "key", MAX_KEY_BYTES).decode()
    except (OSError, BadInput, UnicodeDecodeError):
        return None


def make_key(home: Home, name: str) -> str:
    """The sender's signing key, made on first use, readable by the owner only. A half-written one is never seen.
    BadInput where something else lies in its place."""
    if (key := read_key(home, name)) is not None:
        return key
    path = home.seat(name) / "key"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".key.{os.getpid()}.{os.urandom(3).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(os.urandom(32).hex())
    failpoint("mail.key")
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass  # another process made it at the same moment: that one counts
    finally:
        temporary.unlink()
    return files.read_plain(path, MAX_KEY_BYTES).decode(errors="replace")


# --- for a terminal ----------------------------------------------------------------------------------------------


def show(letter: Letter) -> str:
    """The letter for a terminal: one head line, then the body, control characters made harmless. A line of the body that
    could pass for the head of the next letter, or for our note at the end of a long one, is shown as a quote."""
    parts = [letter.id, f"{letter.kind} from {letter.sender}" + ("" if letter.verified else " (unverified)")]
    parts += [f"about {letter.about}"] if letter.about else []
    parts += [f"answers {letter.reply_to}"] if letter.reply_to else []
    head = files.printable("  ".join([*parts, letter.created]).replace("\n", " "))
    lines = files.printable(letter.body).split("\n")
    return "\n".join([head, *(f"> {line}" if _passes_for_ours(line) else line for line in lines)])


def _passes_for_ours(line: str) -> bool:
    """Looked at word by word, and no further than a head goes: a pattern takes minutes over 64 KB of dashes."""
    if len(line) < 8:
        return False
    words = re.findall(r"\w[\w-]{0,40}", line[:160].lower())[:3]
    is_head = len(words) > 2 and words[1] in KINDS and words[2] == "from" and re.search(r"[-\d]", words[0]) is not None
    return is_head or (bool(words) and words[0].isdigit() and bool(_MORE.search(line[:160])))


def split(body: str, most: int = SHOWN_BYTES) -> tuple[str, str]:
    """The whole lines of `body` that fit into `most` bytes, and the rest; of a first line that is longer, what fits of it.
    The two together are the body."""
    data = body.encode()
    if len(data) <= most:
        return body, ""
    head = data[: data.rfind(b"\n", 0, most) + 1 or most].decode("utf-8", "ignore")  # never half a character
    return head, body[len(head) :]
