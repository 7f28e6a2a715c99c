"""A person's orders from the standup's review section: written down, carried to the seats once, and what came of each.

    page saved -> read (`team.review`) -> a line in comms/orders.jsonl -> what the org can do itself -> letters -> a line

An order is its page and its words, so a page may be saved, made again and looked at by anybody without a second letter; its
letter's id is made of the same. Killed anywhere, the next look goes on. Judges no order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from org import charter as charters
from org import files, times
from org.agents import obey
from org.errors import BadInput, Busy, OrgError
from org.evidence import ladder
from org.failpoint import failpoint
from org.home import Home
from org.lab import promotions, stacks
from org.records import Charter, Contract, Verdict
from org.team import boxes, mail, review, roster, seats
from org.team.prose import Reader, cell
from org.team.review import Desk, Order

if TYPE_CHECKING:
    from org.lab.book import Book

PAGES = 3  # the newest pages whose review sections are read
SETTLE_S = 1.0  # an editor may save half of what it saves next
SHOWN = 30  # orders on a page
EXPERIMENTS = 4  # of one order on a page


@dataclass(frozen=True)
class Placed:
    """An order and how far it came. `did`: experiments the org filed for it; `refused`: why none, or not all; `missed`: boxes
    that could not take it. `closed`: nothing is left to do for the org."""

    order: Order
    since: str
    closed: bool = False
    did: tuple[str, ...] = ()
    refused: str = ""
    missed: tuple[str, ...] = ()


class Clerk:
    """Looks at the pages for the office: `step` as often as it likes; while no page changes it costs a few `stat`s."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._seen: tuple[Any, ...] | None = None

    def step(self, book: Book) -> tuple[list[Placed], float | None]:
        """What was carried now, and after how many seconds to look again though nothing changes."""
        seen = files.signature(*_pages(self.home))
        if seen == self._seen:
            return [], None
        try:
            carried, is_open = take(self.home, book, SETTLE_S, wait=False)
        except Busy:
            return [], SETTLE_S  # `org standup review` is at it
        self._seen = None if is_open else seen
        return carried, SETTLE_S if is_open else None


# --- taking ------------------------------------------------------------------------------------------------------


def take(home: Home, book: Book, settle_s: float = 0.0, *, wait: bool = True) -> tuple[list[Placed], bool]:
    """Read the newest pages and carry what is new; (what was carried now, whether something is to be looked at again soon:
    a page saved less than `settle_s` ago, a gate that somebody else holds). wait: for that gate,
    and for whoever else takes orders now, else Busy. Without any seat nothing is
    taken: what stands on the page is carried when there is somebody."""
    fresh = False
    carried: list[Placed] = []
    with files.locked(home.leases / "orders", wait=wait):
        known = placed(home)
        charter = charters.load(home)
        desk = desk_of(home, book, charter)
        for path in _pages(home) if desk.roles else ():
            text = _text(path)
            if text is None or not (words := review.below(text)).strip():
                continue
            fresh = fresh or 0 <= time.time() - path.stat().st_mtime < settle_s
            if fresh:
                continue
            for order in review.orders(words, path.stem, desk):
                if order.key not in known:
                    known[order.key] = Placed(order, files.utc_now())
                    row = {"t": known[order.key].since, **order.to_dict()}
                    files.append_line(home.orders, json.dumps(row, ensure_ascii=False))
                    failpoint("orders.noted")
        for one in [one for one in known.values() if not one.closed]:
            if _is_for_the_gate(one.order) and not wait and files.is_locked(home.leases / "gate"):
                fresh = True  # a filing may wait for the charter's checks, and the office may not wait for it
                continue
            carried.append(_carry(home, book, one))
    return carried, fresh


def placed(home: Home) -> dict[str, Placed]:
    """Every order by its key, oldest first. What is no order of ours in the file is passed over: agents could write there."""
    found: dict[str, Placed] = {}
    for row in files.read_lines(home.orders)[0]:
        key, at = str(row.get("key")), times.seconds(row.get("t"))
        if at is None:
            continue
        if row.get("closed") is True and key in found:
            lists = {name: tuple(map(str, v)) for name in ("did", "missed") if isinstance(v := row.get(name), list)}
            found[key] = Placed(
                found[key].order, found[key].since, True, refused=str(row.get("refused") or ""), **lists
            )
        elif key not in found and not Order.misfit(row):
            order = Order.from_dict({**row, "to": tuple(row["to"]), "experiments": tuple(row.get("experiments") or ())})
            found[key] = Placed(order, times.utc(at))
    return found


