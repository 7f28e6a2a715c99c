"""Which experiment next: a pure choice from the history of an organisation, by bold first steps and then Optuna's ask/tell.

Knows no files, no clock and no terminal. The same history and the same seed choose the same experiment, so a researcher
that was killed goes on where it was.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from org.agents import knobs as knobs_
from org.agents import reasons
from org.agents.knobs import Value
from org.agents.reasons import show
from org.records import Knob, Metric

PRIOR = 0.005  # the size of effect expected of a knob nobody has turned yet
POOL = 12  # new values that the sampler names before one is taken
CURIOSITY = 4.0  # sizes of effect hoped for at a value a whole span away from anything measured
APART = 0.05  # of a knob's span: closer than this, two values differ by less than the noise


@dataclass(frozen=True)
class Trial:
    """One row of `org results --json`, as far as a choice needs it. `outcome` is None while it runs."""

    experiment: str
    program: str
    seat: str
    changes: tuple[tuple[str, Any, Any], ...]  # (knob, old, new)
    expect: float | None = None
    outcome: str | None = None
    tier: str | None = None
    effect: float | None = None
    se: float | None = None
    members: tuple[str, ...] = ()
    description: str = ""
    stage: str = "search"
    is_out: bool = False  # retracted, or to be shown at another scale first: no stack takes it

    @property
    def is_open(self) -> bool:
        return self.outcome is None

    @property
    def is_stack(self) -> bool:
        """Whether it measures again what the search found."""
        return bool(self.members) or self.stage == "verify"

    @property
    def is_keep(self) -> bool:
        """Good enough to search on, and waiting to be verified."""
        return self.outcome in ("win", "holds") and self.tier == "tentative" and not self.is_out


@dataclass(frozen=True)
class Point:
    """One measured value of a knob. `score` is against where the knob stands now; negative is better, whatever the metric."""

    value: Any
    score: float
    experiment: str  # "" for a value that was only compared with


@dataclass(frozen=True)
class Proposal:
    """One knob, one new value, why, and what it should do."""

    knob: Knob
    old: Value
    new: Value
    why: str
    expect: float

    @property
    def text(self) -> str:
        return f"{self.knob.name} {show(self.old)}→{show(self.new)}"


def history(rows: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """Trials from the rows of `org results --json`; rows that are no experiment of anyone, and re-tests at another scale,
    are left out."""
    trials = []
    for row in rows:
        verdict = row.get("verdict") or {}
        name = str(row.get("experiment") or "")
        # at another budget or scale its effect is another knob's
        if not name or name == "E0000" or row.get("control") or row.get("promotes"):
            continue
        changes = tuple((str(k.get("name", "")).lower(), k.get("old"), k.get("new")) for k in row.get("knobs") or ())
        trials.append(
            Trial(
                name,
                str(row.get("program") or ""),
                str(row.get("seat") or ""),
                changes,
                row.get("expect"),
                verdict.get("outcome"),
                verdict.get("tier"),
                verdict.get("effect"),
                verdict.get("se"),
                tuple(row.get("members") or ()),
                str(row.get("description") or ""),
                str(row.get("stage") or "search"),
                bool(row.get("retracted") or row.get("owes")),
            )
        )
    return trials


def seed_of(seat: str, count: int = 0) -> int:
    """A seed of a seat's own that moves with `count`; the same in every process, unlike hash()."""
    return (zlib.crc32(seat.encode()) + count) & 0x7FFFFFFF


def landscape(knob: Knob, current: Value | None, trials: Sequence[Trial], metric: Metric) -> list[Point]:
    """What is known of one knob: each value measured by anyone, scored against where it stands now. Heads move, so effects
    are chained: a value's score is the score of the value it was compared with plus the effect."""
    points: list[Point] = []
    for trial in trials:
        if (
            trial.effect is None
            or len(trial.changes) != 1
            or trial.is_stack
            or trial.changes[0][0] != knob.name.lower()
        ):
            continue
        _, old, new = trial.changes[0]
        base = _at(points, old)
        if base is None:
            base = Point(old, 0.0, "")
            points.append(base)
        score = base.score + metric.sign * trial.effect
        known = _at(points, new)
        if known is not None:
            points.remove(known)
            score = (score + known.score) / 2
        points.append(Point(new, score, trial.experiment))
    here = _at(points, current)
    return [Point(p.value, p.score - (here.score if here else 0.0), p.experiment) for p in points]


