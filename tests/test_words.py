"""How a number of things is said."""

from __future__ import annotations

from org.words import counted


def test_one_is_one_and_the_rest_are_many() -> None:
    assert [counted(n, "letter") for n in (0, 1, 2)] == ["0 letters", "1 letter", "2 letters"]
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]
    assert [counted(n, "letter", one="a") for n in (1, 2)] == ["a letter", "2 letters"]
