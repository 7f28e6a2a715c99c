"""Ledger lines by hand, for decisions that are tested on histories."""

from __future__ import annotations

from typing import Any

from org.lab.book import Book
from org.records import Contract, Verdict


def book_of(*rows: dict[str, Any]) -> Book:
    book = Book()
    for seq, row in enumerate(rows, 1):
        book.add({"seq": seq, "t": f"2026-03-01T00:00:{seq:02d}Z", **row})
    return book


def contract(name: str, seat: str = "j1", members: tuple[str, ...] = ()) -> dict[str, Any]:
    row = Contract(
        experiment=name, why="larger", claim="better", expect=-0.04, seat=seat, program="main", commit="c" * 40, tree="t",
        baseline_commit="b", baseline_tree="b", scale="tiny", stage="search", matched="tokens", members=members,
    )  # fmt: skip
    return {"kind": "experiment", **row.to_dict()}


def verdict(name: str, outcome: Any = "win") -> dict[str, Any]:
    row = Verdict(
        name, outcome, "tentative", "better", -0.0412, 0.0113, 3.6, 2, "tokens", "referee", ("it is",), (), expect=-0.04
    )
    return {"kind": "verdict", **row.to_dict()}