def closed(knob: Knob, current: Value | None, trials: Sequence[Trial], metric: Metric) -> list[Any]:
    """Values of one knob that need no run: where it stands, what anyone tried from there or is trying now, and what is
    known to be no better, a former head among them."""
    seen: list[Any] = [current]
    for trial in trials:
        if trial.outcome == "lost" or trial.is_stack or len(trial.changes) != 1:
            continue  # the org's own loss says nothing about the value
        name, old, new = trial.changes[0]
        if name == knob.name.lower() and (trial.is_open or knobs_.same(old, current)):
            seen.append(new)
    return seen + [point.value for point in landscape(knob, current, trials, metric) if point.score >= 0]


def untouched(
    mine: Sequence[Knob], current: Mapping[str, Value | None], trials: Sequence[Trial], first: Collection[str] = ()
) -> list[Knob]:
    """Knobs nobody has moved yet, the most promising first: those named in `first` (people's ideas), then those outside
    their own range, then those at its edge."""
    moved = {t.changes[0][0] for t in trials if len(t.changes) == 1 and t.outcome != "lost"}

    def promise(knob: Knob) -> tuple[bool, bool, float]:
        value = current.get(knob.name)
        return knob.name not in first, not knobs_.is_outside(knob, value), -abs(knobs_.position(knob, value) - 0.5)

    return sorted((k for k in mine if k.name.lower() not in moved), key=promise)


def propose(
    mine: Sequence[Knob],
    current: Mapping[str, Value | None],
    trials: Sequence[Trial],
    *,
    metric: Metric,
    seed: int,
    offset: int = 0,
    first: Collection[str] = (),
    barred: Sequence[tuple[str, Any]] = (),
    size: float = PRIOR,
) -> Proposal | None:
    """The next experiment for a seat that may turn `mine`, or None when everything sensible was tried.

    One knob to one value that differs from the current one and from everything tried by anyone from there. `offset` makes
    seats that share knobs begin at different ones; `barred` are (knob, value) pairs that the gate refused.
    """
    movable = [k for k in mine if current.get(k.name) is not None]
    fresh = untouched(movable, current, trials, first)
    turn = offset % len(fresh) if fresh else 0
    seen = {k.name: closed(k, current[k.name], trials, metric) for k in movable}
    for name, value in barred:
        seen.get(name, []).append(value)
    for knob in fresh[turn:] + fresh[:turn]:
        for value in knobs_.steps(knob, current[knob.name]):
            if _is_new(knob, value, seen[knob.name]):
                return _proposal(knob, value, current, trials, metric, size)
    asked = _ask(movable, current, trials, metric, seed, seen, size)
    return _proposal(*asked, current, trials, metric, size) if asked else None


def proposal(
    knob: Knob,
    value: Value,
    current: Mapping[str, Value | None],
    trials: Sequence[Trial],
    *,
    metric: Metric,
    why: str = "",
    size: float = PRIOR,
) -> Proposal:
    """What somebody else chose (`try NAME=VALUE`), with the same prediction this researcher would give it."""
    made = _proposal(knob, value, current, trials, metric, size)
    return Proposal(knob, made.old, value, f"{why} {made.why}".strip(), made.expect)


def expectation(
    knob: Knob, old: Value | None, new: Value, points: Sequence[Point], metric: Metric, size: float
) -> float:
    """Predicted candidate - baseline: what the measured values around say, drawn halfway to a small gain; the value's own
    measurement where there is one; the small gain alone where nothing was measured."""
    known = _at(points, new)
    guess = _guess(knob, old, new, points)
    score = known.score if known else -size if guess is None else (guess - size) / 2
    return round(metric.sign * score, 4)


# --- the parts ---------------------------------------------------------------------------------------------------


def _at(points: Sequence[Point], value: Any) -> Point | None:
    return next((p for p in points if knobs_.same(p.value, value)), None)


def _is_new(knob: Knob, value: Value, seen: Sequence[Any]) -> bool:
    """Whether a run at `value` could tell something that `seen` does not: on a range it keeps a distance."""
    if knob.choices:
        return not any(knobs_.same(value, old) for old in seen)
    inside = [old for old in seen if not knobs_.is_outside(knob, old)]
    where = knobs_.position(knob, value)
    return not any(knobs_.same(value, old) or abs(knobs_.position(knob, old) - where) < APART for old in inside)


