"""Where a model of knobs keeps what it knows: the points of every knob's curve, and products of each two knobs. Pure.

value(settings) = sum of curves, each read off the line between its points + sum of products a_ij z_i z_j
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from org.agents import arrays
from org.agents import knobs as knobs_
from org.agents.knobs import Value
from org.records import Knob

LEVELS = 5  # points of a ranged knob's curve; straight lines between them
REACH = 0.35  # of a span: how far what is measured at one point says something of another

Change = tuple[str, Any, Any]  # knob, from, to


class Space:
    """Where the points of every knob's curve lie in one vector, and behind them the products of each two that have an order.
    A range has its levels and, last, where it stands outside; choices all but the first, which the others are measured from."""

    def __init__(self, knobs: Sequence[Knob]) -> None:
        np = self.np = arrays.numpy()
        self.knobs = {knob.name.lower(): knob for knob in knobs}
        self.levels: dict[str, list[Value]] = {}
        self._starts: dict[str, int] = {}
        self._hats: dict[tuple[str, type, Any], list[tuple[int, float]]] = {}
        self._elsewhere: dict[tuple[str, type, Any], list[Value]] = {}
        self._along: dict[tuple[str, type, Any], float] = {}
        n, blocks, firsts = 0, [], []
        for name, knob in self.knobs.items():
            firsts.append(n)
            self._starts[name] = n
            if knob.choices:
                self.levels[name] = list(knob.choices)
                blocks.append(np.eye(max(1, len(knob.choices) - 1)) + 1.0)
            else:
                steps = [knobs_.at(knob, step / (LEVELS - 1)) for step in range(LEVELS)]
                self.levels[name] = list(dict.fromkeys(steps))  # of whole numbers there may be fewer
                at = np.arange(LEVELS) / (LEVELS - 1)
                blocks.append(np.eye(LEVELS + 1))
                blocks[-1][:LEVELS, :LEVELS] = np.exp(-((at[:, None] - at[None]) ** 2) / (2 * REACH**2))
            n += len(blocks[-1])
        self.n = n
        self.firsts = np.array(firsts, dtype=int)
        self.is_choice = np.array([bool(knob.choices) for knob in knobs], dtype=bool)
        self.owners = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])  # (n,) whose point
        self.inverse = np.zeros((n, n))  # of the prior covariance at amplitude 1: a block a knob
        for first, block in zip(firsts, blocks, strict=True):
            end = first + len(block)
            self.inverse[first:end, first:end] = np.linalg.inv(block + 1e-4 * np.eye(len(block)))
        self.factor = np.linalg.cholesky(self.inverse)
        numbers = [name for name, knob in self.knobs.items() if _is_ordered(knob)]
        self.ordered = {name: at for at, name in enumerate(numbers)}
        self.one, self.other = np.triu_indices(len(numbers), 1)  # (products,) of which two each is
        self.m = n + len(self.one)
        self.products = np.full(
            (len(numbers), len(numbers)), self.m
        )  # (r, r) place of each; of one with itself behind all
        self.products[self.one, self.other] = self.products[self.other, self.one] = np.arange(n, self.m)

    def along(self, name: str, value: Any) -> float:
        """Where a value stands in its span, 0..1; of choices that are numbers, in their order."""
        if (key := (name, type(value), value)) not in self._along:
            knob = self.knobs[name]
            order = sorted(knob.choices)
            at = next((n for n, choice in enumerate(order) if knobs_.same(choice, value)), 0)
            self._along[key] = at / max(1, len(order) - 1) if order else knobs_.position(knob, value)
        return self._along[key]

    def square(self, drawn: Any) -> list[list[float]]:
        """(r, r) the products of a vector (m,), each in both of its places."""
        found = self.np.zeros((len(self.ordered), len(self.ordered)))
        found[self.one, self.other] = drawn[self.n :]
        return (found + found.T).tolist()  # type: ignore[no-any-return]

    def elsewhere(self, knob: Knob, value: Any) -> list[Value]:
        """The levels of a knob that are other values."""
        if (key := (knob.name, type(value), value)) not in self._elsewhere:
            self._elsewhere[key] = [level for level in self.levels[knob.name.lower()] if not knobs_.same(level, value)]
        return self._elsewhere[key]

    def hat(self, knob: Knob, value: Any) -> list[tuple[int, float]]:
        """(point, share) of a value: between two levels it is read off the line; of the first choice there is none."""
        if (key := (knob.name, type(value), value)) not in self._hats:
            self._hats[key] = self._hat(knob, value)
        return self._hats[key]

    def _hat(self, knob: Knob, value: Any) -> list[tuple[int, float]]:
        start, levels = self._starts[knob.name.lower()], self.levels[knob.name.lower()]
        if knob.choices:
            return [(start + at - 1, 1.0) for at, level in enumerate(levels) if at and knobs_.same(level, value)]
        if knobs_.is_outside(knob, value):
            return [(start + LEVELS, 1.0)]
        where = knobs_.position(knob, value) * (LEVELS - 1)
        left = min(int(where), LEVELS - 2)
        return [(start + left, 1.0 - (where - left)), (start + left + 1, where - left)]

    def row(self, changes: Sequence[Change]) -> Any:
        """(n,) of the points these changes go to, less those they leave; None when one is of no knob, or to no plain value."""
        row = self.np.zeros(self.n)
        for name, old, new in changes:
            knob = self.knobs.get(name)
            if knob is None or not all(
                value is None or isinstance(value, bool | int | float | str) for value in (old, new)
            ):
                return None
            for value, sign in ((new, 1.0), (old, -1.0)):
                for at, share in self.hat(knob, value):
                    row[at] += sign * share
        return row


def _is_ordered(knob: Knob) -> bool:
    return not knob.choices or all(isinstance(v, int | float) and not isinstance(v, bool) for v in knob.choices)


@functools.lru_cache(maxsize=16)
def of(knobs: tuple[Knob, ...]) -> Space:
    """The space of these knobs, made once."""
    return Space(knobs)
