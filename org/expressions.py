"""Which regular expressions of a person's may be searched for in what a program shows: none that a hostile line makes endless."""

from __future__ import annotations

from collections.abc import Iterator
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
MANY = 16  # times or more count as without an end: what varies inside takes hours too


def is_nested(pattern: str) -> bool:
    """Whether a repeat, or a choice of words, stands inside a repeat without an end: one text may then be taken in many
    ways, and the search take a time that doubles with each character. Raises re.error for what is no regular expression. Pure.

    >>> is_nested("(a+)+$"), is_nested("[0-9]+%( of [0-9]+k)?")
    (True, False)
    """
    return _is_nested(parser.parse(pattern), False)


def _is_nested(part: Any, is_inside: bool) -> bool:
    for code, value in part:
        if is_inside and (code is codes.BRANCH or (code in REPEATS and value[0] != value[1])):
            return True
        is_repeat = code in REPEATS and value[1] >= MANY
        if any(_is_nested(inner, is_inside or is_repeat) for inner in _parts(value)):
            return True
    return False


def _parts(value: Any) -> Iterator[Any]:
    """The expressions that an element holds, of whatever kind it is."""
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _parts(each)
