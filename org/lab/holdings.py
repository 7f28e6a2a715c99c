"""What the record must hold by the ledger: the base, each program's head, each experiment's pin, the ledger's own copy.

Reads only. A head that is one step ahead of its line is well: who moves one points the ref first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from org.errors import OrgError
from org.evidence import ladder, stack
from org.home import Home
from org.lab import record
from org.lab.archive import BRANCH
from org.lab.book import Book
from org.lab.rows import Facts
from org.records import BANK, KEPT, Contract, Verdict
from org.world import git

T = TypeVar("T")
PINS = "refs/org/experiments/"


def refs(home: Home) -> dict[str, str] | None:
    """Every ref of the record; None where there is no repository."""
    try:
        return git.list_refs(home.record, "refs") if (home.record / "HEAD").is_file() else None
    except OrgError:
        return None


def kept(home: Home) -> int:
    """Lines of the ledger that the record was given, by the org's own note; 0 before the first."""
    try:
        return int(home.ledger_kept.read_text(encoding="utf-8").split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return 0


def problems(home: Home, book: Book, found: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """(line of the ledger or 0, what the record does not hold as the ledger says). found: its refs, read when no head
    moved while the ledger was read."""
    contracts, verdicts = _sound(book.experiments), _sound(book.verdicts)
    base = found.get(record.BASE, "")
    measured = {r.commit for r in _sound(book.results).values() if r.experiment == BANK}
    if not base and (contracts or measured):
        yield 0, "the record has no branch `base` any more"
    elif measured - {base}:
        yield 0, f"the record's branch `base` is at {base[:7]} and the bank is of {min(measured - {base})[:7]}"
    for program in sorted(_programs(home, contracts, found)):
        ref = record.main_ref(program)
        should = str(book.heads.get(program, {}).get("commit") or base)
        at = found.get(ref) or git.ref_value(home.record, ref) or ""
        if at != should and at not in _due(book, contracts, verdicts, program, should):
            is_at = f"is at {at[:7]}" if at else "is gone"
            yield 0, f"the head of {program} {is_at} in the record, and the ledger's last line of it says {should[:7]}"
    for name, contract in contracts.items():
        pin = found.get(f"{PINS}{name}")
        if pin != contract.commit:
            is_at = f"pins {pin[:7]}" if pin else "has no pin"
            yield book.experiments.line(name), f"{name} {is_at} in the record, and was filed as {contract.commit[:7]}"
    if BRANCH not in found and kept(home):
        yield 0, "the record has no branch `ledger` any more"
    needed = {contract.commit for contract in contracts.values()} | {str(row["commit"]) for row in book.heads.values()}
    if gone := git.missing(home.record, sorted(needed)):
        yield 0, f"the record has lost {len(gone)} commits that the ledger names, {gone[0][:7]} among them"


def _sound(facts: Facts[T]) -> dict[str, T]:
    """Those whose lines can be read; the others are named by `fidelity`."""
    found = {}
    for name in facts:
        try:
            found[name] = facts[name]
        except OrgError:
            continue
    return found


def _programs(home: Home, contracts: Mapping[str, Contract], found: Mapping[str, str]) -> set[str]:
    front, back = record.main_ref("*").split("*")
    refs = {ref[len(front) : -len(back)] for ref in found if ref.startswith(front) and ref.endswith(back)}
    return refs | {path.stem for path in home.programs.glob("*.yaml")} | {c.program for c in contracts.values()}


def _due(
    book: Book, contracts: Mapping[str, Contract], verdicts: Mapping[str, Verdict], program: str, at: str
) -> set[str]:
    """Where the head may be ahead of its line: a verified stack on it, what a retraction or a member's leaving makes of
    it. `stacks.move_head`, `promotions` and `credits` point the ref and then write."""
    written = {str(row.get("experiment")) for row in book.moves if row.get("kind") == "head"}
    due = set()
    for name, verdict in verdicts.items():
        contract = contracts.get(name)
        if contract is None or contract.program != program or name in written:
            continue
        if contract.baseline_commit == at and verdict.outcome in KEPT and verdict.tier == "verified":
            due.add(contract.commit)
        if of := ladder.takes_back(contract, verdict):
            back = ladder.goes_back_to(book.moves, program, ladder.same_claim(contracts, verdicts, of))
            due.add(back or "")
    if row := ladder.to_follow(book.moves, program, at):
        due.add(str(row["commit"]))
    owing = stack.owing(book.moves, program)
    if owing is not None and owing.leaves is not None:
        due.add(owing.leaves.without)
    return due - {""}
