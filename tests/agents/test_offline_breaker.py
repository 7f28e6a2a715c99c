"""A breaker without a network, in a real terminal: what it attacks, and that it makes one attack at a time."""

from __future__ import annotations

import json
import zlib

import pytest
from test_offline import Org, org

from org import files

__all__ = ["org"]  # a fixture
pytestmark = pytest.mark.slow  # a researcher at work for seconds


def win(name: str) -> dict:
    verdict = {"outcome": "win", "tier": "tentative", "effect": -0.04, "se": 0.01}
    knobs = [{"name": "matrix_lr", "old": 0.02, "new": 0.04}]
    return {"experiment": name, "program": "main", "seat": "j1", "knobs": knobs, "verdict": verdict, "stage": "search"}


def test_each_win_is_attacked_one_after_the_other_until_nothing_is_left(org: Org) -> None:
    org.seat("b1", "breaker")
    files.replace(org.home.ledger, json.dumps([win("E0001"), {**win("E0002"), "verdict": None}]))
    pane = org.open("b1")
    pane.until(lambda: org.calls("refute", "E0001"))
    assert org.calls("refute") == [["refute", "E0001", "--no-wait", "--json"]]
    rows = [win("E0001"), win("E0002"), {"experiment": "E0900", "refutes": "E0001", "knobs": []}]
    files.replace(org.home.ledger, json.dumps(rows))
    pane.until("E0002")  # it doubts the second win; its one attack is under way
    assert org.calls("refute", "E0002") == []
    org.letter("b1", "verdict", "E0900 win: it stood", about="E0900")
    pane.until(lambda: org.calls("refute", "E0002"))
    assert len(org.calls("refute", "E0001")) == 2  # asked again: nothing is left of it


def test_breakers_share_the_wins(org: Org) -> None:
    names = [f"E{n:04d}" for n in range(1, 9)]
    for name in ("b1", "b2"):
        org.seat(name, "breaker")
    files.replace(org.home.ledger, json.dumps([win(name) for name in names]))
    mine = [name for name in names if zlib.crc32(name.encode()) % 2 == 1]
    assert 0 < len(mine) < len(names)
    pane = org.open("b2")
    pane.until(lambda: org.calls("refute"))
    assert org.calls("refute")[0][1] == mine[0]
