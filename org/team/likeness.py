"""Which experiments and ideas an idea repeats: the same setting of a constant, or the same words. Pure.

Names what is alike and judges nothing: another head or another mechanism may be reason enough to try again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from org.agents import knobs
from org.records import BANK, Contract

ALIKE = 0.75  # of the words of two ideas that have to be common to both
FEWEST = 3  # words: of fewer nothing is said
MOST_CHARACTERS = 4000  # of an idea that are compared
STOP = re.compile(
    r"the|and|for|with|that|this|than|then|are|was|has|have|its|not|but|from|into|over|more|less|may|will|can"
)

Settings = Mapping[str, tuple[Any, ...]]


def settings(text: str) -> dict[str, tuple[Any, ...]]:
    """Constant, in lower case -> the values that `text` sets it to, as in `matrix_lr = 0.05`."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, word in knobs.assigned_in(text[:MOST_CHARACTERS]):
        found[name.lower()] = (*found.get(name.lower(), ()), _value(word))
    return found


def experiments(wanted: Settings, contracts: Iterable[Contract]) -> list[str]:
    """Those that changed nothing but constants that are `wanted`, each to a value that is; in their order."""
    return [
        contract.experiment
        for contract in contracts
        if contract.knobs
        and contract.experiment != BANK
        and not contract.members
        and not contract.promotes
        and all(any(_same(k.new, value) for value in wanted.get(k.name.lower(), ())) for k in contract.knobs)
    ]


def is_alike(one: str, other: str) -> bool:
    """Whether two ideas say the same: nearly the same words, and no number that differs."""
    first, second = _words(one), _words(other)
    if min(len(first), len(second)) < FEWEST or _numbers(one) != _numbers(other):
        return False
    return len(first & second) >= ALIKE * len(first | second)


def _words(text: str) -> set[str]:
    return {w for w in re.findall(r"[^\W\d_]\w{2,}", text[:MOST_CHARACTERS].lower()) if not STOP.fullmatch(w)}


def _numbers(text: str) -> set[float]:
    """Without those that are part of an id or a name."""
    found = re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)", text[:MOST_CHARACTERS].lower())
    return {float(word) for word in found}


def _value(word: str) -> Any:
    word = word.strip("'\"")
    try:
        return float(word)
    except ValueError:
        return word.lower()


def _same(tried: Any, wanted: Any) -> bool:
    if isinstance(tried, bool) or not isinstance(tried, int | float):
        return str(tried).lower() == str(wanted).lower()
    return knobs.same(tried, wanted)
