"""comms/ledger.jsonl, the one record: append-only, one line an event, each line once. Every table is rendered from it.

Two processes may append at once (one lock); a line whose key is already there is not written again, so every writer may
be killed and repeat itself. Each line carries a sum of itself and of the sum before it, and `ledger.tip` the count and
the last sum: what is changed, cut or put in by another hand is found by `problems`. Not a signature: agents share your
user, and the copies in the record are what a careful forger meets next.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

from org import files
from org.errors import OrgError
from org.evidence import ladder
from org.failpoint import failpoint
from org.home import Home
from org.records import Contract, RunResult, Verdict

T = TypeVar("T")

# how every line of ours begins: what it is about is known without parsing the rest
HEAD = re.compile(
    rb'\{"seq": \d+, "kind": "(experiment|launch|result|verdict)", "key": "\1:([\w/.-]+)", "t": "([^"]*)"'
)
# and how a verdict that is a win goes on: the largest is found without parsing the rest of them
WIN = re.compile(rb'"outcome": "win", "tier": "(\w+)", "claim": "[^"]*", "effect": (-?[\d.]+(?:e[-+]?\d+)?), ')


class Rows(Sequence[dict[str, Any]]):
    """The lines in their order, each parsed when it is first looked at: most verbs look at few of thousands."""

    def __init__(self) -> None:
        self._lines: list[bytes | dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        line = self._lines[at]
        if isinstance(line, bytes):
            try:
                self._lines[at] = row = dict(json.loads(line))
            except ValueError:
                raise OrgError(
                    f"ledger.jsonl: line {at % len(self) + 1} is damaged; see `org results --check`, and "
                    "`git -C comms/record.git show ledger:ledger/00001.jsonl` and its neighbours for the copy kept there"
                ) from None
            return row
        return line

    def append(self, line: bytes | dict[str, Any]) -> None:
        self._lines.append(line)


class Facts(Mapping[str, T]):
    """What the latest line of each id says, made from it when it is first asked for; in the order of first lines."""

    def __init__(self, rows: Rows, make: Callable[[dict[str, Any]], T]) -> None:
        self._rows, self._make = rows, make
        self._at: dict[str, int] = {}
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._make(self._rows[self._at[name]])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._at

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def put(self, name: str, at: int) -> None:
        self._at[name] = at
        self._made.pop(name, None)


class Book:
    """The ledger folded: what is known, by id, in the order it became known."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.experiments: Facts[Contract] = Facts(self.rows, Contract.from_dict)
        self.launches: Facts[dict[str, Any]] = Facts(self.rows, dict)
        self.results: Facts[RunResult] = Facts(self.rows, RunResult.from_dict)
        self.verdicts: Facts[Verdict] = Facts(self.rows, Verdict.from_dict)
        self.verdict_times: dict[str, str] = {}
        self.wins: dict[str, tuple[str, float]] = {}  # experiment -> tier and effect
        self.heads: dict[str, dict[str, Any]] = {}  # program -> its last `head` line that no retraction undid
        self.retracted: dict[str, dict[str, Any]] = {}  # experiment -> the line that retracts it
        self.moves: list[dict[str, Any]] = []  # `head` and `credit` lines, in their order
        self.refusals: list[dict[str, Any]] = []
        self.org: list[dict[str, Any]] = []  # launches and stops of the organisation
        self.kept: tuple[str | None, dict[str, str]] | None = None  # what the record holds, when last looked at
        self.table: dict[tuple[str, bool], str] = {}  # rows of results.tsv, made so far
        self._out: tuple[int, dict[str, str]] | None = None  # `out` of so many rows

    def open(self) -> list[Contract]:
        """Experiments without a verdict, oldest first: the queue is computed from these."""
        return [self.experiments[name] for name in self.experiments if name not in self.verdicts]

    def add(self, line: bytes | dict[str, Any]) -> str | None:
        """Fold in one ledger line and return its key; None for what is no line. Kinds of a later version are kept in
        `rows` and otherwise ignored."""
        head = HEAD.match(line) if isinstance(line, bytes) else None
        if head:  # one of ours, as nearly all are: it says what it is about before it says the rest
            kind, name, moment = (part.decode() for part in head.groups())
            self._put(kind, name, moment)
            if kind == "verdict" and (won := WIN.search(line, head.end(), head.end() + 400)):  # type: ignore[arg-type]
                self.wins[name] = won[1].decode(), float(won[2])
            self.rows.append(line)
            return f"{kind}:{name}"
        try:
            row = json.loads(line) if isinstance(line, bytes) else line
        except ValueError:
            return None
        if not isinstance(row, dict):
            return None
        match row.get("kind"):
            case "experiment" if row.get("refused"):
                self.refusals.append(row)
            case "launch" | "result" as kind:
                self._put(kind, row["run"], row["t"])
            case "experiment" | "verdict" as kind:
                self._put(kind, row["experiment"], row["t"])
                if row.get("outcome") == "win" and row.get("tier") and row.get("effect") is not None:
                    self.wins[row["experiment"]] = row["tier"], row["effect"]
            case "head" | "credit" as kind:
                self.moves.append(row)
                if row.get("retracts"):
                    self._retract(row)
                elif kind == "head":
                    self.heads[row["program"]] = row
            case "org":
                self.org.append(row)
        self.rows.append(row)
        return str(row.get("key"))

    def out(self) -> dict[str, str]:
        """Tentative wins that are not stacked or verified -> why not."""
        if self._out is None or self._out[0] != len(self.rows):
            self._out = len(self.rows), ladder.out(self.experiments, self.verdicts)
        return self._out[1]

    def _retract(self, row: dict[str, Any]) -> None:
        self.retracted = {**{str(name): row for name in row["retracts"]}, **self.retracted}
        left = ladder.in_force(self.moves, row["program"])
        self.heads.pop(row["program"], None)
        if left:
            self.heads[row["program"]] = dict(left[-1])

    def _put(self, kind: str, name: str, moment: str) -> None:
        """The next line is about `name`."""
        at = len(self.rows)
        match kind:
            case "experiment":
                self.experiments.put(name, at)
            case "launch":
                self.launches.put(name, at)
            case "result":
                self.results.put(name, at)
            case "verdict":
                self.verdicts.put(name, at)
                self.verdict_times[name] = moment


