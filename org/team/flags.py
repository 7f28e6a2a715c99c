"""What needs a person: each flag has a cause, one sentence and the command to begin with. Pure: facts in, flags out.

A condition becomes a flag when it has held for a while, and stops being one by itself. Restarts nothing, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from org import times
from org.files import printable
from org.records import Letter
from org.team.ideapage import IDEA
from org.team.limits import MAX_UNREAD
from org.team.states import DRAFT
from org.words import counted

IGNORED_S = 600.0  # a letter unread for so long by a seat that was ready all the while
SILENT_S = 1800.0  # ready for so long with nothing filed, nothing open and no letter
IDLE_DEVICE_S = 60.0  # work waits and no device is leased
ASKING_S = 30.0  # a dialog that somebody answers at once is no flag
DRAFT_S = 120.0  # a half-typed line that keeps mail waiting
KEPT_FROM = 5  # tool calls of one program that were denied: somebody tries, or was told what cannot be done
REPEATED = 3  # duplicates refused in a row
DISK_FREE = 500_000_000  # bytes: a launch's worth of checkpoints


@dataclass(frozen=True)
class Flag:
    """`cause` tells one flag from another and from its own return. `text` and `more` are sentences without a full stop."""

    cause: str
    text: str
    command: str
    more: str = ""

    def __str__(self) -> str:
        tail = f"; {self.more}" if self.more else ""
        return printable(f"{self.text}; `{self.command}`{tail}", 300).replace("\n", " ")


@dataclass(frozen=True)
class Facts:
    """One moment. seats: the rows of `team.reader`; devices and queue as in `status --json`."""

    now: float
    seats: Sequence[Mapping[str, Any]] = ()
    devices: Sequence[Mapping[str, Any]] = ()
    queue: Sequence[Mapping[str, Any]] = ()
    questions: Sequence[Letter] = ()  # of seats to the person, not answered yet
    repeats: Mapping[str, tuple[int, str]] = field(
        default_factory=dict
    )  # seat -> duplicates in a row, the last one's words
    is_dispatching: bool = True  # the budget lets runs start
    disk_free: int | None = None  # bytes
    damage: str = ""  # of the ledger, a sentence


@dataclass(frozen=True)
class _Held:
    """A flag that stands once its condition has held for `after_s`."""

    flag: Flag
    after_s: float = 0.0


def raised(facts: Facts, began: Mapping[str, float], tick: float | None = None) -> tuple[list[Flag], dict[str, float]]:
    """The flags that stand, and since which tick each condition has held, to be handed in at the next call. Pure. tick:
    seconds that only go on, `facts.now` where it is None."""
    at = facts.now if tick is None else tick
    found = list(_conditions(facts))
    since = {each.flag.cause: began.get(each.flag.cause, at) for each in found}
    return [each.flag for each in found if at - since[each.flag.cause] >= each.after_s], since


def repeated(rows: Iterable[Mapping[str, Any]], before: Mapping[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """How many filings of each seat were refused in a row as tried before, with the last refusal's words. `rows`: further
    lines of the ledger; `before`: what the lines until there came to. Pure."""
    found = dict(before)
    for row in rows:
        if row.get("kind") != "experiment":
            continue
        seat = str(row.get("seat"))
        violations = [v for v in row.get("violations") or () if isinstance(v, Mapping)]
        said = next((str(v.get("message", "")) for v in violations if v.get("rule") == "duplicate"), None)
        if row.get("refused") and said is not None:
            found[seat] = found.get(seat, (0, ""))[0] + 1, words(said, 120)
        elif not row.get("refused"):
            found.pop(seat, None)  # something new was filed; other refusals say nothing about it
    return found


# --- conditions --------------------------------------------------------------------------------------------------


def _conditions(facts: Facts) -> Iterable[_Held]:
    for row in facts.seats:
        yield from _seat(row, facts)
    if facts.damage:
        yield _Held(Flag("ledger", facts.damage, "org results --check"))
    yield from _questions(facts)
    yield from _device(facts)
    if facts.disk_free is not None and facts.disk_free < DISK_FREE:
        left = f"{facts.disk_free / 1e6:.0f} MB"
        yield _Held(Flag("disk", f"the disk is nearly full: {left} left where the org writes", "df -h ."))


def _seat(row: Mapping[str, Any], facts: Facts) -> Iterable[_Held]:
    name, state, attach = row["name"], row["state"], f"org attach {row['name']}"
    waits = f", {counted(row['mail_waiting'], 'letter', one='a')} waiting" if row["mail_waiting"] else ""
    since = float(row["since"])
    if state == "stuck":
        yield _Held(Flag(f"stuck {name}", f"{name} shows no sign of progress{waits}", attach))
    elif state == "asking":
        text = f"{name} asks something in its pane{waits}"
        yield _Held(Flag(f"asking {name}", text, attach, "its experiments run on"), ASKING_S)
    elif state == "limited":
        said = f": {words(row['said'], 60)}" if row.get("said") else ""
        yield _Held(Flag(f"limited {name}", f"{name} is rate limited{said}{waits}", attach, "it goes on by itself"))
    elif state == "ready":
        unread = row.get("unread") or ()
        ready_s = facts.now - since
        if unread and min(ready_s, facts.now - unread[0][1]) > IGNORED_S and not row.get("quiet"):
            text = f"{name} is ready and has not read {unread[0][0]} for {times.span(facts.now - unread[0][1])}"
            yield _Held(Flag(f"ignored {name}", text, attach))
        elif not unread and ready_s > SILENT_S and facts.is_dispatching and _may_be_silent(row):
            text = f"{name} has had nothing to do for {times.span(ready_s)}"
            yield _Held(Flag(f"silent {name}", text, f'org send {name} --kind task "…"'))
    if row["mail_waiting"] > MAX_UNREAD:
        text = f"{row['mail_waiting']:,} files lie in the mailbox of {name}, more than senders may leave there"
        yield _Held(Flag(f"flood {name}", text, f"ls -lt comms/mail/{name}/new | head"))
    if row.get("quiet") == DRAFT and row["mail_waiting"]:
        text = (
            f"a half-typed line in the pane of {name} keeps {counted(row['mail_waiting'], 'letter', one='a')} waiting"
        )
        yield _Held(Flag(f"draft {name}", text, attach, "send the line or delete it"), DRAFT_S)
    for flag in kept_from(row):
        yield _Held(flag)
    count, said = facts.repeats.get(name, (0, ""))
    if count >= REPEATED:
        text = f"{name} proposed what was tried {count} times in a row: {said}"
        yield _Held(Flag(f"repeats {name}", text, f'org send {name} --kind task "…"', "or move it to another program"))


def kept_from(row: Mapping[str, Any]) -> list[Flag]:
    """What a seat's program was denied since its start, where it is a lot. row: of `team.reader`."""
    count, said = row.get("denied") or (0, "")
    if count < KEPT_FROM:
        return []
    text = f"{row['name']} was kept from {count} tool calls, the last: {words(said, 100)}"
    return [Flag(f"denied {row['name']}", text, f"org attach {row['name']}", "`org standup` has the rest")]


