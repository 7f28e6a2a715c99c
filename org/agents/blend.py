"""Several knobs turned in one experiment: what the whole record says of each knob, and settings drawn where it promises most.

    every measured change -> one additive model (a curve a knob, with its uncertainty) -> a blend: draw curves, take their best

A run that turns ten knobs says something of all ten: beside one change an experiment this tells small effects apart with
a tenth of the runs. What a blend is worth the gate measures as of any other change. Pure; knows no files and no clock.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from org.agents import arrays
from org.agents import knobs as knobs_
from org.agents.knobs import Value
from org.records import Knob, Metric

if TYPE_CHECKING:
    from org.agents.search import Trial

LEVELS = 5  # points of a ranged knob's curve; straight lines between them
REACH = 0.35  # of a span: how far what is measured at one point says something of another
AMPLITUDE = 1.2  # sizes of effect expected of a knob; one that showed more is given more
SURE = 1.0  # standard errors by which a setting must promise, to be part of the best known blend
SHOWN = 1.0  # standard errors by which a setting that is held must gain, not to go back in the next blend
BEST_SHARE = 0.7  # of the blends: the best known one, when nobody has tried it; else a draw
ALIKE = 0.5  # share of settings by which two blends are one: while one is under way the other is a draw
ENOUGH = 6  # measured changes before the first blend
FINEST = 1000.0  # parts of a size of effect: no error is believed to be smaller, or matrices lose their last digits
CRASH = 10.0  # sizes of effect that a crash counts as a loss of, so that its settings are drawn less

Blend = dict[str, Value]
Change = tuple[str, Any, Any]


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
    seen = ended(knobs, trials)
    if not seen:
        return None
    model = model_of(knobs, seen, metric.sign, size)
    turnable = [k for k in knobs if k.name.lower() in model.told.known and current.get(k.name) is not None]
    stream = random.Random(seed)
    closed = {(name.lower(), str(value)) for name, value in barred}
    back = model.unproven(turnable, current, closed)

    def filed(gains: Blend) -> tuple[Blend, float] | None:
        found = back | gains
        if not gains or len(found) < 2 or _is_tried(found, trials):
            return None
        return found, metric.sign * model.expected(found, current)

    best = filed(model.best(model.middle, turnable, current, closed, SURE)) if stream.random() < BEST_SHARE else None
    if best and _is_under_way(best[0], trials):
        best = None
    return best or filed(model.best(model.drawn(stream.getrandbits(32)), turnable, current, closed))


def ended(knobs: Sequence[Knob], trials: Sequence[Trial]) -> list[Trial]:
    """The changes whose verdicts a blend of these knobs rests on; none while there are too few for one."""
    found = [t for t in trials if t.outcome is not None and t.changes and not t.is_stack]
    return found if len(knobs) > 1 and len(found) >= ENOUGH else []


class Told:
    """What measured changes tell of all curves, added up: `precise` (n, n) and `summed` (n,), to be grown by what ends next."""

    def __init__(
        self, space: Space, sign: int, size: float, trials: Sequence[Trial], before: Told | None = None
    ) -> None:
        """before: of fewer trials, which are not added up again."""
        np = arrays.numpy()
        self.of = space, sign, size
        self.trials = {id(trial): trial for trial in trials}
        self.known: set[str] = set(before.known) if before else set()  # knobs that ended with a number at another value
        # where each knob stood before anybody turned it: a head moves only what some trial turned
        self.first: dict[str, Any] = dict(before.first) if before else {}
        rows, effects, weights = [], [], []
        for trial in trials:
            if before and id(trial) in before.trials:
                continue
            for name, old, _ in trial.changes:
                self.first.setdefault(name, old)
            effect, se = _measured(trial, sign, size)
            row = space.row(trial.changes) if effect is not None else None
            if trial.effect is not None:
                self.known.update(name for name, _, _ in trial.changes)
            if row is not None:
                rows.append(row)
                effects.append(effect)
                weights.append(1.0 / (se * se))
        table = np.array(rows).reshape(-1, space.n)  # (trials, points): where to less where from
        weighted = table.T * np.array(weights)
        self.precise, self.summed = weighted @ table, weighted @ np.array(effects)
        if before:
            self.precise, self.summed = self.precise + before.precise, self.summed + before.summed


class Model:
    """Curves of all knobs, as normal values: `middle` (n,) and `spread` (n, n), their covariance. Lower is better."""

    def __init__(self, told: Told) -> None:
        """A knob that showed more than is expected of one is given an amplitude to match: most do little, a few do much."""
        np = self.np = arrays.numpy()
        self.told, (space, _, size) = told, told.of
        self.space, least = space, AMPLITUDE * size
        middle = np.linalg.solve(space.inverse / (least * least) + told.precise, told.summed)
        reach = np.maximum.reduceat(middle, space.firsts) - np.minimum.reduceat(middle, space.firsts)
        amplitudes = np.maximum(least, 0.7 * reach)
        self.spread = np.linalg.inv(space.inverse / (amplitudes[space.owners] ** 2)[:, None] + told.precise)
        self.middle = self.spread @ told.summed

    def drawn(self, seed: int) -> Any:
        """Curves as they may be: one draw."""
        luck = self.np.random.default_rng(seed).standard_normal(self.space.n)
        return self.middle + self.np.linalg.cholesky(self.spread) @ luck

    def best(
        self,
        curves: Any,
        knobs: Sequence[Knob],
        current: Mapping[str, Value | None],
        closed: Collection[tuple[str, str]],
        sure: float = 0.0,
    ) -> Blend:
        """The best value of every knob on these curves where that is another than the current one. sure: by how many
        standard errors at least."""
        found: Blend = {}
        ways = []
        for knob in knobs:
            start, levels = self.space.starts[knob.name.lower()], self.space.levels[knob.name.lower()]
            here = self.space.hat(knob, current[knob.name])
            stands = sum(float(curves[at]) * share for at, share in here)
            scores = curves[start : start + len(levels)]
            at = int(scores.argmin())
            gain = stands - float(scores[at])
            if (
                gain <= 0
                or knobs_.same(levels[at], current[knob.name])
                or (knob.name.lower(), str(levels[at])) in closed
            ):
                continue
            found[knob.name] = levels[at]
            ways.append([(start + at, 1.0), *((place, -share) for place, share in here)])
        table = self._table(ways)
        if not sure or not found:
            return found
        least = sure * self._errors(table)
        is_in = (-(table @ self.middle) >= least).tolist()
        return {name: value for (name, value), is_gain in zip(found.items(), is_in, strict=True) if is_gain}

    def unproven(
        self,
        knobs: Sequence[Knob],
        current: Mapping[str, Value | None],
        closed: Collection[tuple[str, str]],
    ) -> Blend:
        """What of the current settings came along with others and was never shown to gain: back to the value that it had first."""
        found: Blend = {}
        ways = []
        for knob in knobs:
            old, now = self.told.first.get(knob.name.lower()), current[knob.name]
            if old is None or knobs_.same(old, now) or (knob.name.lower(), str(old)) in closed:
                continue
            if not knobs_.is_outside(knob, old):
                found[knob.name] = old
                here, there = self.space.hat(knob, now), self.space.hat(knob, old)
                ways.append([*here, *((place, -share) for place, share in there)])
        if not found:
            return found
        table = self._table(ways)
        is_shown = (-(table @ self.middle) >= SHOWN * self._errors(table)).tolist()
        return {name: value for (name, value), stays in zip(found.items(), is_shown, strict=True) if not stays}

    def _table(self, ways: Sequence[Sequence[tuple[int, float]]]) -> Any:
        """(ways, n): differences of points, each given as shares of them."""
        table = self.np.zeros((len(ways), self.space.n))
        for row, way in zip(table, ways, strict=True):
            for place, share in way:
                row[place] += share
        return table

    def _errors(self, table: Any) -> Any:
        """(ways,) standard errors."""
        return self.np.sqrt(self.np.maximum(0.0, ((table @ self.spread) * table).sum(axis=1)))

    def expected(self, blend: Blend, current: Mapping[str, Value | None]) -> float:
        row = self.space.row(tuple((name.lower(), current[name], value) for name, value in blend.items()))
        return 0.0 if row is None else float(row @ self.middle)


class Space:
    """Where the points of every knob's curve lie in one vector: its levels, and last, of a range, where it stands outside."""

    def __init__(self, knobs: Sequence[Knob]) -> None:
        numpy = arrays.numpy()

        self.np: Any = numpy
        self.knobs = {knob.name.lower(): knob for knob in knobs}
        self.levels: dict[str, list[Value]] = {}
        self.starts: dict[str, int] = {}
        self._rows: dict[int, tuple[tuple[Change, ...], Any]] = {}
        self._hats: dict[tuple[str, Any], list[tuple[int, float]]] = {}
        n, inverses = 0, []
        for name, knob in self.knobs.items():
            steps = [knobs_.at(knob, step / (LEVELS - 1)) for step in range(LEVELS)] if not knob.choices else []
            self.levels[name], self.starts[name] = list(knob.choices) or list(steps), n
            count = len(self.levels[name])
            points = count if knob.choices else count + 1
            prior = numpy.eye(points)
            if not knob.choices:
                at = numpy.arange(count) / (count - 1)
                prior[:count, :count] = numpy.exp(-((at[:, None] - at[None]) ** 2) / (2 * REACH**2))
            inverses.append(numpy.linalg.inv(prior + 1e-4 * numpy.eye(points)))
            n += points
        self.n = n
        self.firsts = numpy.array(list(self.starts.values()), dtype=int)
        self.owners = numpy.repeat(numpy.arange(len(inverses)), [len(block) for block in inverses])  # (n,) whose point
        self.inverse = numpy.zeros((n, n))  # of the prior covariance at amplitude 1: a block a knob
        for first, block in zip(self.firsts, inverses, strict=True):
            self.inverse[first : first + len(block), first : first + len(block)] = block

    def hat(self, knob: Knob, value: Any) -> list[tuple[int, float]]:
        """(point, share) of a value: between two levels it is read off the line."""
        if (key := (knob.name, value)) not in self._hats:
            self._hats[key] = self._hat(knob, value)
        return self._hats[key]

    def _hat(self, knob: Knob, value: Any) -> list[tuple[int, float]]:
        start, levels = self.starts[knob.name.lower()], self.levels[knob.name.lower()]
        if knob.choices:
            return [(start + n, 1.0) for n, level in enumerate(levels) if knobs_.same(level, value)]
        if knobs_.is_outside(knob, value):
            return [(start + len(levels), 1.0)]
        where = knobs_.position(knob, value) * (len(levels) - 1)
        left = min(int(where), len(levels) - 2)
        return [(start + left, 1.0 - (where - left)), (start + left + 1, where - left)]

    def row(self, changes: tuple[Change, ...]) -> Any:
        """(n,) of the points these changes go to, less those they leave; None when one is of no knob."""
        known = self._rows.get(id(changes))
        if known is None or known[0] is not changes:  # found by the tuple itself: to hash what is in it takes longer
            row = self.np.zeros(self.n)
            for name, old, new in changes:
                knob = self.knobs.get(name)
                if knob is None:
                    row = None
                    break
                for value, sign in ((new, 1.0), (old, -1.0)):
                    for at, share in self.hat(knob, value):
                        row[at] += sign * share
            self._rows[id(changes)] = known = changes, row
        return known[1]