class Ledger:
    """Reads incrementally and appends. One object may live as long as its process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.book = Book()
        self._offset = 0
        self._keys: set[str] = set()

    def refresh(self) -> Book:
        """The book with every whole line that is in the file now."""
        lines, self._offset = files.whole_lines(self.home.ledger, self._offset)
        for line in lines:
            if (key := self.book.add(line)) is not None:
                self._keys.add(key)
        return self.book

    def rows(self) -> Rows:
        return self.refresh().rows

    def append(self, kind: str, key: str, data: dict[str, Any], sync: bool = True) -> dict[str, Any] | None:
        """Record one fact and return its line, or None when a line with this key is there already."""
        with files.locked(self.home.leases / "ledger"):
            self._mend()
            self._mend_tip(self.refresh().rows)
            if key in self._keys:
                return None
            last = self.book.rows[-1] if self.book.rows else {}
            facts = files.read_json(self.home.org_file) or {}
            row = {
                "seq": last.get("seq", 0) + 1,
                "kind": kind,
                "key": key,
                "t": files.utc_now(),
                "org": facts.get("org_hash", ""),
                **data,
            }
            failpoint(f"ledger.{kind}")
            line, total = _sealed(row, last.get("sum", ""))
            files.append_line(self.home.ledger, line, sync=sync)
            failpoint("ledger.tip")
            files.replace(self.home.ledger_tip, f"{row['seq']} {total}\n")
            self.refresh()
            return row

    def _mend(self) -> None:
        """Set a torn last line aside: its writer died or found the disk full, and will say it again."""
        try:
            with self.home.ledger.open("rb+") as file:
                data = file.read()
                end = data.rfind(b"\n") + 1
                if end == len(data):
                    return
                files.append_line(self.home.ledger_torn, data[end:].decode(errors="replace"))
                failpoint("ledger.mend")
                file.truncate(end)
        except FileNotFoundError:
            return

    def _mend_tip(self, rows: Rows) -> None:
        """A writer killed between its line and the tip left it one behind; behind by two is another hand's."""
        if not rows or "sum" not in rows[-1]:
            return
        try:
            behind = self.home.ledger_tip.read_text(errors="replace").startswith(f"{rows[-1]['seq'] - 1} ")
        except FileNotFoundError:
            behind = len(rows) == 1
        if behind:
            files.replace(self.home.ledger_tip, f"{rows[-1]['seq']} {rows[-1]['sum']}\n")


def _sealed(row: dict[str, Any], before: str) -> tuple[str, str]:
    """`row` as the line to append, and its sum."""
    body = json.dumps(row, ensure_ascii=False, allow_nan=False)
    total = hashlib.sha256(f"{before}{body}".encode()).hexdigest()[:16]
    return f'{body[:-1]}, "sum": "{total}"}}', total


def read(home: Home) -> Book:
    """The whole ledger, folded."""
    return Ledger(home).refresh()
