"""Programs that stand on one head move together: what one of them verified, or took back, is where all of them go on.

    a head line of one program -> every other program on the head it left: its branch by compare-and-swap, a line of its own

Nothing is measured for it: they stood on the same commit, and the move was verified against that. A program that stands
elsewhere goes its own way, and with `heads: apart` in the charter each of them does. State is the ledger's, so a dispatcher
may die anywhere here and the next one goes on.
"""

from __future__ import annotations

from collections.abc import Collection

from org.errors import OrgError
from org.evidence import ladder
from org.failpoint import failpoint
from org.home import Home
from org.lab import record
from org.lab.book import Book
from org.lab.ledger import Ledger
from org.records import Charter, Contract
from org.world import git

OWN = (
    "seq",
    "t",
    "key",
    "kind",
    "org",
    "follows",
    "of",
    "sum",
)  # what a line does not take over from the one it repeats


def group(book: Book, charter: Charter, programs: Collection[str], program: str, base: str) -> tuple[str, ...]:
    """`program` and those of `programs` that stand on its head: their wins are stacked together."""
    if charter.heads == "apart":
        return (program,)
    head = _at(book, program, base)
    return (program, *sorted(name for name in programs if name != program and _at(book, name, base) == head))


def of(home: Home, book: Book, charter: Charter, program: str) -> tuple[str, ...]:
    """The same among all programs of this home."""
    return group(book, charter, known(home), program, git.resolve(home.record, record.BASE) or "")


def known(home: Home) -> tuple[str, ...]:
    """The programs of this home."""
    return tuple(sorted(path.stem for path in home.programs.glob("*.yaml")))


def verifying(book: Book, programs: Collection[str]) -> list[Contract]:
    """Verifications under way that may move a head of these programs."""
    return [c for c in book.open() if c.stage == "verify" and c.program in programs]


def follow(home: Home, ledger: Ledger, charter: Charter, base: str) -> list[str]:
    """Bring every program up to those it stands with; once, however often it is called. Returns what happened."""
    book = ledger.refresh()
    if charter.heads == "apart" or not book.moves:
        return []
    said: list[str] = []
    for program in known(home):
        while (row := ladder.to_follow(book.moves, program, _at(book, program, base))) is not None:
            ref, commit, was = record.main_ref(program), str(row["commit"]), str(row["was"])
            at = git.resolve(home.record, ref)
            if at == was:
                git.update_ref(home.record, ref, commit, at)
                failpoint("together.head")
            elif at != commit:
                raise OrgError(
                    f"the head of {program} does not follow that of {row['program']}: the record has it at "
                    f"{(at or 'nothing')[:7]} and the ledger at {was[:7]}; see `org results --check`"
                )
            record.note_head(home, program)
            line = {key: value for key, value in row.items() if key not in OWN}
            line |= {"program": program, "follows": str(row["program"]), "of": int(row["seq"])}
            ledger.append("head", f"head:{program}:follows:{row['seq']}", line)
            book = ledger.refresh()
            said.append(f"head of {program} goes with {row['program']} to {commit[:7]}")
    return said


def _at(book: Book, program: str, base: str) -> str:
    return str((book.heads.get(program) or {}).get("commit") or base)
