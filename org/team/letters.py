"""The office's own letters: a verdict to who filed it and to the chief, a moved head to who works on it. Each once.

A letter's id is made of the experiment's, so a crash between sending and remembering sends nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from org import files
from org.errors import OrgError
from org.evidence import ladder
from org.failpoint import failpoint
from org.home import Home
from org.lab.credits import credit_sentence
from org.lab.dispatch import sentence
from org.records import Charter, Verdict
from org.team import boxes, mail, roster, seats

if TYPE_CHECKING:
    from org.lab.book import Book

SENDER = "office"
PAGES = "pages"  # a letter that says which pages of the org changed
SYNC = "Bring your worktree up to it with `org seat NAME --sync`, NAME being yours."


@dataclass(frozen=True)
class Outgoing:
    """A letter to be sent. `seq`: the ledger line it tells of."""

    seq: int
    id: str
    to: tuple[str, ...]
    about: str
    body: str
    kind: str = "verdict"


def deliver(home: Home, book: Book, charter: Charter) -> list[str]:
    """Send what the ledger holds and was not told yet; returns what could not be delivered."""
    notes = files.read_json(home.office_notes) or {}
    told = int(notes.get("told", 0))
    last = book.rows.top
    if last == told:
        return []
    told = min(told, last)  # a ledger that was cut is told of from where it ends now
    here = roster.members(home)
    roles = {name: here.get(name, "retired") for name in mail.seats(home)}
    programs = {seat.name: seat.program for seat in seats.present(home)}
    problems = []
    for letter in outgoing(book, charter, roles, programs, told):
        for box in letter.to:
            if letter.kind == PAGES and _has_unread(home, box):
                continue  # it reads the pages when it reads that one
            kind = "note" if letter.kind == PAGES else letter.kind
            try:
                mail.send(home, SENDER, box, letter.body, kind=kind, about=letter.about, letter_id=letter.id)
            except OrgError as error:
                problems.append(f"letter {letter.id} to {box}: {error}")
        failpoint("letters.sent")
    files.replace_json(home.office_notes, {**notes, "told": last})
    return problems


def outgoing(
    book: Book, charter: Charter, roles: Mapping[str, str], programs: Mapping[str, str], told: int
) -> list[Outgoing]:
    """The letters that follow from the ledger's lines after `told`. Pure; roles: of every seat, a retired one's is no
    chief's; programs: of those that are here."""
    chiefs = [name for name, role in roles.items() if roster.is_chief(role)]
    found = []
    for row in book.rows.after(told):
        name = str(row.get("experiment"))
        if row.get("kind") == "verdict" and name in book.experiments:
            is_attack = book.experiments[name].refutes  # what it broke has a letter of its own
            others = [] if is_attack else [*_members(book, name), *chiefs]
            to = _known([_seat_of(book, name), *others], roles)
            found.append(Outgoing(row["seq"], f"verdict-{name.lower()}", to, name, _verdict(book, charter, name)))
        elif row.get("kind") == "org" and row.get("event") == "changed":
            here = [name for name, role in roles.items() if role != "retired"]
            letter = f"{PAGES}-{row['seq']}"
            found = [other for other in found if other.kind != PAGES]  # the newest says what there is to do
            found.append(Outgoing(row["seq"], letter, tuple(here), letter, _pages(row), PAGES))
        elif row.get("kind") == "credit" and name in book.experiments:
            member = str(row.get("member"))
            to = _known([_seat_of(book, member), *chiefs] if member in book.experiments else chiefs, roles)
            letter = f"credit-{name.lower()}-{member.lower()}-{str(row.get('commit'))[:7]}"
            found.append(Outgoing(row["seq"], letter, to, name, f"{credit_sentence(row, charter.metric.name)}.\n"))
        elif isinstance(row.get("retracts"), list | tuple) and row["retracts"] and name in book.experiments:
            is_back = row.get("commit") != row.get("was")
            on_it = [seat for seat, at in programs.items() if is_back and at == row.get("program")]
            authors = [_seat_of(book, old) for old in row["retracts"] if old in book.experiments]
            body = f"{_head(row)}.\n" + (f"\n{SYNC}\n" if is_back else "")
            to = _known([*authors, *on_it, *chiefs], roles)
            found.append(Outgoing(row["seq"], f"retracted-{name.lower()}", to, name, body))
        elif row.get("kind") == "head" and row.get("removed") and name in book.experiments:
            to = tuple(seat for seat, at in programs.items() if at == row.get("program"))
            letter = f"head-{name.lower()}-{str(row.get('commit'))[:7]}"
            body = f"{_head(row)}\n\n{SYNC}\n"
            found.append(Outgoing(row["seq"], letter, _known([*to, *chiefs], roles), name, body))
        elif row.get("kind") == "head" and name in book.experiments:
            program = str(row.get("program"))
            has_letter = {_seat_of(book, name), *_members(book, name), *chiefs}
            to = tuple(seat for seat, at in programs.items() if at == program and seat not in has_letter)
            body = f"{_head(row)}\n\n{SYNC}\n"
            found.append(Outgoing(row["seq"], f"head-{name.lower()}", _known(list(to), roles), name, body))
    return found


