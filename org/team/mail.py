"""Letters as files: who may write to whom, sending and reading. Works with the office dead.

The form of a letter is `envelope`, its folders are `boxes`, how much one may write is `limits`, what became of one is
`delivery`. Does not ring anybody: that a letter waits is seen by looking (`waiting`).
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime

from org import files, times
from org.errors import BadInput, OrgError, did_you_mean
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home, check_id
from org.records import Letter
from org.team import boxes, envelope, limits, pages, roster
from org.team.envelope import KINDS, MAX_BODY_BYTES, new_id


class Undelivered(OrgError):
    """Some boxes could not take a letter; `sent`: the copies that the others have; missed: box -> why."""

    def __init__(self, letter_id: str, sent: list[Letter], missed: dict[str, str]) -> None:
        have = f"; {', '.join(letter.to for letter in sent)} have it, so do not send it again" if sent else ""
        said = ", ".join(f"{box} ({why})" for box, why in missed.items())
        super().__init__(f"letter {letter_id} did not reach {said}{have}")
        self.letter_id, self.sent, self.missed = letter_id, sent, missed


MAX_AT_ONCE = 500  # letters one reading takes; the rest stay in new/
PLACES = ("human", "office", "org")  # who writes letters without being a seat
OF_THE_ORG = ("verdict",)  # kinds that only the org writes
ABOUT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(?:/[A-Za-z0-9][A-Za-z0-9_-]{0,63})?")


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
    """Deliver `body` to every box that `to` names: a seat, a role, `all`, a process that is `on asked`, `human`, `council` (where
    that is no process: chiefs and councillors). A role and `all` mean who is here now (`roster.members`); by its name a retired seat gets its letter too.

    One id for all copies; the sender gets none unless it is named itself, so for `all` and roles there may be nobody: [].
    With `letter_id` the call may be repeated after a crash: a box that has the letter, read or not, is left alone. Raises
    BadInput, or Busy for a seat that wrote too much or a full box, before anything is delivered; Undelivered when a box
    is broken, after every other one has its copy; OSError when the disk is full.
    """
    to_boxes = recipients(home, to, sender)
    _check_sender(home, sender)
    allowed = [name for name in KINDS if sender in PLACES or name not in OF_THE_ORG]
    if kind not in allowed:
        raise BadInput(f"kind '{kind:.40}' is unknown{did_you_mean(kind, allowed)}; use one of {', '.join(allowed)}")
    body = body.encode("utf-8", "replace").decode()
    size = len(body.encode())
    if size > MAX_BODY_BYTES:
        raise BadInput(
            f"the letter has {size / 1024:.0f} KB, the limit is {MAX_BODY_BYTES // 1024} KB; "
            "put the text into a file and send its path"
        )
    _check_heading(home, sender, to_boxes, about, reply_to)
    now = datetime.now(UTC)
    letter = Letter(
        id=check_id(letter_id or new_id(now.isoformat(), sender), "letter id"),
        sender=sender,
        to=to,
        kind=kind,  # type: ignore[arg-type]  # checked against KINDS above
        created=times.utc(now.timestamp()),
        body=body,
        about=about,
        reply_to=reply_to,
        verified=True,
    )
    if sender not in PLACES and to_boxes:
        limits.check_room(home, to_boxes)
        limits.take(home, sender, time.time())
    key = envelope.make_key(home, sender)
    sent: list[Letter] = []
    missed: dict[str, str] = {}
    for box in to_boxes:
        copy = replace(letter, to=box)
        copy = replace(copy, signature=envelope.signature(copy, key))
        try:
            boxes.deliver(home.mailbox(box), copy, is_repeated=letter_id is not None)
        except OSError as error:
            if files.is_full(error):
                raise
            missed[box] = " ".join(str(error).split())  # what a seat made of its own box is no matter of the others
        else:
            sent.append(copy)
    if missed:
        raise Undelivered(letter.id, sent, missed)
    return sent


def recipients(home: Home, to: str, sender: str) -> list[str]:
    """The boxes that `to` stands for, in order. Raises BadInput naming who is known."""
    if to == "human":
        return ["human"]
    roles = roster.members(home)
    if found := roster.named(home, to):
        return found if found == [to] else [name for name in found if name != sender]
    if _takes_letters(home, to, sender):
        return [to]  # the office reads this box
    if to == "council" and roles:
        return [name for name, role in roles.items() if roster.leads(role) and name != sender]
    if to in PLACES:
        raise BadInput(f"'{to}' writes letters and reads none; write to {', '.join([*roles, 'human'][:9])}")
    if not roles:
        raise BadInput(
            f"nobody is called '{to:.40}': no seat exists yet; make seats with `org launch`, or write to human"
        )
    names = [*roles, *sorted(set(roles.values())), "all", "human"]
    known = list(dict.fromkeys(names))
    raise BadInput(f"nobody is called '{to:.40}'{did_you_mean(to, known)}; known: {', '.join(known)}")


def _takes_letters(home: Home, name: str, sender: str) -> bool:
    """Whether `name` is a process that letters are written to, with anybody here who would be asked."""
    page = pages.asked(home, name)
    return page is not None and any(seat != sender for who in page.who for seat in roster.named(home, who))


def seats(home: Home) -> dict[str, str]:
    """Name -> role of every seat, retired ones too, by name (j2 before j10). A folder without a readable seat.json is none."""
    found = {}
    for file in home.seats.glob("*/seat.json"):
        row = files.read_json(file)
        if isinstance(row, dict) and ID_PATTERN.fullmatch(file.parent.name):
            found[file.parent.name] = str(row.get("role", ""))
    return {name: found[name] for name in sorted(found, key=roster.by_name)}


def _check_sender(home: Home, sender: str) -> None:
    if sender in PLACES or (ID_PATTERN.fullmatch(sender) and home.seat_file(sender).is_file()):
        return
    known = [*seats(home), "human"]
    raise BadInput(
        f"no seat is called '{sender:.40}'{did_you_mean(sender, known)}; letters come from {', '.join(known)}"
    )


def _check_heading(home: Home, sender: str, to: list[str], about: str | None, reply_to: str | None) -> None:
    """`about` is a name; `reply_to` is a letter that the sender got, or wrote to one of these boxes itself."""
    if about is not None and not ABOUT.fullmatch(about):
        raise BadInput(f"--about {about!r:.60} is not allowed; name an experiment, a run or an idea, such as E0042")
    if reply_to is None:
        return
    check_id(reply_to, "--reply-to")
    if sender in ("office", "org"):
        return
    mine = [boxes.place(home, box, reply_to) for box in dict.fromkeys([sender, *to])]
    if not any(mine):
        who = "you have" if sender == "human" else f"{sender} has"
        raise BadInput(f"--reply-to {reply_to}: {who} no such letter; `org inbox` lists what is new, with ids")


# --- reading -----------------------------------------------------------------------------------------------------


def peek(home: Home, seat: str, is_tidy: bool = False) -> list[Letter]:
    """Letters waiting for `seat`, oldest first; they stay in new/. With `is_tidy` what is no letter moves to bad/ and
    leaves a line in the events; it never raises."""
    box = home.mailbox(seat)
    letters: list[Letter] = []
    left = MAX_AT_ONCE  # of what is no letter: thousands of such files must not keep the letters behind them unseen
    for path in sorted(boxes.names(box / "new"), key=lambda path: envelope.moment_of(path.stem) is None):
        if left == 0 or len(letters) == MAX_AT_ONCE:
            break
        try:
            letter = boxes.read(home, seat, path)
        except FileNotFoundError:
            continue  # another reader was first
        except (BadInput, OSError) as error:
            left -= 1
            if is_tidy:
                boxes.set_aside(home, seat, path, str(error))
            continue
        if boxes.was_read(home, seat, letter.id):  # sent again while its first copy was being read
            if is_tidy:
                path.unlink(missing_ok=True)
            continue
        failpoint("mail.read")
        letters.append(letter)
    if is_tidy:
        boxes.sweep(box / "tmp")
    return sorted(letters, key=lambda letter: (letter.created, letter.id))


def acknowledge(home: Home, seat: str, letter_id: str) -> bool:
    """Move a letter from new/ to cur/; False when somebody else did."""
    return boxes.acknowledge(home.mailbox(seat), check_id(letter_id, "letter id"))


def waiting(home: Home, seat: str) -> int:
    """How many letters wait, by a look at the folder."""
    return len(boxes.names(home.mailbox(seat) / "new"))


def find(home: Home, seat: str, letter_id: str) -> Letter | None:
    """One letter of `seat`: unread, read or put away."""
    check_id(letter_id, "letter id")
    for _ in range(3):  # it can move on twice between the look and the reading
        there = boxes.place(home, seat, letter_id)
        if there is None:
            return None
        try:
            return boxes.read(home, seat, there[1])
        except FileNotFoundError:
            continue
        except (OSError, BadInput):
            return None  # not a letter
    return None


def received(home: Home, seat: str, since: str) -> list[Letter]:
    """Letters to `seat` created at or after `since` (UTC ISO-8601), whether read, put away or not, oldest first. Skips
    what is no letter."""
    first = times.moment(since).astimezone(UTC).replace(microsecond=0)
    found = {}
    for path in boxes.all_of(home, seat, f"{first:%Y-%m-%d}"):
        if (envelope.moment_of(path.stem) or first) < first:  # of another id the file is looked at
            continue
        try:
            letter = boxes.read(home, seat, path)
        except (OSError, BadInput):
            continue  # moved on, and seen again there; or not a letter
        if letter.created >= since:
            found[letter.id] = letter
    return sorted(found.values(), key=lambda letter: (letter.created, letter.id))
