"""Which experiment next: a pure choice from the history of an organisation, by bold first steps and then where most is expected.

Knows no files, no clock and no terminal. The same history and the same seed choose the same experiment, so a researcher
that was killed goes on where it was.
"""

from __future__ import annotations

import collections
import functools
import random
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from org.agents import blend, reasons
from org.agents import knobs as knobs_
from org.agents.knobs import Value
from org.agents.reasons import show
from org.records import Knob, Metric

PRIOR = 0.005  # the size of effect expected of a knob nobody has turned yet
CURIOSITY = 4.0  # sizes of effect hoped for at a value a whole span away from anything measured
CHOICE_SHARE = 0.1  # of the asks when there is something to blend: a choice nobody has made is tried alone
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
    idea: str = ""  # that it tests
    baseline: str = ""  # the commit that it was measured against; "" where nobody knows
    commit: str = ""  # its own

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
    """One knob, one new value, why, and what it should do; of a blend the first, and `more`."""

    knob: Knob
    old: Value
    new: Value
    why: str
    expect: float
    more: tuple[tuple[Knob, Value, Value], ...] = ()

    @property
    def turns(self) -> tuple[tuple[Knob, Value, Value], ...]:
        """(knob, from, to) of everything it turns."""
        return ((self.knob, self.old, self.new), *self.more)

    @property
    def text(self) -> str:
        return ", ".join(f"{knob.name} {show(old)}→{show(new)}" for knob, old, new in self.turns)


def history(rows: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """Trials from the rows of `org results --json`; rows that are no experiment of anyone, re-tests at another scale and
    attacks are left out."""
    trials = []
    for row in rows:
        verdict = row.get("verdict") or {}
        name = str(row.get("experiment") or "")
        # at another budget or scale its effect is another knob's
        if not name or name == "E0000" or row.get("control") or row.get("promotes") or row.get("refutes"):
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
                str(row.get("idea") or ""),
                str(row.get("baseline") or ""),
                str(row.get("commit") or ""),
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


def closed(
    knob: Knob,
    current: Value | None,
    trials: Sequence[Trial],
    metric: Metric,
    former: Collection[str] = (),
    points: Sequence[Point] | None = None,
) -> list[Any]:
    """Values of one knob that need no run: where it stands, what anyone tried from there or is trying now, and what is
    known to be no better, a former head among them. former: experiments on heads that moved since; what looked better
    there may be measured again on the present one. points: the knob's landscape, when it is known."""
    points = landscape(knob, current, trials, metric) if points is None else points
    seen: list[Any] = [current]
    for trial in trials:
        if trial.outcome == "lost" or trial.is_stack or len(trial.changes) != 1:
            continue  # the org's own loss says nothing about the value
        name, old, new = trial.changes[0]
        if name == knob.name.lower() and (
            trial.is_open or (knobs_.same(old, current) and (trial.experiment not in former or trial.effect is None))
        ):
            seen.append(new)
    return seen + [point.value for point in points if point.score >= 0]


def former_heads(trials: Sequence[Trial]) -> set[str]:
    """Experiments that were filed before a stack moved their program's head."""
    found: set[str] = set()
    open_of: dict[str, list[str]] = collections.defaultdict(list)
    for trial in trials:
        if not trial.is_stack:
            open_of[trial.program].append(trial.experiment)
        elif trial.outcome in ("win", "holds"):
            found.update(open_of.pop(trial.program, ()))
    return found


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
    everything: Sequence[Knob] = (),
    seat: str = "",
) -> Proposal | None:
    """The next experiment for a seat that may turn `mine`, or None when everything sensible was tried.

    One knob to one value that differs from the current one and from everything tried by anyone from there. When each
    range of `mine` was moved once, a blend of `everything` that the seat may turn in one, as long as there is a new one;
    choices nobody has made come in between, few at a time, since half of all runs would go to them. Neither comes for `seat`
    while something of its own is under way: a blend rests on the whole record, that verdict too, and a seat that is asked
    again and again meanwhile would draw every choice. `offset` makes seats
    that share knobs begin at different ones; `barred` are (knob, value) pairs that the gate refused.
    """
    movable = [k for k in mine if current.get(k.name) is not None]
    fresh = untouched(movable, current, trials, first)
    turn = offset % len(fresh) if fresh else 0
    fresh = fresh[turn:] + fresh[:turn]

    def known(knobs: Sequence[Knob]) -> tuple[dict[str, list[Point]], dict[str, list[Any]]]:
        own, former = _by_knob(trials), former_heads(trials)
        points = {k.name: landscape(k, current[k.name], own[k.name.lower()], metric) for k in knobs}
        seen = {k.name: closed(k, current[k.name], own[k.name.lower()], metric, former, points[k.name]) for k in knobs}
        for name, value in barred:
            seen.get(name, []).append(value)
        return points, seen

    def bold(knobs: Sequence[Knob]) -> Proposal | None:
        seen = known(knobs)[1] if knobs else {}
        for knob in knobs:
            for value in knobs_.steps(knob, current[knob.name]):
                if _is_new(knob, value, seen[knob.name]):
                    return _proposal(knob, value, current, trials, metric, size)
        return None

    wait = bool(everything) and random.Random(f"{seed}/choice").random() >= CHOICE_SHARE
    if found := bold([knob for knob in fresh if not (everything and knob.choices)]):
        return found
    if any(trial.seat == seat and trial.is_open for trial in reversed(trials)) and blend.follows(everything, trials):
        return None
    if not wait and (found := bold(fresh)):
        return found
    mixed = blend.propose(everything, current, trials, metric=metric, seed=seed, size=size, barred=barred)
    if mixed is not None:
        return _blended(*mixed, everything, current)
    if found := bold(fresh):
        return found
    points, seen = known(movable)
    asked = _ask(movable, current, points, random.Random(seed), seen, size)
    return _proposal(*asked, current, trials, metric, size) if asked else None