def _ask(
    mine: Sequence[Knob],
    current: Mapping[str, Value | None],
    trials: Sequence[Trial],
    metric: Metric,
    seed: int,
    seen: Mapping[str, Sequence[Any]],
    size: float,
    attempts: int = 40,
) -> tuple[Knob, Value] | None:
    """Tell a fresh TPE study what is known of these knobs, scored against the head; of the new values it names
    take the one this researcher expects most of."""
    left = [k for k in mine if not k.choices or any(_is_new(k, c, seen[k.name]) for c in k.choices)]
    if not left:
        return None
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=5))
    by_name = {k.name: k for k in left}
    space: dict[str, Any] = {"knob": optuna.distributions.CategoricalDistribution(list(by_name))}
    for k in left:
        if k.choices:
            space[k.name] = optuna.distributions.CategoricalDistribution([str(c) for c in k.choices])
        else:
            space[k.name] = optuna.distributions.FloatDistribution(k.low or 0.0, k.high or 0.0, log=k.log)
    worst = 0.0
    for k in left:
        for point in landscape(k, current[k.name], trials, metric):
            params = {"knob": k.name, k.name: str(point.value) if k.choices else point.value}
            distributions = {key: space[key] for key in params}
            try:
                told = optuna.trial.create_trial(params=params, distributions=distributions, value=point.score)
            except (ValueError, TypeError):
                continue  # a value outside the charter's range: the start's, or a person's
            study.add_trial(told)
            worst = max(worst, point.score)
    pool: list[tuple[float, Knob, Value]] = []
    for attempt in range(attempts):
        asked = study.ask()
        knob = by_name[asked.suggest_categorical("knob", list(by_name))]
        if knob.choices:
            word = asked.suggest_categorical(knob.name, [str(c) for c in knob.choices])
            value: Value = next(c for c in knob.choices if str(c) == word)
        else:
            raw = asked.suggest_float(knob.name, knob.low or 0.0, knob.high or 0.0, log=knob.log)
            value = knobs_.rounded(knob, raw, digits=2 if attempt < attempts // 2 else 3)
        if _is_new(knob, value, seen[knob.name]):
            points = landscape(knob, current[knob.name], trials, metric)
            pool.append((_promise(knob, current[knob.name], value, points, size), knob, value))
            if len(pool) == POOL:
                break
        else:
            study.tell(asked, worst)  # an old answer again: let the sampler look elsewhere
    best = min(pool, key=lambda candidate: candidate[0], default=None)
    return (best[1], best[2]) if best else None


def _promise(knob: Knob, old: Value | None, new: Value, points: Sequence[Point], size: float) -> float:
    """How far `new` may lie above the best value known of this knob; less far, the less is known around it."""
    best = min([0.0, *(point.score for point in points)])
    around = [knobs_.position(knob, value) for value in (old, *(point.value for point in points))]
    distance = 0.5 if knob.choices else min(abs(at - knobs_.position(knob, new)) for at in around)
    return (_guess(knob, old, new, points) or 0.0) - best - CURIOSITY * size * distance


def _guess(knob: Knob, old: Value | None, new: Value, points: Sequence[Point]) -> float | None:
    """The score at `new`, read off the line between the measured values on both sides of it, or the nearest one's; None
    where nothing was measured, and for choices, which have no order."""
    known = [point for point in points if not knobs_.same(point.value, old)]
    if knob.choices or not known:
        return None
    at = knobs_.position(knob, new)
    line = sorted((knobs_.position(knob, p.value), p.score) for p in [*known, Point(old, 0.0, "")])
    below = max((p for p in line if p[0] <= at), default=None)
    above = min((p for p in line if p[0] >= at), default=None)
    if below is None or above is None or below[0] == above[0]:
        return (below or above or (0.0, 0.0))[1]
    return below[1] + (above[1] - below[1]) * (at - below[0]) / (above[0] - below[0])


def _proposal(
    knob: Knob, value: Value, current: Mapping[str, Value | None], trials: Sequence[Trial], metric: Metric, size: float
) -> Proposal:
    old = current[knob.name]
    assert old is not None
    points = landscape(knob, old, trials, metric)
    expect = expectation(knob, old, value, points, metric, size)
    return Proposal(knob, old, value, reasons.why(knob, old, value, points), expect)
