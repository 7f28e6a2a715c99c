"""Who chooses what to try: plugs with `ask(history)` and `tell(result)`. Those that ship, and a person's own file.

A plug knows what a researcher in the org knows: the knobs, where they stand, and every verdict. It never sees a true effect.
"""

from __future__ import annotations

import math
import random
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from org.agents import knobs as knobs_
from org.agents import search
from org.agents.search import Trial
from org.bench import tpe
from org.bench.design import Value
from org.bench.world import SEED
from org.errors import BadInput
from org.records import Knob, Metric

Changes = Mapping[str, Value]
METRIC = Metric()


@dataclass(frozen=True)
class History:
    """What a plug is asked with. `current`: every knob's value in the program's head; `trials`: the ledger's experiments,
    oldest first, those still running with outcome None; `offset`: the seat's rank among those that share its knobs."""

    knobs: Sequence[Knob]
    current: Mapping[str, Value | None]
    trials: Sequence[Trial]
    seat: str
    seed: int
    offset: int
    size: float  # the smallest effect that matters, in the metric's unit
    everything: Sequence[Knob] = ()  # what a seat may turn together, beyond its own


@dataclass(frozen=True)
class Result:
    """What a plug is told of each experiment it asked for. `metric`: mean over its runs, None when it has none; `effect`:
    candidate less baseline, negative when better; `outcome` as in a verdict: win, null, loss, crash, invalid."""

    changes: dict[str, Value]
    outcome: str
    effect: float | None
    metric: float | None


class Brain(Protocol):
    """One researcher. A new one is made for every seat of every repeat."""

    def ask(self, history: History) -> Changes | None:
        """The settings to try against the head, or None while there is nothing to try."""

    def tell(self, result: Result) -> None:
        """What came of it."""


Maker = Callable[[str], Brain]  # of a seed


class Shipped:
    """The researcher without a network that `--agents offline` seats."""

    def __init__(self, seed: str) -> None:
        self.seed = seed

    def ask(self, history: History) -> Changes | None:
        found = search.propose(
            history.knobs,
            history.current,
            history.trials,
            metric=METRIC,
            seed=history.seed,
            offset=history.offset,
            size=history.size,
            everything=history.everything,
            seat=history.seat,
        )
        return None if found is None else {knob.name: new for knob, _, new in found.turns}

    def tell(self, result: Result) -> None:
        """The ledger's trials say it already."""


class Ideas:
    """Ideas as they come: one knob to any value of its range; where `has_seed`, another seed is one of them."""

    def __init__(self, seed: str, has_seed: bool = False) -> None:
        self.stream, self.has_seed = random.Random(f"{seed}/ideas"), has_seed

    def ask(self, history: History) -> Changes | None:
        if self.has_seed and self.stream.randrange(len(history.knobs) + 1) == 0:
            return {SEED: self.stream.randrange(1, 10_000)}
        for _ in range(100):
            knob = self.stream.choice(history.knobs)
            value = drawn(knob, self.stream)
            if not knobs_.same(value, history.current[knob.name]):
                return {knob.name: value}
        return None

    def tell(self, result: Result) -> None:
        """It learns nothing."""


class Random:
    """Random search around the start: one to four knobs at any value of their range, all others left."""

    def __init__(self, seed: str) -> None:
        self.stream = random.Random(f"{seed}/random")

    def ask(self, history: History) -> Changes | None:
        turned = self.stream.sample(list(history.knobs), min(len(history.knobs), self.stream.randint(1, 4)))
        return {knob.name: drawn(knob, self.stream) for knob in turned}

    def tell(self, result: Result) -> None:
        """It learns nothing."""


class Tricks:
    """The adversary: nothing but what only lowers the printed number."""

    def __init__(self, seed: str, names: Sequence[str] = ()) -> None:
        self.left = list(names)
        random.Random(seed).shuffle(self.left)

    def ask(self, history: History) -> Changes | None:
        return {self.left.pop(): "on"} if self.left else None

    def tell(self, result: Result) -> None:
        """It has other tricks."""


class Tpe:
    """A tree-structured Parzen estimator over all knobs at once, told every printed number."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.sampler: tpe.Sampler | None = None

    def ask(self, history: History) -> Changes | None:
        if self.sampler is None:
            self.sampler = tpe.Sampler(history.knobs, self.seed)
        return self.sampler.ask()

    def tell(self, result: Result) -> None:
        assert self.sampler is not None
        self.sampler.tell(result.changes, result.metric if result.metric is not None else math.inf)


class Nothing:
    """The control that does not try."""

    def __init__(self, seed: str) -> None:
        self.seed = seed

    def ask(self, history: History) -> Changes | None:
        return None

    def tell(self, result: Result) -> None:
        """Never called."""


SHIPPED: dict[str, Maker] = {"offline": Shipped, "ideas": Ideas, "random": Random, "tpe": Tpe}


def drawn(knob: Knob, stream: random.Random) -> Value:
    return stream.choice(knob.choices) if knob.choices else knobs_.at(knob, stream.random())


def load(name: str) -> Maker:
    """The plug of that name, or of that Python file. Raises BadInput naming what the file lacks."""
    if name in SHIPPED:
        return SHIPPED[name]
    path = Path(name)
    if not path.is_file():
        raise BadInput(
            f"there is no brain {name!r:.80}; known: {', '.join(SHIPPED)}, or a Python file with ask and tell"
        )
    try:
        code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{path} is no Python file: {error}") from None
    Own(code, path, "0")  # says now what is missing
    return lambda seed: Own(code, path, seed)


class Own:
    """A person's file: a fresh module for every seat of every repeat, with `SEED` set before its first line."""

    def __init__(self, code: types.CodeType, path: Path, seed: str) -> None:
        module = types.ModuleType(path.stem)
        module.__dict__.update(__file__=str(path), SEED=seed)
        try:
            exec(code, module.__dict__)  # noqa: S102 - the person's own file, named on their command line
        except Exception as error:
            raise BadInput(f"{path} ended with {type(error).__name__}: {error}") from error
        self.path = path
        self._ask, self._tell = (self._function(module, name) for name in ("ask", "tell"))

    def _function(self, module: types.ModuleType, name: str) -> Callable[[Any], Any]:
        found = getattr(module, name, None)
        if not callable(found):
            needed = "ask(history) -> {knob: value} or None" if name == "ask" else "tell(result)"
            raise BadInput(f"{self.path} has no function {name}; a brain needs {needed}")
        return found  # type: ignore[no-any-return]

    def ask(self, history: History) -> Changes | None:
        changes = self._ask(history)
        if not changes:
            return None
        known = {knob.name: knob for knob in history.knobs}
        wrong = changes.keys() - known.keys() if isinstance(changes, Mapping) else {str(changes)[:40]}
        if wrong:
            raise BadInput(
                f"{self.path}: ask answered {', '.join(sorted(map(repr, wrong)))}; knobs: {', '.join(known)}"
            )
        return {name: _allowed(known[name], value, self.path) for name, value in changes.items()}

    def tell(self, result: Result) -> None:
        self._tell(result)


def _allowed(knob: Knob, value: Any, path: Path) -> Value:
    if knob.choices:
        if value in knob.choices:
            return value  # type: ignore[no-any-return]
    elif isinstance(value, int | float) and math.isfinite(value) and (knob.low or 0.0) <= value <= (knob.high or 0.0):
        return value
    raise BadInput(f"{path}: ask answered {knob.name} = {value!r:.40}; use {knobs_.allowed(knob)}")
