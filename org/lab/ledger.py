"""comms/ledger.jsonl, the one record: append-only, one line an event, each line once. Every table is rendered from it.

Two processes may append at once (one lock); a line whose key is already there is not written again, so every writer may
be killed and repeat itself. Each line carries a sum of itself and of the sum before it, and `ledger.tip` the count and
the last sum: what is changed, cut or put in by another hand is found by `problems`. Not a signature: agents share your
user, and the copies in the record are what a careful forger meets next.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from org import charter as charters
from org import files
from org.errors import BadInput, OrgError
from org.evidence import ladder
from org.evidence.stack import Credit
from org.failpoint import failpoint
from org.home import Home
from org.records import Contract, Record, RunResult, Verdict, Violation

T = TypeVar("T")

# how every line of ours begins: what it is about is known without parsing the rest
HEAD = re.compile(
    rb'\{"seq": \d+, "kind": "(experiment|launch|result|verdict)", "key": "\1:([\w/.-]+)", "t": "([^"]*)", '
    rb'"org": "[^"]*", (?:"charter": "\w*", "metric": "([^"\\]*)", )?"(?:experiment|run)": "\2"'
)
NAMED = {
    "experiment": "experiment",
    "verdict": "experiment",
    "launch": "run",
    "result": "run",
}  # kind -> what has its id
# and how a verdict that is a win goes on: the largest is found without parsing the rest of them
WIN = re.compile(rb'"outcome": "win", "tier": "(\w+)", "claim": "[^"]*", "effect": (-?[\d.]+(?:e[-+]?\d+)?), ')


class Rows(Sequence[dict[str, Any]]):
    """The lines in their order, each parsed when it is first looked at: most verbs look at few of thousands."""

    def __init__(self) -> None:
        self._lines: list[bytes | dict[str, Any]] = []
        self._numbers: list[int] = []

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
            row = parsed(line)
            if row is None:
                raise self.damaged(at, "is damaged")
            self._lines[at] = row
            return row
        return line

    def append(self, line: bytes | dict[str, Any], number: int) -> None:
        """number: of the line in its file, which may hold others that are no lines of ours."""
        self._lines.append(line)
        self._numbers.append(number)

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


@dataclass(frozen=True)
class Head(Record):
    """What a `head` line says, as far as anybody reads it."""

    program: str
    commit: str
    experiment: str
    tree: str = ""
    was: str = ""
    members: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retracts: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    effect: float | None = None
    se: float | None = None
    scale: str = ""
    why: str = ""


@dataclass(frozen=True)
class Refusal(Record):
    """What the line of a refused filing says."""

    seat: str
    program: str = ""
    why: str = ""
    violations: tuple[Violation, ...] = ()


RECORDS: dict[str, type[Record]] = {
    "experiment": Contract,
    "result": RunResult,
    "verdict": Verdict,
    "head": Head,
    "credit": Credit,
}


def misfit(row: Mapping[str, Any]) -> str:
    """Why a row is not what its kind says; "" when it is, and for kinds of a later version."""
    kind = row.get("kind")
    if not isinstance(kind, str):
        return f"has kind {kind!r:.40}"
    if not isinstance(row.get("t"), str):
        return f"does not say when it was written: its t is {row.get('t')!r:.40}"
    record: type[Record] | None = Refusal if kind == "experiment" and row.get("refused") else RECORDS.get(kind)
    if record is not None and (why := record.misfit(row)):
        return f"is no {kind}: {why}"
    if kind in NAMED and record is not Refusal:
        name = row.get(NAMED[kind])
        if not isinstance(name, str):
            return f"is no {kind}: it has no {NAMED[kind]}"
        if row.get("key", f"{kind}:{name}") != f"{kind}:{name}":
            return f"has key {row['key']!r:.60} and is the {kind} of {name:.40}"
    return ""


class Book:
    """The ledger folded: what is known, by id, in the order it became known."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.experiments: Facts[Contract] = Facts(self.rows, Contract.from_dict, "experiment", Contract)
        self.launches: Facts[dict[str, Any]] = Facts(self.rows, dict, "launch")
        self.results: Facts[RunResult] = Facts(self.rows, RunResult.from_dict, "result", RunResult)
        self.verdicts: Facts[Verdict] = Facts(self.rows, Verdict.from_dict, "verdict", Verdict)
        self.verdict_times: dict[str, str] = {}
        self.wins: dict[str, tuple[str, float]] = {}  # experiment -> tier and effect
        self.heads: dict[str, dict[str, Any]] = {}  # program -> its last `head` line that no retraction undid
        self.retracted: dict[str, dict[str, Any]] = {}  # experiment -> the line that retracts it
        self.moves: list[dict[str, Any]] = []  # `head` and `credit` lines, in their order
        self.refusals: list[dict[str, Any]] = []
        self.org: list[dict[str, Any]] = []  # launches and stops of the organisation
        self.judged_by: tuple[str, str] | None = None  # the first verdict that names its metric: who, "val_bpb:lower"
        self.kept: tuple[str | None, dict[str, str]] | None = None  # what the record holds, when last looked at
        self.table: dict[tuple[str, bool], str] = {}  # rows of results.tsv, made so far
        self._out: tuple[int, dict[str, str]] | None = None  # `out` of so many rows
        self._lines = 0  # read so far, those that are no lines of ours too

    def open(self) -> list[Contract]:
        """Experiments without a verdict, oldest first: the queue is computed from these."""
        return [self.experiments[name] for name in self.experiments if name not in self.verdicts]

    def add(self, line: bytes | dict[str, Any]) -> str | None:
        """Fold in one ledger line and return its key; None for what is no line. Kinds of a later version, and what is not
        as its kind says, are kept in `rows` and otherwise ignored: `fidelity` names the latter."""
        self._lines += 1
        head = HEAD.match(line) if isinstance(line, bytes) else None
        if head:  # one of ours, as nearly all are: it says what it is about before it says the rest
            kind, name, moment = (part.decode(errors="replace") for part in head.groups()[:3])
            metric = head[4].decode(errors="replace") if head[4] is not None else None
            is_first = self._put(kind, name, moment, metric)
            won = WIN.search(line, head.end(), head.end() + 400) if is_first and kind == "verdict" else None  # type: ignore[arg-type]
            if won:
                self.wins[name] = won[1].decode(), float(won[2])
            self.rows.append(line, self._lines)
            return f"{kind}:{name}"
        row = parsed(line) if isinstance(line, bytes) else line
        if row is None:
            return None
        self._fold(row)
        self.rows.append(row, self._lines)
        return str(row.get("key"))

    def _fold(self, row: dict[str, Any]) -> None:
        """Put a parsed row, the next in `rows`, where it belongs."""
        match row.get("kind"):
            case "org":
                self.org.append(row)
            case _ if misfit(row):
                pass
            case "experiment" if row.get("refused"):
                self.refusals.append(row)
            case "launch" | "result" as kind:
                self._put(kind, row["run"], row["t"])
            case "experiment" | "verdict" as kind:
                is_first = self._put(kind, row["experiment"], row["t"], row.get("metric"))
                if is_first and row.get("outcome") == "win" and row.get("tier") and row.get("effect") is not None:
                    self.wins[row["experiment"]] = row["tier"], row["effect"]
            case "head" | "credit" as kind:
                self.moves.append(row)
                if row.get("retracts"):
                    self._retract(row)
                elif kind == "head":
                    self.heads[row["program"]] = row

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

    def _put(self, kind: str, name: str, moment: str, metric: str | None = None) -> bool:
        """The next line is about `name`; whether it is the first of its kind that is."""
        at = len(self.rows)
        match kind:
            case "experiment":
                return self.experiments.put(name, at)
            case "launch":
                return self.launches.put(name, at)
            case "result":
                return self.results.put(name, at)
        if not self.verdicts.put(name, at):
            return False
        self.verdict_times[name] = moment
        if isinstance(metric, str) and self.judged_by is None:
            self.judged_by = name, metric
        return True


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
                "seq": _number(last.get("seq")) + 1,
                "kind": kind,
                "key": key,
                "t": files.utc_now(),
                "org": facts.get("org_hash", ""),
                **(self._charter(kind) if kind in ("experiment", "verdict") else {}),
                **data,
            }
            failpoint(f"ledger.{kind}")
            line, total = _sealed(row, last.get("sum", ""))
            files.append_line(self.home.ledger, line, sync=sync)
            failpoint("ledger.tip")
            files.replace(self.home.ledger_tip, f"{row['seq']} {total}\n")
            self.refresh()
            return row

    def check_metric(self) -> None:
        """BadInput when the charter's metric is not the one by which the ledger's first verdict was judged: effects of two
        metrics, or of two directions, are no one record."""
        metric, judged = charters.load(self.home).metric, self.refresh().judged_by
        if judged is not None and judged[1] != f"{metric.name}:{metric.direction}":
            raise BadInput(
                f"{self.home.charter}: metric is {metric.name}:{metric.direction}, and {judged[0]} was judged by "
                f"{judged[1]}; put that back, or begin another home with `org init DIR`"
            )

    def _charter(self, kind: str) -> dict[str, str]:
        """The charter in force, as lines that are made under it carry it; nothing where there is none to read."""
        try:
            metric = charters.load(self.home).metric
            digest = charters.charter_hash(self.home)
        except BadInput:
            return {}
        if kind == "verdict":
            self.check_metric()
        return {"charter": digest, "metric": f"{metric.name}:{metric.direction}"}

    def _mend(self) -> None:
        """Set a torn last line aside: its writer died or found the disk full, and will say it again."""
        try:
            with self.home.ledger.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                if file.read(1) in (b"", b"\n"):
                    return  # as nearly always: the rest need not be read
                file.seek(0)
                data = file.read()
                end = data.rfind(b"\n") + 1
                files.append_line(self.home.ledger_torn, data[end:].decode(errors="replace"))
                failpoint("ledger.mend")
                file.truncate(end)
        except FileNotFoundError:
            return

    def _mend_tip(self, rows: Rows) -> None:
        """A writer killed between its line and the tip left it one behind; behind by two is another hand's."""
        if not rows or "sum" not in rows[-1]:
            return
        seq = _number(rows[-1].get("seq"))
        try:
            behind = self.home.ledger_tip.read_text(errors="replace").startswith(f"{seq - 1} ")
        except FileNotFoundError:
            behind = len(rows) == 1
        if behind:
            files.replace(self.home.ledger_tip, f"{seq} {rows[-1]['sum']}\n")


def _number(seq: Any) -> int:
    return seq if isinstance(seq, int) else 0


def _sealed(row: dict[str, Any], before: str) -> tuple[str, str]:
    """`row` as the line to append, and its sum."""
    body = json.dumps(row, ensure_ascii=False, allow_nan=False)
    total = hashlib.sha256(f"{before}{body}".encode()).hexdigest()[:16]
    return f'{body[:-1]}, "sum": "{total}"}}', total


def read(home: Home) -> Book:
    """The whole ledger, folded."""
    return Ledger(home).refresh()
