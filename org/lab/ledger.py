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
from org.evidence import clock, ladder
from org.failpoint import failpoint
from org.home import Home
from org.records import KEPT, Contract, RunResult, Verdict
from org.world import git

T = TypeVar("T")

BRANCH = "refs/heads/ledger"
PART = 256  # lines of one file of the copy in the record: a verdict there costs the same whatever came before
SEAL = re.compile(rb'(\{.*), "sum": "([0-9a-f]{16})"\}', re.DOTALL)
# how every line of ours begins: what it is about is known without parsing the rest
HEAD = re.compile(
    rb'\{"seq": \d+, "kind": "(experiment|launch|result|verdict)", "key": "\1:([\w/.-]+)", "t": "([^"]*)"'
)
# and how a verdict that is a win goes on: the largest is found without parsing the rest of them
WIN = re.compile(rb'"outcome": "win", "tier": "(\w+)", "claim": "[^"]*", "effect": (-?[\d.]+(?:e[-+]?\d+)?), ')
ENVELOPE = ("seq", "kind", "key", "t", "org", "sum")
TSV_COLUMNS = (
    "commit",
    "metric",
    "memory_gb",
    "status",
    "description",
    "experiment",
    "program",
    "seat",
    "effect",
    "se",
)


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
        return ladder.out(self.experiments, self.verdicts)

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


def commit(home: Home, book: Book, metric: str = "metric") -> None:
    """Render results.tsv and commit it with the ledger to the record's branch `ledger`. Safe to repeat."""
    table = tsv(book, metric)
    files.replace(home.results_tsv, table)
    failpoint("commit.table")
    with files.locked(home.leases / "ledger-commit"):
        for _ in range(2):
            parent, kept = book.kept or _kept(home)
            parts = sum(path.startswith("ledger/") for path in kept)
            changed = {"results.tsv": table.encode(), **_parts(home, max(0, parts - 1))}
            shas = {path: git.blob_sha(data) for path, data in changed.items()}
            changed = {path: data for path, data in changed.items() if kept.get(path) != shas[path]}
            if not changed:
                return
            try:
                made = git.commit_files(home.record, BRANCH, parent, changed, f"ledger: {len(book.rows)} lines")
            except git.RefMoved:  # another process kept it since: look again
                book.kept = None
                continue
            failpoint("commit.made")
            book.kept = made, {**kept, **shas}
            return


def _kept(home: Home) -> tuple[str | None, dict[str, str]]:
    """The record's last copy: its commit, and the sha of each file."""
    parent = git.resolve(home.record, BRANCH)
    return parent, {e.path: e.sha for e in git.list_tree(home.record, parent)} if parent else {}


def _parts(home: Home, since: int) -> dict[str, bytes]:
    """The ledger's whole lines as files of the record, from that part on. A part that is followed by another is never
    written again: what an edit does to old lines stays out of the record."""
    lines, _ = files.whole_lines(home.ledger)
    starts = range(since * PART, len(lines), PART)
    return {f"ledger/{at // PART + 1:05d}.jsonl": b"\n".join(lines[at : at + PART]) + b"\n" for at in starts}


def kept_lines(home: Home) -> list[bytes]:
    """The record's copy of the ledger."""
    paths = [e.path for e in git.list_tree(home.record, BRANCH) if e.path.startswith("ledger/")]
    parts = git.read_files(home.record, BRANCH, paths)
    return [line for path in sorted(parts) for line in parts[path].splitlines()]


def tsv(book: Book, metric: str = "metric") -> str:
    """results.tsv: upstream's five columns first, one row an experiment, numbers of its candidate runs' mean."""
    head = "\t".join((TSV_COLUMNS[0], metric, *TSV_COLUMNS[2:]))
    return "\n".join([head, *(_tsv_row(book, name) for name in book.verdicts if name in book.experiments)]) + "\n"


def _tsv_row(book: Book, name: str) -> str:
    """A verdict stands for ever, so its row is made once, and again when it is retracted."""
    is_retracted = name in book.retracted
    if (name, is_retracted) not in book.table:
        verdict, contract = book.verdicts[name], book.experiments[name]
        own = [book.results[r] for r in verdict.runs if r in book.results and book.results[r].tree == contract.tree]
        values = [r.metric for r in own if r.metric is not None]
        memory = [r.vram_mb for r in own if r.vram_mb is not None]
        kept = verdict.outcome in KEPT and not is_retracted
        cells = (
            contract.commit[:7],
            f"{mean(values):.6f}" if values else "0.000000",
            f"{mean(memory) / 1024:.1f}" if memory else "0.0",
            "keep" if kept else "crash" if verdict.outcome == "crash" else "discard",
            files.printable(contract.description, 200).replace("\t", " ").replace("\n", " "),
            name,
            contract.program,
            contract.seat,
            "" if verdict.effect is None else f"{verdict.effect:+.6f}",
            "" if verdict.se is None else f"{verdict.se:.6f}",
        )
        book.table[name, is_retracted] = "\t".join(cells)
    return book.table[name, is_retracted]


