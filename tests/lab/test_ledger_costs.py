"""What reading and writing the record costs: nothing twice, and nothing of what was there before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from org.home import Home
from org.lab import ledger
from org.lab.book import Book


def test_an_append_does_not_read_what_was_written_before(tiny_home: Home, monkeypatch) -> None:
    book = ledger.Ledger(tiny_home)
    book.append("org", "a", {"text": "x" * 100_000})
    read: list[int] = []
    opened = Path.open

    def counting(path, *words, **more):
        file = opened(path, *words, **more)
        if path == tiny_home.ledger and "b" in words[0]:
            return Counted(file, read)
        return file

    monkeypatch.setattr(Path, "open", counting)
    book.append("org", "b", {})
    assert sum(read) < 1000


class Counted:
    """A file that counts what is read from it."""

    def __init__(self, file, read: list[int]) -> None:
        self._file, self._read = file, read

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def read(self, *words):
        data = self._file.read(*words)
        self._read.append(len(data))
        return data


@pytest.mark.slow  # runs and a long ledger
def test_wins_are_known_without_parsing_their_lines(measured: Home) -> None:
    lazy, whole = ledger.read(measured), Book()
    for line in measured.ledger.read_bytes().splitlines():
        whole.add(json.loads(line))
    assert (
        lazy.wins
        == whole.wins
        == {
            n: (v.tier, v.effect)
            for n, v in whole.verdicts.items()
            if v.outcome == "win" and v.tier and v.effect is not None
        }
    )
    assert lazy.wins, "the fixture has a win"


def test_what_is_out_is_worked_out_once_for_each_line(measured: Home, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("org.lab.book.ladder.out", lambda *known: asked.append(known) or {})
    book = ledger.read(measured)
    for _ in range(3):
        book.out()
    assert len(asked) == 1
    book.add({"kind": "org", "key": "org:later"})
    book.out()
    assert len(asked) == 2
