"""Families of near-equal cases: a few of them in the fast tier, all of them in the slow one's company."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first(count: int, cases: Iterable[Any]) -> list[Any]:
    """`cases` for parametrize: the first `count` as they are, the others marked slow. A case of several values is a tuple."""
    known = list(cases)
    later = [case if isinstance(case, tuple) else (case,) for case in known[count:]]
    return [*known[:count], *(pytest.param(*values, marks=pytest.mark.slow) for values in later)]