def _may_be_silent(row: Mapping[str, Any]) -> bool:
    """Nothing of its own is under way. A `cmd:` program says nothing of itself, so its silence says nothing either."""
    return row.get("experiment") is None and not str(row["backend"]).startswith("cmd")


def _questions(facts: Facts) -> Iterable[_Held]:
    for letter in facts.questions:
        about = f" about {words(letter.about, 40)}" if letter.about else ""
        text = f"{letter.sender} asks you{about}: {words(letter.body, 100)}"
        parked = f"{letter.about} is parked" if IDEA.fullmatch(letter.about or "") else "nothing waits for it"
        answer = f'org send {letter.sender} --reply-to {letter.id} "…"'
        yield _Held(Flag(f"question {letter.id}", text, answer, f"{parked} and {letter.sender} goes on"))


def _device(facts: Facts) -> Iterable[_Held]:
    """Work waits and nothing is leased at all: a device that others use is no idle one."""
    waiting = [row for row in facts.queue if not row.get("run")]
    if not facts.is_dispatching or not waiting or not facts.devices or any(d.get("run") for d in facts.devices):
        return
    names = ", ".join(str(device["name"]) for device in facts.devices[:4])
    text = f"{names} idle while {waiting[0]['experiment']} waits for {waiting[0].get('waiting_for') or 'a device'}"
    yield _Held(Flag("idle device", text, "org doctor"), IDLE_DEVICE_S)


def words(text: str, limit: int) -> str:
    """An agent's words inside a flag: one line, harmless, and without the quotes in which a flag puts its command."""
    return " ".join(printable(text, 4 * limit).replace("`", "'").split())[:limit]
