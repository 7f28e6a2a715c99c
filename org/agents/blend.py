"""Several knobs turned in one experiment: what the whole record says of each knob and each two, and settings drawn where it
promises most.

    every measured change -> one model (a curve a knob, a product for each two) -> a blend: draw one as it may be, take its best

A run that turns ten knobs says something of all ten: beside one change an experiment this tells small effects apart with
a tenth of the runs. What a blend is worth the gate measures as of any other change. Pure; knows no files and no clock.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING, Any

from org.agents import arrays, curves
from org.agents import knobs as knobs_
from org.agents.heads import Heads
from org.agents.knobs import Value
from org.records import Knob, Metric

if TYPE_CHECKING:
    from org.agents.search import Trial

AMPLITUDE = 1.2  # sizes of effect expected of a knob; one that showed more is given more
PRODUCT = 2.0  # sizes of effect expected of two knobs a whole span away together; one that showed more is given more
SURE = 1.0  # standard errors by which a setting must promise, to be part of the best known blend
SHOWN = 1.0  # standard errors by which a setting that is held must gain, not to go back in the next blend
BEST_SHARE = 0.7  # of the blends: the best known one, when nobody has tried it; else a draw
ALIKE = 0.5  # share of settings by which two blends are one: while one is under way the other is a draw
ROUNDS = 4  # in which one knob after the other is turned to its best beside the others
ENOUGH = 6  # measured changes before the first blend
FINEST = 1000.0  # parts of a size of effect: no error is believed to be smaller, or matrices lose their last digits
CRASH = 10.0  # sizes of effect that a crash counts as a loss of, so that its settings are drawn less

Blend = dict[str, Value]


def propose(
    knobs: Sequence[Knob],
    current: Mapping[str, Value | None],
    trials: Sequence[Trial],
    *,
    metric: Metric,
    seed: int,
    size: float,
    barred: Collection[tuple[str, Any]] = (),
) -> tuple[Blend, float] | None:
    """({knob: value}, predicted candidate - baseline) against where the knobs stand, nothing anybody tried from there; None
    while too little is known. Turns only knobs of which a run with another value has ended with a number."""
    if len(knobs) < 2 or len(ended(trials)) < ENOUGH:
        return None
    told = told_of(knobs, trials, metric.sign, size)
    stands = Stands(told, knobs, current, {(name.lower(), _text(value)) for name, value in barred})
    stream = random.Random(seed)
    is_draw = stream.random() >= BEST_SHARE
    model = Model(told, stream.getrandbits(32))

    def filed(back: Blend, gains: Blend) -> tuple[Blend, float] | None:
        found = back | gains
        if not gains or len(found) < 2 or _is_tried(found, trials):
            return None
        return found, metric.sign * float(stands.row(found) @ model.middle)

    known = {} if is_draw else stands.best(model.middle)
    back, sure = model.shown(stands, known)
    best = None if is_draw else filed(back, sure)
    if best and _is_under_way(best[0], trials):
        best = None
    return best or filed(back, stands.best(model.drawn))


def ended(trials: Sequence[Trial]) -> list[Trial]:
    """The changes whose verdicts a blend rests on."""
    return [trial for trial in trials if trial.outcome not in (None, "lost") and trial.changes and not trial.is_stack]


def follows(knobs: Sequence[Knob], trials: Sequence[Trial]) -> bool:
    """Whether enough is filed for a blend of these knobs, when all of it has ended."""
    filed = (trial for trial in trials if trial.outcome != "lost" and trial.changes and not trial.is_stack)
    return len(knobs) > 1 and len(list(itertools.islice(filed, ENOUGH))) == ENOUGH


class Told:
    """What measured changes tell of all curves and products, added up: `precise` (m, m) and `summed` (m,), to be grown by
    what ends next."""

    def __init__(
        self, space: curves.Space, sign: int, size: float, trials: Sequence[Trial], before: Told | None = None
    ) -> None:
        """before: of fewer trials, which are not added up again."""
        np = self.np = arrays.numpy()
        self.of = self.space, _, self.size = space, sign, size
        done = ended(trials)
        self.trials = {id(trial): trial for trial in done}
        self.heads = Heads(trials)
        self.origins = {n: space.along(n, self.heads.first[n]) for n in space.ordered if n in self.heads.first}
        if before is not None and not self._follows(before):
            before = None
        self.known: set[str] = set(before.known) if before else set()  # knobs that ended with a number at another value
        fresh = [trial for trial in done if not (before and id(trial) in before.trials)]
        rows, effects = [], []
        self.counted: list[int] = list(before.counted) if before else []  # whose row each of `rows` is, by id
        for trial in fresh:
            if trial.effect is not None:
                self.known.update(name for name, _, _ in trial.changes)
            effect, se = _measured(trial, sign, size)
            beside = self.away(self.heads.beside(trial.baseline))
            row = self.row(trial.changes, beside) if effect is not None else None
            if effect is not None and row is not None:
                rows.append(row / se)
                effects.append(effect / se)
                self.counted.append(id(trial))
        table = np.array(rows).reshape(-1, space.m)  # (trials, m): where to less where from, in standard errors
        self.precise, self.summed = table.T @ table, table.T @ np.array(effects)
        self.rows: Any = np.vstack([before.rows, table]) if before else table
        if before:
            self.precise, self.summed = self.precise + before.precise, self.summed + before.summed

    def _follows(self, before: Told) -> bool:
        """Whether what was added up before is a part of this: the same trials, and where they were measured the same knobs."""
        return (
            before.trials.keys() <= self.trials.keys()
            and before.origins.items() <= self.origins.items()
            and all(self.heads.beside(name) == stood for name, stood in before.heads.moved.items())
        )

    def from_first(self, name: str, value: Any) -> float:
        """How far a value is from where the knob stood first, in shares of its span; 0 where nothing is known of it."""
        return self.space.along(name, value) - self.origins[name] if name in self.origins else 0.0

    def away(self, held: Mapping[str, Any]) -> Any:
        """(r,) the same for each knob that has an order; those not in `held` stand where they stood first."""
        found = self.np.zeros(len(self.space.ordered))
        for name, value in held.items():
            if name in self.origins:
                found[self.space.ordered[name]] = self.from_first(name, value)
        return found

    def row(self, changes: Sequence[curves.Change], away: Any) -> Any:
        """(m,) of where these changes lead to, less where they start; None when one is of no knob. away: the knobs beside them."""
        space = self.space
        points = space.row(tuple(changes))
        if points is None:
            return None
        old, new = away.copy(), away.copy()
        for name, start, value in changes:
            if (at := space.ordered.get(name)) is not None:
                old[at], new[at] = self.from_first(name, start), self.from_first(name, value)
        return self.np.concatenate([points, new[space.one] * new[space.other] - old[space.one] * old[space.other]])

    def luck(self, seed: int, amplitudes: Any, products: Any) -> Any:
        """(m,) one draw of what `summed` may be off by. The order in which trials ended does not matter."""
        stream, space = self.np.random.default_rng(seed), self.space
        prior = stream.standard_normal(space.m)
        place = {trial: at for at, trial in enumerate(self.trials)}
        noise = stream.standard_normal(len(place))[[place[trial] for trial in self.counted]]
        points = (space.factor @ prior[: space.n]) / amplitudes[space.owners]
        return self.np.concatenate([points, prior[space.n :] / products]) + noise @ self.rows


class Model:
    """Curves of all knobs and products of two, as normal values: what is expected of them, `middle` (m,), and one draw of
    what they may be, `drawn` (m,). Lower is better."""

    def __init__(self, told: Told, seed: int = 0) -> None:
        """A knob or a product that showed more than is expected of one is given an amplitude to match: most do little, a few
        do much."""
        np = self.np = arrays.numpy()
        self.told, space, size = told, told.space, told.size
        amplitudes, products = np.full(len(space.firsts), AMPLITUDE * size), np.full(space.m - space.n, PRODUCT * size)
        middle = np.linalg.solve(self._precision(amplitudes, products), told.summed)
        points = middle[: space.n]
        high, low = np.maximum.reduceat(points, space.firsts), np.minimum.reduceat(points, space.firsts)
        reach = np.where(space.is_choice, np.maximum(high, 0.0), high) - np.where(
            space.is_choice, np.minimum(low, 0.0), low
        )
        amplitudes = np.maximum(amplitudes, 0.7 * reach)
        products = np.maximum(products, 1.5 * np.abs(middle[space.n :]))
        self.precision = self._precision(amplitudes, products)  # (m, m) the inverse of their covariance
        sums = np.column_stack([told.summed, told.summed + told.luck(seed, amplitudes, products)])
        self.middle, self.drawn = np.linalg.solve(self.precision, sums).T

    def _precision(self, amplitudes: Any, products: Any) -> Any:
        space = self.told.space
        found = self.told.precise.copy()
        found[: space.n, : space.n] += space.inverse / (amplitudes[space.owners] ** 2)[:, None]
        at = self.np.arange(space.n, space.m)
        found[at, at] += 1.0 / products**2
        return found

    def errors(self, table: Any) -> Any:
        """(k,) standard errors of differences (k, m)."""
        return self.np.sqrt((table * self.np.linalg.solve(self.precision, table.T).T).sum(axis=1))

    def shown(self, stands: Stands, found: Blend) -> tuple[Blend, Blend]:
        """What of the current settings came along with others and was never shown to gain, back to the value that it had
        first; and what of `found` is sure to gain beside the rest of it."""
        back = stands.turned()
        rows = stands.alone([(name, old, stands.held[name.lower()]) for name, old in back.items()], {})
        more = stands.alone([(name, stands.held[name.lower()], new) for name, new in found.items()], found)
        np = self.np
        table = np.vstack([rows, more])
        if not len(table):
            return {}, {}
        gains = (-(table @ self.middle) / np.maximum(self.errors(table), 1e-300)).tolist()
        return (
            {name: old for (name, old), gain in zip(back.items(), gains, strict=False) if gain < SHOWN},
            {name: new for (name, new), gain in zip(found.items(), gains[len(back) :], strict=True) if gain >= SURE},
        )


class Stands:
    """Where a seat's knobs stand, and where each may go."""

    def __init__(
        self,
        told: Told,
        knobs: Sequence[Knob],
        current: Mapping[str, Value | None],
        closed: Collection[tuple[str, str]] = (),
    ) -> None:
        """closed: (name in small letters, value as text) that no blend turns to."""
        self.told, self.closed = told, closed
        self.held = {name.lower(): value for name, value in current.items() if value is not None}
        self.knobs = [k for k in knobs if k.name.lower() in told.known and k.name.lower() in self.held]
        self.ways = [self._way(knob) for knob in self.knobs]

    def _way(self, knob: Knob) -> Way:
        name, space = knob.name.lower(), self.told.space
        here = self.held[name]
        there = space.elsewhere(knob, here)
        if self.closed:
            there = [value for value in there if (name, _text(value)) not in self.closed]
        values = [here, *there]
        at = space.ordered.get(name)
        aways = [] if at is None else [self.told.from_first(name, value) for value in values]
        return Way(values, [space.hat(knob, value) for value in values], at, aways)

    def best(self, drawn: Any) -> Blend:
        """The values that are best together on these curves and products (m,), where they are others than the current ones:
        as far as turning one knob after the other finds them."""
        points, products = drawn.tolist(), self.told.space.square(drawn)
        away = self.told.away(self.held).tolist()
        alone = [[sum([points[at] * share for at, share in hat]) for hat in way.hats] for way in self.ways]
        chosen = [0] * len(self.ways)
        for _ in range(ROUNDS):
            before = list(chosen)
            for n, way in enumerate(self.ways):
                scores = alone[n]
                if way.at is not None:
                    pull = sum(map(mul, products[way.at], away))
                    scores = [score + pull * far for score, far in zip(scores, way.aways, strict=True)]
                chosen[n] = scores.index(min(scores))
                if way.at is not None:
                    away[way.at] = way.aways[chosen[n]]
            if chosen == before:
                break
        turned = zip(self.knobs, self.ways, chosen, strict=True)
        return {knob.name: way.values[place] for knob, way, place in turned if place}

    def turned(self) -> Blend:
        """Knobs that stand elsewhere than at first, and where that was."""
        found: Blend = {}
        for knob in self.knobs:
            old = self.told.heads.first.get(knob.name.lower())
            if old is None or knobs_.same(old, self.held[knob.name.lower()]) or not knobs_.is_inside(knob, old):
                continue
            if (knob.name.lower(), _text(old)) not in self.closed:
                found[knob.name] = old
        return found

    def row(self, blend: Blend) -> Any:
        """(m,) of where a blend leads to, less where the knobs stand."""
        changes = tuple((name.lower(), self.held[name.lower()], value) for name, value in blend.items())
        return self.told.row(changes, self.told.away(self.held))

    def alone(self, turns: Sequence[tuple[str, Any, Any]], beside: Blend) -> Any:
        """(turns, m) of where each turn (knob, from, to) leads to by itself, less where it starts; the other knobs stand where
        they do, or as `beside` has them."""
        told, space = self.told, self.told.space
        away = told.away(self.held | {name.lower(): value for name, value in beside.items()})
        table = told.np.zeros((len(turns), space.m + 1))
        for row, (name, old, new) in zip(table, turns, strict=True):
            knob = space.knobs[name.lower()]
            for value, sign in ((new, 1.0), (old, -1.0)):
                for place, share in space.hat(knob, value):
                    row[place] += sign * share
            if (at := space.ordered.get(name.lower())) is not None:
                row[space.products[at]] = away * (
                    told.from_first(name.lower(), new) - told.from_first(name.lower(), old)
                )
        return table[:, :-1]


