"""One draw of T0's task: which changes there are, what each truly does, and the luck of every run. Pure.

The knobs of the shipped charter with their measured effects; beside them free switches that do nothing, and tricks that
lower the printed number alone. All are knobs to those who search: what is a true win nobody is told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from org.bench.design import LEVELS, Value
from org.bench.surface import Surface
from org.records import Knob

Tree = frozenset[tuple[str, Value]]  # (knob, value) where it differs from the base's
BASE: Tree = frozenset()
Kind = Literal["knob", "null", "trick"]

SWITCHES, TRICKS = 12, 5
OFF, ON = "off", "on"
SEED = "seed"  # the one setting that is no knob: another seed, another luck
TRICK_SIGMAS = 3.0  # by which a trick lowers the printed number
# family -> (caught, missed) by the gate, as `scripts/bench traps` counts them
CATCHES: dict[str, tuple[int, int]] = {
    "evaluator and metric path": (25, 0),
    "time and compute": (17, 3),
    "statistics": (11, 0),
    "reporting": (22, 2),
    "governance": (45, 2),
}


@dataclass
class World:
    """`seed` decides everything: two orgs in one world meet the same truth, and their own luck."""

    surface: Surface
    knobs: dict[str, Knob]  # the charter's; planted ones are added
    seed: str
    luck: str = ""  # another word, another draw of the runs' luck in the same world
    tricks: int = TRICKS
    switches: int = SWITCHES
    start: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stream = random.Random(f"{self.seed}/world")
        self._luck = random.Random(f"{self.seed}/{self.luck}/luck")
        self._shared: dict[int, float] = {}
        self._known: dict[tuple[Tree, int], float | None] = {}
        self._effects: dict[Tree, float] = {}
        self.knobs = {name: knob for name, knob in self.knobs.items() if name in LEVELS}
        self.start = {name: LEVELS[name][0] for name in self.knobs}
        groups = list(dict.fromkeys(knob.group for knob in self.knobs.values())) or ["main"]
        self.caught: dict[str, bool] = {}
        planted: list[tuple[str, Kind]] = [*[("", "null")] * self.switches, *[("", "trick")] * self.tricks]  # type: ignore[list-item]
        stream.shuffle(planted)
        self.kinds: dict[str, Kind] = dict.fromkeys(self.knobs, "knob")
        for number, (_, kind) in enumerate(planted, 1):
            name = f"switch_{number}"
            self.kinds[name], self.start[name] = kind, OFF
            self.knobs[name] = Knob(name, "train.py", stream.choice(groups), choices=(OFF, ON))
            if kind == "trick":
                caught, missed = stream.choice(list(CATCHES.values()))
                self.caught[name] = stream.random() < caught / (caught + missed)

    def gain(self, tree: Tree) -> float:
        """True gain over the base, positive when better. Nothing that is planted adds to it; a tree that crashes has none."""
        if tree not in self._effects:
            config = self._config(tree)
            self._effects[tree] = 0.0 if self.surface.crashes(config) else self.surface.effect(config)
        return -self._effects[tree]

    def begin(self, tree: Tree, seed: int) -> None:
        """A device begins with this run. Here a run is a draw; where it is trained for real, others begin beside it."""

    def run(self, tree: Tree, seed: int) -> float | None:
        """The number that a run prints, the same however often it is asked for; None when it crashes."""
        if (tree, seed) not in self._known:
            tricks = sum(self.kinds.get(name) == "trick" for name, _ in tree)
            lowered = TRICK_SIGMAS * self.surface.sigma * tricks
            luck = self._noise(dict(tree).get(SEED, seed))
            value = self.surface.base - self.gain(tree) + luck - lowered
            self._known[tree, seed] = None if self.surface.crashes(self._config(tree)) else value
        return self._known[tree, seed]

    def hidden(self, tree: Tree, seed: int) -> float | None:
        """The same run on the split no search sees: a trick that the gate missed lowers nothing there."""
        printed = self.run(tree, seed)
        tricks = sum(self.kinds.get(name) == "trick" for name, _ in tree)
        return None if printed is None else printed + TRICK_SIGMAS * self.surface.sigma * tricks

    def is_caught(self, tree: Tree) -> bool:
        """Whether the gate refuses the run for a trick in it."""
        return any(self.caught.get(name, False) for name, _ in tree)

    def seconds(self, tree: Tree) -> float:
        return self.surface.seconds(self._config(tree))

    def kind(self, name: str) -> Kind:
        return self.kinds.get(name, "null")  # another seed is a null

    def changed(self, tree: Tree, changes: Mapping[str, Value]) -> Tree:
        """`tree` with these settings."""
        values = {**dict(tree), **changes}
        return frozenset((name, value) for name, value in values.items() if self.start.get(name) != value)

    def current(self, tree: Tree) -> dict[str, Value | None]:
        return {**self.start, **dict(tree)}

    def merged(self, trees: Iterable[Tree]) -> Tree:
        """All of them in one tree, as a person has who lands every program."""
        values: dict[str, Value] = {}
        for tree in trees:
            values.update(dict(tree))
        return frozenset(values.items())

    def _config(self, tree: Tree) -> dict[str, Value]:
        return {name: value for name, value in tree if self.kinds.get(name) == "knob"}

    def _noise(self, seed: Value) -> float:
        rho = self.surface.rho
        own = self._luck.gauss(0.0, 1.0)
        if rho:
            if seed not in self._shared:
                self._shared[seed] = self._luck.gauss(0.0, 1.0)  # type: ignore[index]
            own = math.sqrt(rho) * self._shared[seed] + math.sqrt(1 - rho) * own  # type: ignore[index]
        return self.surface.sigma * own
