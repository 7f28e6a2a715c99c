"""Whether ledger, record and result files still say the same: what another hand changed, cut or put in is named by its line.

Holds no lock: while a dispatcher works, a head or the record's copy may be one step ahead of its line, and that is no
problem. Not a signature: agents share your user, and who rewrites all of it consistently is not found here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from org import files, strictyaml
from org.errors import OrgError
from org.evidence import clock
from org.home import EXPERIMENT_PATTERN, Home
from org.lab import archive, holdings, ledger
from org.lab.book import Book, misfit
from org.lab.rows import NAMED, parsed, seq_of
from org.records import Contract

SEAL = re.compile(rb'(\{.*), "sum": "([0-9a-f]{16})"\}', re.DOTALL)
ENVELOPE = ("seq", "kind", "key", "t", "org", "sum")
SPECIFIED = (  # what a result repeats of its spec.json
    *("run", "experiment", "arm", "seed", "stage", "commit", "tree", "scale", "device", "device_kind", "attempt"),
    *("software", "setting"),
)
RUN = re.compile(r"E[0-9]{4,}/[\w-]{1,200}")
CLOCK = "clock"  # the kind of what only times say: a clock that was set is no other hand

Line = tuple[int, dict[str, Any]]  # its number in the file, from 1 on, and what it holds
Problem = dict[str, Any]  # line, what, and kind: seal, tip, row, record, file or clock


def problems(home: Home) -> list[Problem]:
    """Where the ledger, its tip, the record and the result files disagree, first line first; empty when all is well."""
    kept, before = holdings.kept(home), (holdings.refs(home), _bytes(home.ledger_tip))
    for _ in range(5):  # until nothing moved while the ledger was read: then a line is there, or due
        table, raw = _bytes(home.results_tsv), _bytes(home.ledger) or b""
        now = holdings.refs(home), _bytes(home.ledger_tip)
        if now == before:
            break
        kept, before = holdings.kept(home), now
    refs, tip = before
    if not raw and (tip is not None or kept):
        return [_problem(0, f"{home.ledger.name} is gone; the record keeps a copy on its branch `ledger`", "seal")]
    lines = raw.splitlines()
    book = Book()
    for line in lines[: len(lines) - bool(raw and raw[-1:] != b"\n")]:
        book.add(line)
    rows = [(number, row) for number, line in enumerate(lines, 1) if (row := parsed(line)) is not None]
    found = [_problem(len(lines), "has no end; the next line sets it aside", "seal")] if raw[-1:] not in b"\n" else []
    found += _seal_problems(lines, rows)
    found += _tip_problems(home.ledger_tip.name, tip, lines, rows)
    found += _row_problems(rows)
    found += _file_problems(home, rows, len(lines) + 1)
    found += [_problem(line, what, "record") for line, what in _record_problems(home, book, lines, table, refs, kept)]
    numbers, plain = [number for number, _ in rows], [row for _, row in rows]
    rests = clock.unmeasured(plain, numbers)
    found += [_problem(line, what, "row") for line, what in rests]
    found += [_problem(line, what, CLOCK) for line, what in clock.problems(plain, numbers) if (line, what) not in rests]
    return sorted(found, key=lambda p: p["line"])


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _problem(line: int, what: str, kind: str) -> Problem:
    return {"line": line, "what": what, "kind": kind}


def _seal_problems(lines: list[bytes], rows: list[Line]) -> Iterator[Problem]:
    known = dict(rows)
    before, last, has_sums = "", 0, False
    for number, line in enumerate(lines, 1):
        row = known.get(number)
        seq = seq_of(row) if row is not None else None
        if row is None or seq is None:
            yield _problem(number, "is not a ledger line", "seal")
            continue
        if seq != last + 1:
            yield _problem(number, f"has sequence number {seq}, expected {last + 1}", "seal")
        last = max(last, seq)  # as the next writer counts on: one line too many is one problem
        if seal := SEAL.fullmatch(line):
            total = hashlib.sha256(before.encode(errors="replace") + seal[1] + b"}").hexdigest()[:16]
            if total != seal[2].decode():
                yield _problem(number, "is not what was written here: its sum differs", "seal")
            has_sums = True
        elif has_sums:
            yield _problem(number, "carries no sum, and lines before it do", "seal")
        before = str(row.get("sum", ""))


def _tip_problems(name: str, tip: bytes | None, lines: list[bytes], rows: list[Line]) -> Iterator[Problem]:
    """The tip may be one line behind, where a writer was killed between the two; else it is the last line."""
    sums = {seq: row.get("sum") for _, row in rows if (seq := seq_of(row)) is not None}
    if tip is None:
        if any(sums.values()) and len(sums) > 1:
            yield _problem(len(lines), f"{name} is missing", "tip")
        return
    try:
        count, total = tip.decode().split()
        at = int(count)
    except ValueError:
        yield _problem(len(lines), f"{name} is not `LINES SUM`", "tip")
        return
    last = next(reversed(sums), 0)
    if last < at:
        gone = f"and all after it are gone: {at} lines were written, {last} are left"
        yield _problem(len(lines) + 1, gone, "tip")
    elif last > at + 1:
        yield _problem(at + 2, f"was not written by the org: {name} ends at {at}", "tip")
    elif sums.get(at) != total:
        yield _problem(at, f"is not the one that {name} names", "tip")


def _row_problems(rows: list[Line]) -> Iterator[Problem]:
    """Each line by itself: is it what its kind says, said for the first time, and judged by the one metric."""
    first: dict[tuple[str, str], int] = {}
    judged: tuple[int, str] | None = None
    for number, row in rows:
        if why := misfit(row):
            yield _problem(number, why, "row")
            continue
        kind, name = row["kind"], row.get(NAMED.get(row["kind"], ""))
        if isinstance(name, str) and (at := first.setdefault((kind, name), number)) != number:
            yield _problem(number, f"is a second {kind} of {name}: line {at} stands", "row")
        metric = row.get("metric")
        if kind == "verdict" and isinstance(metric, str):
            judged = judged or (number, metric)
            if metric != judged[1]:
                yield _problem(number, f"{name} was judged by {metric}, and line {judged[0]} by {judged[1]}", "row")


def _record_problems(
    home: Home, book: Book, lines: list[bytes], table: bytes | None, refs: dict[str, str] | None, kept: int
) -> Iterator[tuple[int, str]]:
    if refs is None:
        if any((book.experiments, book.results, book.verdicts, book.moves)) or kept:
            yield 0, f"{home.record} is gone, or no repository any more: put it back from a copy of comms/"
        return
    try:
        yield from holdings.problems(home, book, refs)
        copy = archive.kept_lines(home, refs[archive.BRANCH]) if archive.BRANCH in refs else []
    except OrgError as error:
        yield 0, f"the record cannot be read: {' '.join(str(error).split())[:300]}"
        return
    if len(copy) < kept:
        yield 0, f"the record's copy of the ledger has {len(copy)} lines and had {kept}: its branch `ledger` was moved"
    for number, (ours, theirs) in enumerate(zip(lines, copy, strict=False), 1):
        if ours != theirs:
            yield number, "differs from the record's copy"
            break
    if len(copy) > len(lines):
        yield len(lines) + 1, "is in the record but no longer in the ledger"
    try:
        is_shown = table in _tables(home, book, copy)
    except OrgError:
        return  # a line of the ledger is no record, and named above
    if not is_shown:
        yield 0, f"{home.results_tsv.name} is not what the ledger says; the next verdict renders it again"


def _tables(home: Home, book: Book, copy: list[bytes]) -> Iterator[bytes | None]:
    """What results.tsv may be: what the ledger says, or said when it was last kept."""
    metric = archive.metric_of(home, book)
    yield archive.tsv(book, metric).encode()
    past = Book()
    for line in copy:
        past.add(line)
    yield archive.tsv(past, metric).encode() if copy else None


def _file_problems(home: Home, rows: list[Line], end: int) -> Iterator[Problem]:
    """Each result, spec and contract against its file, and each file of a run against the lines that must be there."""
    results: set[str] = set()
    launched: set[str] = set()
    for number, row in rows:
        kind = row.get("kind")
        if kind in ("launch", "result"):
            run = str(row.get("run"))
            if not RUN.fullmatch(run):
                yield _problem(number, f"{run:.60} is no name of a run", "file")
                continue
            (launched if kind == "launch" else results).add(run)
            found = _launch_problems(home, run, row) if kind == "launch" else _result_problems(home, run, row)
        elif kind == "experiment" and not row.get("refused"):
            found = _contract_problems(home, row)
        else:
            continue
        yield from (_problem(number, what, "file") for what in found)
    late = ledger.Ledger(home)  # a run may have ended since the lines were read
    for path in sorted(home.experiments.glob("E*/runs/*/result.json")):
        run = f"{path.parents[2].name}/{path.parent.name}"
        if run not in results and not files.is_locked(path.parent / "lock") and run not in late.refresh().results:
            yield _problem(end, f"is missing: {run} has a result.json and no result line", "file")
        if run not in launched and _object(path).get("status") != "lost" and run not in late.refresh().launches:
            yield _problem(end, f"is missing: {run} has a result.json and no launch line", "file")


def _launch_problems(home: Home, run: str, row: dict[str, Any]) -> Iterator[str]:
    """spec.json is written before the launch line, which holds its digest, and never again."""
    if "spec" in row and files.digest(home.run(run) / "spec.json") != row["spec"]:
        yield f"{run}: spec.json is not the one it was launched with"


def _result_problems(home: Home, run: str, row: dict[str, Any]) -> Iterator[str]:
    folder = home.run(run)
    result, spec = files.read_json(folder / "result.json"), _object(folder / "spec.json")
    if not isinstance(result, dict):
        yield f"{run} has no readable result.json"
        return
    for name in sorted({*result, *row} - {*ENVELOPE}):
        here, there = row.get(name, "nothing"), result.get(name, "nothing")
        if here != there:
            yield f"{run}: {name} is {here!r:.60} here and {there!r:.60} in result.json"
    for name in SPECIFIED:
        if spec and row.get(name) != spec.get(name):
            yield f"{run}: {name} is {row.get(name)!r:.60} here and {spec.get(name)!r:.60} in spec.json"
    if row.get("log") and files.digest(folder / "log.txt") != row["log"]:
        yield f"{run}: log.txt is not what it wrote"


def _contract_problems(home: Home, row: dict[str, Any]) -> Iterator[str]:
    if Contract.misfit(row):
        return  # named already
    name = str(row["experiment"])
    if not EXPERIMENT_PATTERN.fullmatch(name):
        yield f"{name!r:.60} is no experiment's id"
        return
    try:
        there = strictyaml.read(home.contract(name))
    except OrgError as error:
        yield f"{name}: contract.yaml cannot be read: {error!s:.120}"
        return
    if there != Contract.from_dict(row).page():
        yield f"{name}: contract.yaml is not the contract that was filed"


def _object(path: Path) -> dict[str, Any]:
    value = files.read_json(path)
    return value if isinstance(value, dict) else {}
