"""The ledger folded: what its lines say together. Knows no file; `ledger` reads and appends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from org.evidence import ladder
from org.evidence.stack import Credit
from org.lab.rows import NAMED, Facts, Rows, parsed, seq_of
from org.records import Contract, Record, RunResult, Verdict, Violation

# how every line of ours begins: what it is about is known without parsing the rest
HEAD = re.compile(
    rb'\{"seq": \d{1,15}, "kind": "(experiment|launch|result|verdict)", "key": "\1:([\w/.-]+)", "t": "([^"]*)", '
    rb'"org": "[^"]*", (?:"charter": "\w*", "metric": "([^"\\]*)", )?"(?:experiment|run)": "\2"'
)
# and how a verdict that is a win goes on: the largest is found without parsing the rest of them
WIN = re.compile(rb'"outcome": "win", "tier": "(\w+)", "claim": "[^"]*", "effect": (-?[\d.]+(?:e[-+]?\d+)?), ')


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
    attack: str = ""
    why: str = ""
    follows: str = ""  # the program whose line, number `of`, this one repeats: both stood on one head
    of: int = 0


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
        self.strange: list[int] = []  # numbers of lines that another hand put in, or cut out before: no count fits

    def open(self) -> list[Contract]:
        """Experiments without a verdict, oldest first: the queue is computed from these."""
        return [self.experiments[name] for name in self.experiments if name not in self.verdicts]

    def add(self, line: bytes | dict[str, Any]) -> str | None:
        """Fold in one ledger line and return its key; None for what is no line. Kinds of a later version, and what is not
        as its kind says, are kept in `rows` and otherwise ignored: `fidelity` names the latter."""
        self._lines += 1
        head = HEAD.match(line) if isinstance(line, bytes) else None
        if head and isinstance(
            line, bytes
        ):  # one of ours, as nearly all are: it says what it is about before it says the rest
            kind, name, moment = (part.decode(errors="replace") for part in head.groups()[:3])
            metric = head[4].decode(errors="replace") if head[4] is not None else None
            is_first = self._put(kind, name, moment, metric)
            won = WIN.search(line, head.end(), head.end() + 400) if is_first and kind == "verdict" else None
            if won:
                self.wins[name] = won[1].decode(), float(won[2])
            self._keep(line, int(line[len(b'{"seq": ') : line.index(b",")]))
            return f"{kind}:{name}"
        row = parsed(line) if isinstance(line, bytes) else line
        if row is None:
            self.strange.append(self._lines)
            return None
        self._fold(row)
        self._keep(row, seq_of(row))
        return str(row.get("key"))

    def _keep(self, line: bytes | dict[str, Any], seq: int | None) -> None:
        if seq != self.rows.top + 1:
            self.strange.append(self._lines)
        self.rows.append(line, self._lines, seq or 0)

    def damage(self) -> str:
        """One sentence without a full stop on what the count of the lines shows; "" when nothing. Sums are compared by
        `fidelity`, which says the rest."""
        lines = sorted({*self.strange, *self.rows.unread})
        more = f" and {len(lines) - 1} more" if lines[1:] else ""
        return f"the ledger was written by another hand: line {lines[0]}{more}" if lines else ""

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