def has_seats(home: Home) -> bool:
    """Whether anybody is there who could be told."""
    return bool(roster.members(home, people=False))


def desk_of(home: Home, book: Book, charter: Charter) -> Desk:
    """What names mean here and now. A person's own seat is addressed by nobody but by its name."""
    present = [seat for seat in seats.present(home) if seat.name in roster.members(home, people=False)]
    tried: dict[str, list[str]] = {}
    for contract in book.experiments.values():
        if contract.idea:
            tried.setdefault(contract.idea, []).append(contract.seat)
    lines = dict.fromkeys([*charter.programs, *book.heads, *(seat.program for seat in present)])
    return Desk(
        roles={seat.name: seat.role for seat in present},
        programs={seat.name: seat.program for seat in present if not roster.leads(seat.role)},
        authors={name: contract.seat for name, contract in book.experiments.items()},
        tried=tried,
        lines=tuple(lines),
        scales=tuple(charter.scales),
    )


def _carry(home: Home, book: Book, one: Placed) -> Placed:
    did, refused = _done_by_the_org(home, book, one.order)
    failpoint("orders.done")
    missed = []
    body = _body(one.order, did, refused)
    for seat in one.order.to:
        kind = "note" if did and not refused else one.order.kind  # nothing is left for the seat to do
        try:
            mail.send(home, "human", seat, body, kind, one.order.about, letter_id=one.order.letter)
        except OrgError as error:
            missed.append(f"{seat}: {error}")
    failpoint("orders.sent")
    row = {"t": files.utc_now(), "key": one.order.key, "closed": True, "did": did, "refused": refused, "missed": missed}
    files.append_line(home.orders, json.dumps(row, ensure_ascii=False))
    return Placed(one.order, one.since, True, tuple(did), refused, tuple(missed))


def _body(order: Order, did: Sequence[str], refused: str) -> str:
    lines = [order.text, "", f"(From the review of the standup of {order.page}.)"]
    if did:
        rest = "" if refused else "; there is nothing left to do"
        lines.append(f"The org has filed {', '.join(did)} for it{rest}.")
    if refused:
        lines.append(f"The org could not file {'all of it' if did else 'it'}: {refused}")
    if refused or not did:
        lines.append(f"Answer with `org send human --reply-to {order.letter} '…'`; it stands on the next page.")
    return "\n".join(lines)


def _is_for_the_gate(order: Order) -> bool:
    return order.verb == "again" and bool(order.experiments)


def _done_by_the_org(home: Home, book: Book, order: Order) -> tuple[list[str], str]:
    """(experiments that measure it again, why some of it is not). `E0042 again at d4` is `org promote`, without a scale `org verify`."""
    if not _is_for_the_gate(order):
        return [], ""
    did: list[str] = []
    refused: list[str] = []
    for name in order.experiments:
        there = _filed_before(book, name, order)
        if there is not None:
            did.append(there)
            continue
        try:
            if order.scale:
                did += [c.experiment for c in promotions.promote(home, [name], order.scale)]
            else:
                did.append(stacks.verify(home, name).experiment)
        except BadInput as error:
            refused.append(" ".join(str(error).split()))
    return did, "; ".join(dict.fromkeys(refused))


def _filed_before(book: Book, name: str, order: Order) -> str | None:
    """The experiment that measures it again already: also the one that was filed just before whoever carried this was
    killed."""
    if order.scale:
        tests = ladder.retests(book.experiments, book.verdicts).get(name, ())
        return next((test.experiment for test in tests if test.scale == order.scale and test.state != "lost"), None)
    again = [c.experiment for c in book.experiments.values() if c.stage == "verify" and c.members == (name,)]
    return next((one for one in reversed(again) if _outcome(book, one) != "lost"), None)


def _pages(home: Home) -> list[Path]:
    there = sorted(home.standups.glob("[0-9]*.md"), reverse=True) if home.standups.is_dir() else []
    return there[:PAGES]


def _text(path: Path) -> str | None:
    try:
        return files.read_plain(path).decode("utf-8", "replace").replace("\r\n", "\n")
    except (BadInput, OSError):
        return None  # no page


