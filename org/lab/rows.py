"""Lines of the ledger as they lie in the file, each parsed when it is first looked at, and what the first of each id says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

from org.errors import OrgError
from org.records import Record

T = TypeVar("T")

# kind -> what has its id
NAMED = {"experiment": "experiment", "verdict": "experiment", "launch": "run", "result": "run"}


class Rows(Sequence[dict[str, Any]]):
    """The lines in their order, each parsed when it is first looked at: most verbs look at few of thousands. One that
    begins as ours do and cannot be read counts; asked for by itself it raises OrgError, of a slice it is left out."""

    def __init__(self) -> None:
        self._lines: list[bytes | dict[str, Any]] = []
        self._numbers: list[int] = []
        self._seqs: list[int] = []
        self.top = 0  # the greatest sequence number
        self.unread: set[int] = set()  # numbers of lines that were to be read and could not be

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(at, slice):
            return list(self._read(range(*at.indices(len(self)))))
        line = self._lines[at]
        if isinstance(line, bytes):
            row = parsed(line)
            if row is None:
                raise self.damaged(at, "is damaged")
            self._lines[at] = row
            return row
        return line

    def append(self, line: bytes | dict[str, Any], number: int, seq: int) -> None:
        """number: of the line in its file, which may hold others that are no lines of ours; seq: its own, or 0."""
        if seq:
            self.top = max(self.top, seq)
        self._lines.append(line)
        self._numbers.append(number)
        self._seqs.append(seq)

    def after(self, seq: int) -> list[dict[str, Any]]:
        """The lines with a greater sequence number, in their order; what has none is another hand's and not among them."""
        return list(self._read(at for at, number in enumerate(self._seqs) if number > seq))

    def tail(self) -> dict[str, Any]:
        """The last line that has a sequence number, which the next one's sum follows; empty when there is none."""
        found = (self._row(at) for at in range(len(self._lines) - 1, -1, -1) if self._seqs[at])
        return next((row for row in found if row is not None), {})

    def _read(self, places: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Those of the places that can be read; the others are noted."""
        for at in places:
            if (row := self._row(at)) is not None:
                yield row
            else:
                self.unread.add(self._numbers[at])

    def _row(self, at: int) -> dict[str, Any] | None:
        """None for one that cannot be read."""
        try:
            return self[at]
        except OrgError:
            return None

    def number(self, at: int) -> int:
        return self._numbers[at]

    def damaged(self, at: int, what: str) -> OrgError:
        return OrgError(
            f"ledger.jsonl: line {self._numbers[at]} {what}; see `org results --check`, and "
            "`git -C comms/record.git show ledger:ledger/00001.jsonl` and its neighbours for the copy kept there"
        )


def parsed(line: bytes) -> dict[str, Any] | None:
    """The row that a line holds; None for what is no JSON object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def seq_of(row: Mapping[str, Any]) -> int | None:
    """A row's sequence number; None for what is no ledger line. A greater one than these would not be read back."""
    seq = row.get("seq")
    return seq if isinstance(seq, int) and not isinstance(seq, bool) and 0 < seq < 10**15 else None


class Facts(Mapping[str, T]):
    """What the first line of each id says, made from it when it is first asked for; in the order of those lines. Raises
    OrgError naming the line where that says something else, or is no such record."""

    def __init__(
        self, rows: Rows, make: Callable[[dict[str, Any]], T], kind: str, record: type[Record] | None = None
    ) -> None:
        self._rows, self._make, self._kind, self._record = rows, make, kind, record
        self._at: dict[str, int] = {}
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            at = self._at[name]
            row = self._rows[at]
            if row.get(NAMED[self._kind]) != name:
                raise self._rows.damaged(at, f"is not of {name}, which its beginning names")
            if self._record is not None and (why := self._record.misfit(row)):
                raise self._rows.damaged(at, f"is no {self._kind}: {why}")
            self._made[name] = self._make(row)
        return self._made[name]

    def line(self, name: str) -> int:
        """The number of its line in the ledger."""
        return self._rows.number(self._at[name])

    def __contains__(self, name: object) -> bool:
        return name in self._at

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def put(self, name: str, at: int) -> bool:
        """False, with nothing changed, where an earlier line is about it: what was said first stands."""
        return self._at.setdefault(name, at) == at
