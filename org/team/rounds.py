"""When each step of the office is due: every so often, and at once when something it looks at has changed. Pure.

Many changes in a row make one pass: a step that was just done is not done again before its pause is over. Steps that are
nearly due go along with one that is: each wake of an idle office costs more than looking.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

ALONG = 0.25  # of its period, by which a step may come early to go along with another


@dataclass(frozen=True)
class Round:
    """One named step. `every_s`: at the latest. `on`: names below comms/ whose change makes it due. `pause_s`: not sooner
    than this after the last time, however much changes."""

    name: str
    every_s: float
    on: frozenset[str] = frozenset()
    pause_s: float = 0.0


class Rounds:
    """Knows when each step was done and what has changed since. Times are the caller's, in seconds that only go on."""

    def __init__(self, rounds: Iterable[Round]) -> None:
        self.rounds = tuple(rounds)
        self._every = {each.name: each.every_s for each in self.rounds}
        self._done: dict[str, float] = {}
        self._asked: dict[str, float] = {}  # step -> not before which moment it was asked for

    def changed(self, places: Collection[str], now: float) -> None:
        """Something lies differently in these places."""
        for each in self.rounds:
            if not each.on.isdisjoint(places):
                self.ask(each.name, max(now, self._done.get(each.name, -1e9) + each.pause_s))

    def ask(self, name: str, at: float) -> None:
        """Do the step at this moment at the latest, whatever its turn."""
        self._asked[name] = min(at, self._asked.get(name, at))

    def due(self, now: float) -> set[str]:
        """The steps to be done in a pass at this moment: whose time is up, and who is nearly due beside them."""
        if self.left(now) > 0:
            return set()
        up = {name for name, at in self._asked.items() if now >= at}
        return up | {name for name, every in self._every.items() if now >= self._turn(name) - ALONG * every}

    def done(self, name: str, now: float) -> None:
        self._done[name] = now
        self._asked.pop(name, None)

    def left(self, now: float) -> float:
        """Seconds until some step's time is up."""
        return max(0.0, min(min(self._turn(name), self._asked.get(name, float("inf"))) for name in self._every) - now)

    def _turn(self, name: str) -> float:
        return self._done[name] + self._every[name] if name in self._done else float("-inf")