def problems(home: Home) -> list[dict[str, Any]]:
    """Where the ledger, its tip, the record and the result files disagree, first line first; empty when all is well."""
    raw = home.ledger.read_bytes() if home.ledger.is_file() else b""
    lines = raw.splitlines()
    found = [_problem(len(lines), "has no end; the next line sets it aside")] if raw and raw[-1:] != b"\n" else []
    rows: list[dict[str, Any]] = []
    before, has_sums = "", False
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            seq = int(row["seq"])
        except (ValueError, KeyError, TypeError):
            found.append(_problem(number, "is not a ledger line"))
            continue
        expected = (rows[-1]["seq"] if rows else 0) + 1
        if seq != expected:
            found.append(_problem(number, f"has sequence number {seq}, expected {expected}"))
        seal = SEAL.fullmatch(line)
        if seal:
            total = hashlib.sha256(before.encode() + seal[1] + b"}").hexdigest()[:16]
            if total != seal[2].decode():
                found.append(_problem(number, "is not what was written here: its sum differs"))
            has_sums = True
        elif has_sums:
            found.append(_problem(number, "carries no sum, and lines before it do"))
        before = str(row.get("sum", ""))
        rows.append(row)
    found += _tip_problems(home, lines, rows, has_sums)
    found += _record_problems(home, lines)
    found += _file_problems(home, rows)
    found += [_problem(line, what) for line, what in clock.problems(rows)]
    return sorted(found, key=lambda p: p["line"])


def _problem(line: int, what: str) -> dict[str, Any]:
    return {"line": line, "what": what}


def _tip_problems(
    home: Home, lines: list[bytes], rows: list[dict[str, Any]], has_sums: bool
) -> Iterator[dict[str, Any]]:
    """The tip may be one line behind, where a writer was killed between the two; else it is the last line."""
    try:
        seq, total = home.ledger_tip.read_text(encoding="utf-8").split()
        at = int(seq)
    except FileNotFoundError:
        if has_sums and len(rows) > 1:
            yield _problem(len(lines), f"{home.ledger_tip.name} is missing")
        return
    except ValueError:
        yield _problem(len(lines), f"{home.ledger_tip.name} is not `LINES SUM`")
        return
    last = int(rows[-1]["seq"]) if rows else 0
    if last < at:
        yield _problem(len(lines) + 1, f"and all after it are gone: {at} lines were written, {last} are left")
    elif last > at + 1:
        yield _problem(at + 2, f"was not written by the org: {home.ledger_tip.name} ends at {at}")
    elif not any(row["seq"] == at and row.get("sum") == total for row in rows):
        yield _problem(at, f"is not the one that {home.ledger_tip.name} names")


def _record_problems(home: Home, lines: list[bytes]) -> Iterator[dict[str, Any]]:
    try:
        if not git.resolve(home.record, BRANCH):
            return
        kept = kept_lines(home)
        table = git.read_file(home.record, BRANCH, "results.tsv")
    except OrgError as error:
        yield _problem(0, f"the record cannot be read: {error}")
        return
    for number, (ours, theirs) in enumerate(zip(lines, kept, strict=False), 1):
        if ours != theirs:
            yield _problem(number, "differs from the record's copy")
            break
    if len(kept) > len(lines):
        yield _problem(len(lines) + 1, "is in the record but no longer in the ledger")
    shown = home.results_tsv.read_bytes() if home.results_tsv.is_file() else None
    # a table that was rendered and not yet committed is newer than the record's
    if shown != table and shown != tsv(read(home), _metric_of(shown)).encode():
        yield _problem(0, f"{home.results_tsv.name} is not what the ledger says; the next verdict renders it again")


def _metric_of(table: bytes | None) -> str:
    """The metric's name in a table's head."""
    head = (table or b"").decode(errors="replace").splitlines()[:1]
    columns = head[0].split("\t") if head else []
    return columns[1] if len(columns) > 1 else "metric"


def _file_problems(home: Home, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each result and contract against its file, and each file of a run against the lines that must be there."""
    results, launched = set(), set()
    for number, row in enumerate(rows, 1):
        match row.get("kind"):
            case "launch":
                launched.add(row.get("run"))
            case "result":
                results.add(row.get("run"))
                yield from _result_problems(home, number, row)
            case "experiment" if not row.get("refused"):
                yield from _contract_problems(home, number, row)
    for path in sorted(home.experiments.glob("E*/runs/*/result.json")):
        run = f"{path.parents[2].name}/{path.parent.name}"
        if run not in results and not files.is_locked(path.parent / "lock"):
            yield _problem(len(rows) + 1, f"is missing: {run} has a result.json and no result line")
        if run not in launched and (files.read_json(path) or {}).get("status") != "lost":
            yield _problem(len(rows) + 1, f"is missing: {run} has a result.json and no launch line")


def _result_problems(home: Home, number: int, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    run = row.get("run")
    path = home.run(str(run)) / "result.json"
    result = files.read_json(path)
    if not isinstance(result, dict):
        yield _problem(number, f"{run} has no readable result.json")
        return
    for name in sorted({*result, *row} - {*ENVELOPE}):
        here, there = row.get(name, "nothing"), result.get(name, "nothing")
        if here != there:
            yield _problem(number, f"{run}: {name} is {here!r:.60} here and {there!r:.60} in result.json")


def _contract_problems(home: Home, number: int, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name = str(row.get("experiment"))
    try:
        there = files.read_yaml(home.contract(name))
    except OrgError as error:
        yield _problem(number, f"{name}: contract.yaml cannot be read: {error!s:.120}")
        return
    if there != contract_page(Contract.from_dict(row)):
        yield _problem(number, f"{name}: contract.yaml is not the contract that was filed")


def contract_page(contract: Contract) -> Any:
    """What contract.yaml holds, for people: the contract without its empty fields."""
    return _plain(contract.to_dict())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v not in (None, (), [], "")}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
