"""comms/ledger.jsonl, the one record: append-only, one line an event, each line once. Every table is rendered from it.

Two processes may append at once (one lock); a line whose key is already there is not written again, so every writer may
be killed and repeat itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from org import files
from org.errors import OrgError
from org.failpoint import failpoint
from org.home import Home
from org.records import Contract, RunResult, Verdict
from org.world import git

BRANCH = "refs/heads/ledger"
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


@dataclass
class Book:
    """The ledger folded: what is known, by id, in the order it became known."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    experiments: dict[str, Contract] = field(default_factory=dict)
    launches: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: dict[str, RunResult] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    verdict_times: dict[str, str] = field(default_factory=dict)
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)  # program -> its last `head` line
    refusals: list[dict[str, Any]] = field(default_factory=list)
    org: list[dict[str, Any]] = field(default_factory=list)  # launches and stops of the organisation

    def open(self) -> list[Contract]:
        """Experiments without a verdict, oldest first: the queue is computed from these."""
        return [c for name, c in self.experiments.items() if name not in self.verdicts]

    def add(self, row: dict[str, Any]) -> None:
        """Fold in one ledger line; kinds of a later version are kept in `rows` and otherwise ignored."""
        self.rows.append(row)
        match row.get("kind"):
            case "experiment" if row.get("refused"):
                self.refusals.append(row)
            case "experiment":
                self.experiments[row["experiment"]] = Contract.from_dict(row)
            case "launch":
                self.launches[row["run"]] = row
            case "result":
                self.results[row["run"]] = RunResult.from_dict(row)
            case "verdict":
                self.verdicts[row["experiment"]] = Verdict.from_dict(row)
                self.verdict_times[row["experiment"]] = row["t"]
            case "head":
                self.heads[row["program"]] = row
            case "org":
                self.org.append(row)


class Ledger:
    """Reads incrementally and appends. One object may live as long as its process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.book = Book()
        self._offset = 0
        self._keys: set[str] = set()

    def refresh(self) -> Book:
        """The book with every whole line that is in the file now."""
        rows, self._offset = files.read_lines(self.home.ledger, self._offset)
        for row in rows:
            self._keys.add(str(row.get("key")))
            self.book.add(row)
        return self.book

    def rows(self) -> list[dict[str, Any]]:
        return self.refresh().rows

    def append(self, kind: str, key: str, data: dict[str, Any], sync: bool = True) -> dict[str, Any] | None:
        """Record one fact and return its line, or None when a line with this key is there already."""
        with files.locked(self.home.leases / "ledger"):
            self.refresh()
            if key in self._keys:
                return None
            last = self.book.rows[-1]["seq"] if self.book.rows else 0
            facts = files.read_json(self.home.org_file) or {}
            row = {
                "seq": last + 1,
                "kind": kind,
                "key": key,
                "t": files.utc_now(),
                "org": facts.get("org_hash", ""),
                **data,
            }
            failpoint(f"ledger.{kind}")
            files.append_line(self.home.ledger, json.dumps(row, ensure_ascii=False, allow_nan=False), sync=sync)
            self.refresh()
            return row


def read(home: Home) -> Book:
    """The whole ledger, folded."""
    return Ledger(home).refresh()


def commit(home: Home, book: Book, metric: str = "metric") -> None:
    """Render results.tsv and commit it with the ledger to the record's branch `ledger`. Safe to repeat."""
    table = tsv(book, metric)
    files.replace(home.results_tsv, table)
    with files.locked(home.leases / "ledger-commit"):
        parent = git.resolve(home.record, BRANCH)
        tree = git.write_tree(home.record, {"ledger.jsonl": home.ledger.read_bytes(), "results.tsv": table.encode()})
        if parent and git.tree_of(home.record, parent) == tree:
            return
        sha = git.commit(home.record, tree, [parent] if parent else [], f"ledger: {len(book.rows)} lines")
        git.update_ref(home.record, BRANCH, sha, parent)


def tsv(book: Book, metric: str = "metric") -> str:
    """results.tsv: upstream's five columns first, one row an experiment, numbers of its candidate runs' mean."""
    lines = ["\t".join((TSV_COLUMNS[0], metric, *TSV_COLUMNS[2:]))]
    for name, verdict in book.verdicts.items():
        contract = book.experiments.get(name)
        if contract is None:
            continue
        own = [book.results[r] for r in verdict.runs if r in book.results and book.results[r].tree == contract.tree]
        values = [r.metric for r in own if r.metric is not None]
        memory = [r.vram_mb for r in own if r.vram_mb is not None]
        kept = verdict.outcome in ("win", "holds")
        lines.append(
            "\t".join(
                (
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
            )
        )
    return "\n".join(lines) + "\n"


def problems(home: Home) -> list[dict[str, Any]]:
    """Where the ledger, the record and the result files disagree, first line first; empty when all is well."""
    found: list[dict[str, Any]] = []
    lines = home.ledger.read_bytes().splitlines() if home.ledger.is_file() else []
    expected = 1
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            seq = int(row["seq"])
        except (ValueError, KeyError, TypeError):
            found.append({"line": number, "what": "is not a ledger line"})
            continue
        if seq != expected:
            found.append({"line": number, "what": f"has sequence number {seq}, expected {expected}"})
        expected = seq + 1
        if row.get("kind") == "result":
            found += _result_problems(home, number, row)
    try:
        kept = git.read_file(home.record, BRANCH, "ledger.jsonl") if git.resolve(home.record, BRANCH) else None
    except OrgError as error:
        found.append({"line": 0, "what": f"the record cannot be read: {error}"})
        return found
    for number, (ours, theirs) in enumerate(zip(lines, (kept or b"").splitlines(), strict=False), 1):
        if ours != theirs:
            found.append({"line": number, "what": "differs from the record's copy"})
            break
    if kept is not None and len(kept.splitlines()) > len(lines):
        found.append({"line": len(lines) + 1, "what": "is in the record but no longer in the ledger"})
    return sorted(found, key=lambda p: p["line"])


def _result_problems(home: Home, number: int, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
    path = home.run(row["run"]) / "result.json"
    result = files.read_json(path)
    if result is None:
        if row.get("status") != "lost":
            yield {"line": number, "what": f"{row['run']} has no readable result.json"}
        return
    for name, value in result.items():
        if name in row and row[name] != value:
            yield {"line": number, "what": f"{row['run']}: {name} is {row[name]!r} here and {value!r} in result.json"}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
