"""What a person wrote below `## Review` of a standup, read as orders: what is asked, of whom, about what. Pure.

A line is an order: of plain text, of a list, ticked or not; an indented line goes on with the one above it. Quotes,
headings, rules and comments are none. What cannot be read goes to the chief as it is. Sends nothing (`team.orders`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from org import files
from org.agents import obey
from org.agents.obey import Meaning, Verb
from org.records import Record

HEADING = "## Review"
SECTION = re.compile(rf"\r?\n{HEADING}[ \t]*\r?\n")  # where it begins, as editors save it
HINT = (
    "_Write below this line, an order a line: approve, stop, redirect, ask, `E0042 again at SCALE`, `@j1 …`. When you save,\n"
    "each goes to the seats it names, else to the chief, once; the next page says what came of it._\n"
)
MOST = 200  # orders that one page may hold

_ITEM = re.compile(r"[ \t]{0,3}(?:[-*+]|[0-9]{1,3}[.)])[ \t]+(?:\[[ xX]?\][ \t]+)?")
_NO_ORDER = re.compile(r"[ \t]*(?:>|#{1,6}(?:[ \t]|$)|<!--|```|([-*_=])[ \t]*(?:\1[ \t]*){2,}$|\|[ :|-]*$)")
_HINT = re.compile(r"\A\s*_Write below this line.{0,600}?_[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_WORD = re.compile(r"(?<![\w-])[A-Za-z0-9][\w-]*")
_EVERYBODY = re.compile(r"@all\b|\b(?:everybody|everyone|all seats|all juniors)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Desk:
    """What names mean at this moment."""

    roles: Mapping[str, str] = field(default_factory=dict)  # seat -> role, of those who are here
    programs: Mapping[str, str] = field(default_factory=dict)  # seat -> the program it is on
    authors: Mapping[str, str] = field(default_factory=dict)  # experiment -> the seat that filed it
    tried: Mapping[str, Sequence[str]] = field(default_factory=dict)  # idea -> seats that filed experiments for it
    lines: Sequence[str] = ()  # programs of the charter and the record
    scales: Sequence[str] = ()

    @property
    def chiefs(self) -> tuple[str, ...]:
        """Who gets what names nobody: the chiefs, else everybody."""
        found = tuple(name for name, role in self.roles.items() if role.startswith("chief"))
        return found[:1] or tuple(self.roles)


@dataclass(frozen=True)
class Order(Record):
    """One line of a page. `key` is made of the page and the words, so the same line is the same order for ever."""

    key: str
    page: str  # its date
    text: str  # as it was written, on one line
    to: tuple[str, ...]
    kind: Literal["task", "question"]
    verb: Verb
    about: str | None = None
    experiments: tuple[str, ...] = ()
    scale: str | None = None

    @property
    def letter(self) -> str:
        return f"review-{self.key}"


def below(page: str) -> str:
    """What the person wrote on a standup: everything behind the heading but the org's own hint."""
    head = SECTION.search(page)
    return _HINT.sub("", page[head.end() :], count=1) if head else ""


def orders(text: str, page: str, desk: Desk) -> list[Order]:
    """The orders in `text`, in their order, each once; at most MOST. page: its date, which makes them orders of that page."""
    found: dict[str, Order] = {}
    for line in lines(text):
        order = _order(line, page, desk)
        found.setdefault(order.key, order)
        if len(found) == MOST:
            break
    return list(found.values())


def lines(text: str) -> Iterator[str]:
    """Each order's words on one line, without list marks and what a terminal would obey."""
    words, is_code = "", False
    for raw in text.splitlines():
        is_code ^= raw.lstrip().startswith("```")
        if not raw.strip() or is_code or _NO_ORDER.match(raw):
            yield from [words] if words else []
            words = ""
            continue
        item = _ITEM.match(raw)
        line = " ".join(files.printable(raw[item.end() :] if item else raw).split())
        is_more = words and item is None and raw[:1] in (" ", "\t")
        if is_more:
            words = f"{words} {line}"[: obey.LONGEST]
            continue
        yield from [words] if words else []
        words = line[: obey.LONGEST]
    yield from [words] if words else []


def _order(line: str, page: str, desk: Desk) -> Order:
    meant = obey.meaning(line, desk.roles, desk.scales)
    digest = hashlib.sha256(f"{page}\n{line}".encode("utf-8", "replace")).hexdigest()[:12]
    return Order(
        key=digest,
        page=page,
        text=line,
        to=_to(line, meant, desk),
        kind="question" if meant.verb == "question" else "task",
        verb=meant.verb,
        about=next(iter((*meant.experiments, *meant.ideas)), None),
        experiments=meant.experiments,
        scale=meant.scale,
    )


def _to(line: str, meant: Meaning, desk: Desk) -> tuple[str, ...]:
    """Who is addressed, else who is named, else whose work it is about, else the chief."""
    everybody = _EVERYBODY.search(line)
    at = [name for word in re.findall(r"@([\w-]+)", line) for name in _called(word.lower(), desk)]
    if everybody and not at:
        return tuple(desk.roles)
    if at:
        return tuple(dict.fromkeys(at))
    words = [word.lower() for word in _WORD.findall(line)]
    named = [name for name in desk.roles if name.lower() in words]
    chiefs = desk.chiefs if any(role.startswith("chief") for role in desk.roles.values()) else ()
    if named:
        # who moves a junior tells the chief, or it would be moved back
        return tuple(dict.fromkeys([*named, *(chiefs if meant.verb == "redirect" else ())]))
    owners = [desk.authors[name] for name in meant.experiments if name in desk.authors]
    owners += [seat for idea in meant.ideas for seat in desk.tried.get(idea, ())]
    owners = [seat for seat in owners if seat in desk.roles]
    if owners or meant.ideas:
        judged = meant.verb in ("approve", "veto") or not owners
        return tuple(dict.fromkeys([*owners, *(chiefs if judged else ())])) or desk.chiefs
    if meant.verb != "redirect":
        there = [p for p in desk.lines if p.lower() in words and (p != "main" or "program main" in line.lower())]
        if found := [seat for seat, program in desk.programs.items() if program in there and seat in desk.roles]:
            return tuple(found)
    return desk.chiefs


def _called(name: str, desk: Desk) -> list[str]:
    """The seats that `@name` stands for: a seat, a role, a program."""
    if name in desk.roles:
        return [name]
    return [seat for seat, role in desk.roles.items() if name in (role, f"{role}s", desk.programs.get(seat))]