def _pages(row: Mapping[str, Any]) -> str:
    """What a seat is told of an edit: what it reads again, and where. The pages themselves are not in the letter."""
    names = row.get("pages")
    said = [files.printable(str(name), 200) for name in names[:10]] if isinstance(names, list | tuple) else []
    lines = [
        "The person changed this organisation's pages. Read `org brief` again, and what concerns you of these:",
        "",
    ]
    lines += [f"- $ORG_HOME/{name}" for name in said] or [f"- $ORG_HOME/prompts/orgs/{row.get('folder')}"]
    return "\n".join(lines) + "\n"


def _has_unread(home: Home, box: str) -> bool:
    return any(path.name.startswith(f"{PAGES}-") for path in boxes.names(home.mailbox(box) / "new"))


def _seat_of(book: Book, experiment: str) -> str:
    return book.experiments[experiment].seat


def _members(book: Book, experiment: str) -> list[str]:
    """Who filed what a stack is made of, or what a re-test is of."""
    contract = book.experiments[experiment]
    of = [*contract.members, *([contract.promotes] if contract.promotes else [])]
    return [book.experiments[m].seat for m in of if m in book.experiments]


def _known(names: list[str], roles: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if name in roles or name == "human")


def _verdict(book: Book, charter: Charter, name: str) -> str:
    verdict, contract = book.verdicts[name], book.experiments[name]
    lines = [sentence(verdict, contract, charter), ""]
    lines += [f"- {files.printable(reason, 300)}" for reason in verdict.reasons]
    lines += [f"- {_expectation(verdict)}"] if verdict.expect is not None else []
    lines += [f"- {files.printable(f'asked for by {demand}', 300)}" for demand in contract.demands]
    tests = ladder.retests(book.experiments, book.verdicts) if contract.owed_scales else {}
    if left := ladder.owes(contract, verdict, tests.get(name, ())):
        lines += [f"- it is stacked when it has carried to {' and '.join(left)} too; the org files the re-test"]
    head = next((row for row in book.moves if row.get("kind") == "head" and row.get("experiment") == name), None)
    if head is not None and head.get("retracts"):
        lines += ["", f"{_head(head)}."]
    elif head is not None:
        lines += ["", f"{_head(head)}; `org seat NAME --sync` brings a worktree up to it."]
    return "\n".join(lines).rstrip() + "\n"


def _expectation(verdict: Verdict) -> str:
    measured = "not measured" if verdict.effect is None else f"measured {verdict.effect:+.4f}"
    return f"expected {verdict.expect:+.4f}, {measured}"


def _head(row: Mapping[str, Any]) -> str:
    if row.get("retracts"):
        return f"{', '.join(row['retracts'])} retracted: {files.printable(str(row.get('why')), 400)}"
    if row.get("removed"):
        left = ", ".join(str(member) for member in row["removed"])
        return (
            f"The head of {row.get('program')} moved to {str(row.get('commit'))[:7]}: {left} left it, no worse without"
        )
    return f"The head of {row.get('program')} moved to {str(row.get('commit'))[:7]} by {row.get('experiment')}"
