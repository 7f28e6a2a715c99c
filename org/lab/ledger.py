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
from typing import Any

from org import charter as charters
from org import files
from org.errors import BadInput
from org.failpoint import failpoint
from org.home import Home
from org.lab.book import Book
from org.lab.rows import Rows, seq_of


class Ledger:
    """Reads incrementally and appends. One object may live as long as its process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.book = Book()
        self._path = str(home.ledger)
        self._offset = 0
        self._keys: set[str] = set()

    def size(self) -> int:
        """Bytes in the file now."""
        try:
            return os.stat(self._path).st_size  # noqa: PTH116 - ten times a second in an idle office
        except FileNotFoundError:
            return 0

    def refresh(self) -> Book:
        """The book with every whole line that is in the file now; one look at its size when there is nothing new."""
        if self.size() == self._offset:
            return self.book
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
            rows = self.book.rows
            last = rows.tail()
            facts = files.read_json(self.home.org_file) or {}
            row = {
                "seq": rows.top + 1,
                "kind": kind,
                "key": key,
                "t": files.utc_now(),
                "org": facts.get("org_hash", ""),
                **(self._charter(kind) if kind in ("experiment", "verdict") else {}),
                **data,
            }
            failpoint(f"ledger.{kind}")
            line, total = _sealed(row, str(last.get("sum", "")))
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
        last = rows.tail()
        seq = seq_of(last)
        if seq is None or "sum" not in last:
            return
        try:
            behind = self.home.ledger_tip.read_text(errors="replace").startswith(f"{seq - 1} ")
        except FileNotFoundError:
            behind = len(rows) == 1
        if behind:
            files.replace(self.home.ledger_tip, f"{seq} {last['sum']}\n")


def _sealed(row: dict[str, Any], before: str) -> tuple[str, str]:
    """`row` as the line to append, and its sum."""
    body = json.dumps(row, ensure_ascii=False, allow_nan=False)
    total = hashlib.sha256(f"{before}{body}".encode()).hexdigest()[:16]
    return f'{body[:-1]}, "sum": "{total}"}}', total


def read(home: Home) -> Book:
    """The whole ledger, folded."""
    return Ledger(home).refresh()