@functools.lru_cache(maxsize=16)
def _space(knobs: tuple[Knob, ...]) -> Space:
    return Space(knobs)


_last: Model | None = None  # several seats ask of one record, which grows


def model_of(knobs: Sequence[Knob], trials: Sequence[Trial], sign: int, size: float) -> Model:
    """The model of these trials, all of which have ended; sign: -1 where a higher metric is better. The same, but for rounding,
    whatever was asked before."""
    global _last
    of = (_space(tuple(knobs)), sign, size)
    before = _last.told if _last and _last.told.of == of else None
    if before and not before.trials.keys() <= {id(trial) for trial in trials}:
        before = None
    if _last is None or before is None or len(before.trials) < len(trials):
        _last = Model(Told(*of, trials, before))
    return _last


def _measured(trial: Trial, sign: int, size: float) -> tuple[float | None, float]:
    if trial.outcome == "crash":
        return CRASH * size, CRASH * size / 2
    if trial.effect is None or not trial.se:
        return None, 1.0
    return sign * trial.effect, max(trial.se, size / FINEST)


def _is_under_way(found: Blend, trials: Sequence[Trial]) -> bool:
    """Whether somebody tries much the same at this moment: eight seats that ask of one record know one best blend."""
    wanted = {(name.lower(), str(value)) for name, value in found.items()}
    blends = ({(n, str(new)) for n, _, new in t.changes} for t in trials if t.is_open and len(t.changes) > 1)
    return any(len(wanted & blend) >= ALIKE * max(len(wanted), len(blend)) for blend in blends)


def _is_tried(found: Blend, trials: Sequence[Trial]) -> bool:
    """Whether the same settings were filed together before, or are under way."""
    wanted = {name.lower(): str(value) for name, value in found.items()}
    as_long = [t.changes for t in trials if len(t.changes) == len(wanted) and t.outcome != "lost"]
    return any(all(wanted.get(n) == str(new) for n, _, new in changes) for changes in as_long)
