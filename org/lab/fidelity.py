"""Whether ledger, record and result files still say the same: what another hand changed, cut or put in is named by its line.

Not a signature: agents share your user, and who rewrites all of it consistently is not found here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from org import files
from org.errors import OrgError
from org.evidence import clock
from org.home import Home
from org.lab import archive, ledger
from org.records import Contract
from org.world import git

SEAL = re.compile(rb'(\{.*), "sum": "([0-9a-f]{16})"\}', re.DOTALL)
ENVELOPE = ("seq", "kind", "key", "t", "org", "sum")


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
        if not git.resolve(home.record, archive.BRANCH):
            return
        kept = archive.kept_lines(home)
        table = git.read_file(home.record, archive.BRANCH, "results.tsv")
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
    if shown != table and shown != archive.tsv(ledger.read(home), _metric_of(shown)).encode():
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
    if there != Contract.from_dict(row).page():
        yield _problem(number, f"{name}: contract.yaml is not the contract that was filed")