@dataclass(frozen=True)
class Way:
    """Where one knob may go: `values`, the current one first, and the points of its curve that each is read off (point, share)."""

    values: list[Value]
    hats: list[list[tuple[int, float]]]
    at: int | None  # its place among those that have an order
    aways: list[float]  # of those, how far each value is from where the knob stood first


_last: Told | None = None  # several seats ask of one record, which grows


def told_of(knobs: Sequence[Knob], trials: Sequence[Trial], sign: int, size: float) -> Told:
    """What these trials tell; sign: -1 where a higher metric is better. The same, but for rounding, whatever was asked before."""
    global _last
    of = (curves.of(tuple(knobs)), sign, size)
    _last = Told(*of, trials, _last if _last and _last.of == of else None)
    return _last


def _measured(trial: Trial, sign: int, size: float) -> tuple[float | None, float]:
    if trial.outcome == "crash":
        return CRASH * size, CRASH * size / 2
    if trial.effect is None or not trial.se or not math.isfinite(trial.effect):
        return None, 1.0
    return sign * trial.effect, max(trial.se, size / FINEST)


def _is_under_way(found: Blend, trials: Sequence[Trial]) -> bool:
    """Whether somebody tries much the same at this moment: eight seats that ask of one record know one best blend."""
    wanted = {(name.lower(), _text(value)) for name, value in found.items()}
    blends = ({(n, _text(new)) for n, _, new in t.changes} for t in trials if t.is_open and len(t.changes) > 1)
    return any(len(wanted & blend) >= ALIKE * max(len(wanted), len(blend)) for blend in blends)


def _is_tried(found: Blend, trials: Sequence[Trial]) -> bool:
    """Whether the same settings were filed together before, or are under way."""
    wanted = {name.lower(): _text(value) for name, value in found.items()}
    as_long = [t.changes for t in trials if len(t.changes) == len(wanted) and t.outcome != "lost"]
    return any(all(wanted.get(n) == _text(new) for n, _, new in changes) for changes in as_long)


def _text(value: Any) -> str:
    """A setting as a word: 15 and 15.0 are one, since the code may spell a number either way."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(float(value)) if is_number else str(value)