def _blended(
    changes: Mapping[str, Value], expect: float, everything: Sequence[Knob], current: Mapping[str, Value | None]
) -> Proposal:
    by_name = {knob.name: knob for knob in everything}
    turns = tuple((by_name[name], old, value) for name, value in changes.items() if (old := current[name]) is not None)
    what = ", ".join(f"{knob.name} {show(old)}→{show(new)}" for knob, old, new in turns)
    why = f"{what}: together, as the record of all that was measured promises most."
    return Proposal(*turns[0], why, round(expect, 4), turns[1:])


def step(knob: Knob, current: Value | None, trials: Sequence[Trial], metric: Metric, towards: int = 0) -> Value | None:
    """One bold step of a knob that nobody took from here. towards: +1 for more of it, -1 for less, 0 for either."""
    seen = closed(knob, current, trials, metric)
    for value in knobs_.steps(knob, current):
        way = knobs_.position(knob, value) - knobs_.position(knob, current)
        if _is_new(knob, value, seen) and (not towards or not way or (way > 0) == (towards > 0)):
            return value
    return None


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


def _by_knob(trials: Sequence[Trial]) -> Mapping[str, Sequence[Trial]]:
    """Trials of one change by the knob it turned."""
    found: dict[str, list[Trial]] = collections.defaultdict(list)
    for trial in trials:
        if len(trial.changes) == 1:
            found[trial.changes[0][0]].append(trial)
    return found


def _at(points: Sequence[Point], value: Any) -> Point | None:
    return next((p for p in points if knobs_.same(p.value, value)), None)


def _is_new(knob: Knob, value: Value, seen: Sequence[Any]) -> bool:
    """Whether a run at `value` could tell something that `seen` does not: on a range it keeps a distance."""
    return bool(_new(knob, [value], seen))


def _new(knob: Knob, values: Sequence[Any], seen: Sequence[Any]) -> list[Any]:
    """Those of `values` that are."""
    if knob.choices:
        return [value for value in values if not any(knobs_.same(value, old) for old in seen)]
    inside = [knobs_.position(knob, old) for old in seen if not knobs_.is_outside(knob, old)]
    found = []
    for value in values:
        where = knobs_.position(knob, value)
        if all(abs(at - where) >= APART for at in inside):
            found.append(value)
    return found


def _ask(
    mine: Sequence[Knob],
    current: Mapping[str, Value | None],
    points: Mapping[str, Sequence[Point]],
    stream: random.Random,
    seen: Mapping[str, Sequence[Any]],
    size: float,
) -> tuple[Knob, Value] | None:
    """Of every new value on a grid over each knob's range take the one most is expected of: what the measured values
    around it say, and more the farther it is from all of them. Equals are drawn from."""
    pool: list[tuple[float, float, Knob, Value]] = []
    for knob in mine:
        measured = [p.value for p in points[knob.name] if not knob.choices and not knobs_.is_outside(knob, p.value)]
        values = [*grid(knob), *measured]
        values = _new(knob, values, seen[knob.name])
        for value, promise in zip(
            values, _promises(knob, current[knob.name], values, points[knob.name], size), strict=True
        ):
            pool.append((promise, stream.random(), knob, value))
    best = min(pool, key=lambda candidate: candidate[:2], default=None)
    return (best[2], best[3]) if best else None


@functools.lru_cache(maxsize=512)
def grid(knob: Knob) -> tuple[Value, ...]:
    """The values that a search may come to: every choice, or the range in steps of half of what is told apart."""
    if knob.choices:
        return tuple(knob.choices)
    steps = round(2 / APART)
    return tuple(dict.fromkeys(knobs_.at(knob, n / steps) for n in range(steps + 1)))


def _promises(
    knob: Knob, old: Value | None, values: Sequence[Value], points: Sequence[Point], size: float
) -> list[float]:
    """How far each of `values` may lie above the best value known of this knob; less far, the less is known around it."""
    best = min([0.0, *(point.score for point in points)])
    if knob.choices:
        known = {str(point.value): point.score for point in points}
        return [known[str(v)] - best if str(v) in known else -best - CURIOSITY * size * 0.5 for v in values]
    around = [knobs_.position(knob, value) for value in (old, *(point.value for point in points))]
    line = _line(knob, old, points)
    found = []
    for value in values:
        at = knobs_.position(knob, value)
        distance = min(abs(here - at) for here in around)
        found.append((_read_off(line, at) if line else 0.0) - best - CURIOSITY * size * distance)
    return found


def _guess(knob: Knob, old: Value | None, new: Value, points: Sequence[Point]) -> float | None:
    """The score at `new`, read off the line between the measured values on both sides of it, or the nearest one's; None
    where nothing was measured, and for choices, which have no order."""
    line = [] if knob.choices else _line(knob, old, points)
    return _read_off(line, knobs_.position(knob, new)) if line else None


def _line(knob: Knob, old: Value | None, points: Sequence[Point]) -> list[tuple[float, float]]:
    """(position, score) of every measured value and of where the knob stands, in order; [] where nothing was measured."""
    known = [point for point in points if not knobs_.same(point.value, old)]
    return sorted((knobs_.position(knob, p.value), p.score) for p in [*known, Point(old, 0.0, "")]) if known else []


def _read_off(line: Sequence[tuple[float, float]], at: float) -> float:
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