# --- what came of them -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fate:
    """One order as the next page tells of it."""

    placed: Placed
    read: Mapping[str, str | None]  # seat -> when it read the letter; "" when that is not known any more
    answers: Sequence[tuple[str, str]] = ()  # (seat, its words)


def fates(home: Home, since: str | None, page: str) -> list[Fate]:
    """Orders that the page of this date answers for: those given since the last page, and those that were written on it
    or on this one, however long ago. Oldest first."""
    there = placed(home).values()
    last = max((one.order.page for one in there if one.order.page < page), default=page)
    wanted = [one for one in there if since is None or one.since > since or one.order.page >= last]
    if not wanted:
        return []
    replies: dict[str, list[tuple[str, str]]] = {}
    for letter in mail.received(home, "human", min(one.since for one in wanted)):
        if letter.verified and letter.reply_to:
            replies.setdefault(letter.reply_to, []).append((letter.sender, letter.body))
    return [
        Fate(one, {seat: _read_at(home, seat, one.order.letter) for seat in one.order.to}, answered)
        for one in wanted
        for answered in [replies.get(one.order.letter, [])]
    ]


def section(found: Sequence[Fate], book: Book, reader: Reader, shows: Any) -> str:
    """The standup's page of them. shows: verdict -> its outcome and effect as the page has them elsewhere."""
    lines = []
    for fate in found[-SHOWN:]:
        order = fate.placed.order
        who = ", ".join(f"{cell(seat, 32)} {_read(fate.read.get(seat))}" for seat in order.to) or "nobody is here"
        parts = [f"- \u201c{cell(order.text, 300)}\u201d ({order.verb}, {order.page}): to {who}"]
        parts += [f"not delivered to {cell(why, 200)}" for why in fate.placed.missed]
        if fate.placed.did:
            parts.append(f"the org filed {', '.join(_told(name, book, shows) for name in fate.placed.did)}")
        if fate.placed.refused:
            what = "not the rest" if fate.placed.did else "nothing"
            parts.append(f"the org filed {what}: {cell(fate.placed.refused, 200)}")
        parts += [f"{cell(seat, 32)} answered: {cell(text, 240)}" for seat, text in fate.answers]
        if not fate.placed.did and (after := list(since_then(fate.placed, book))):
            named = ", ".join(_told(c.experiment, book, shows) for c in after[:EXPERIMENTS])
            more = f" and {len(after) - EXPERIMENTS} more" if len(after) > EXPERIMENTS else ""
            parts.append(f"filed since: {named}{more}")
        elif not (fate.placed.did or fate.answers):
            parts.append("nothing came of it yet")
        lines.append(reader.read("; ".join(parts) + "."))
    left = len(found) - SHOWN
    return "\n".join([*([f"_{left} earlier ones are in comms/orders.jsonl._\n"] if left > 0 else []), *lines])


def since_then(one: Placed, book: Book) -> Iterator[Contract]:
    """Experiments filed since that are about it: first those that name the order's letter, its idea or its experiment,
    then what its seats filed."""
    later = [c for c in book.experiments.values() if c.created > one.since]
    about = set(obey.IDEA.findall(one.order.text)) | set(one.order.experiments)
    named = [c for c in later if one.order.letter in c.why or c.idea in about or c.promotes in about]
    yield from named
    yield from (c for c in later if c not in named and c.seat in one.order.to)


def _told(name: str, book: Book, shows: Any) -> str:
    verdict: Verdict | None = book.verdicts.get(name)
    return f"{name} ({shows(verdict) if verdict else 'no verdict yet'})"


def _read(when: str | None) -> str:
    if when is None:
        return "(not read yet)"
    return f"(read {when[:16].replace('T', ' ')})" if when else "(read)"


def _read_at(home: Home, seat: str, letter: str) -> str | None:
    there = boxes.place(home, seat, letter)
    if there is None or there[0] == "new":
        return None
    try:
        return times.utc(there[1].stat().st_ctime) if there[0] == "cur" else ""  # the rename from new/ sets it
    except FileNotFoundError:
        return ""  # put away meanwhile


def _outcome(book: Book, name: str) -> str | None:
    verdict = book.verdicts.get(name)
    return verdict.outcome if verdict else None
