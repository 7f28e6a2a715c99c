"""T0's response surface: what the real trainer would score at any setting of its knobs, fitted to the measured rows. Pure but
for reading the table.

    val_bpb(x) = base + sum of main effects + sum of interactions a_ij z_i z_j

A main effect is a line from measured level to measured level (in the logarithm where the charter says so); z is how far a knob
stands from the base, in shares of its span. Both are zero at the base. It works with whatever rows there are: a level nobody
measured lies on the line between its neighbours, and interactions that no row shows stay at zero.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from org.agents import arrays
from org.bench import design, measure
from org.bench.design import Config, Value
from org.evidence import stats

RIDGE_MAIN, RIDGE_PAIR = 0.1, 0.12  # sigma^2 over the square of a usual effect, of a usual interaction
FALLBACK_SIGMA = 0.0125  # bpb, until a configuration has two seeds
LOG = frozenset({"matrix_lr", "embedding_lr", "unembedding_lr", "init_scale", "rows", "seq_len"})
# Seconds of one CPU core: start, data and the referee; a step's overhead; the arithmetic. Of the base, 14 s a run.
FIXED_S, STEP_S, FLOPS_PER_S = 3.0, 0.012, 4.9e10


@dataclass(frozen=True)
class Row:
    """One run of the table."""

    part: str
    depth: int
    seed: int
    config: Config
    value: float | None  # None: it diverged
    flops: float
    steps: int


@dataclass(frozen=True)
class Surface:
    """The fitted task. Effects are in bpb against the base, lower is better."""

    base: float
    mains: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]  # knob -> (positions, effects there)
    pairs: Mapping[
        tuple[str, str], tuple[float, float, float]
    ]  # coefficient, and the span of z_i z_j that was measured
    sigma: float
    rho: float  # correlation of two configurations' runs on one seed
    diverged: tuple[Config, ...]
    costs: Mapping[Config, tuple[float, int]]  # (FLOPs, steps) where they were measured
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # rows, errors, the scale shift: for the docs page and `--json`

    def effect(self, config: Mapping[str, Value]) -> float:
        """True change of the metric against the base; knobs that the table does not hold do nothing."""
        places = {name: place(name, value) for name, value in config.items() if name in self.mains}
        total = sum(self.main(name, at) for name, at in places.items())
        turned = sorted((name, shift(name, at)) for name, at in places.items())
        for (one, z), (other, y) in itertools.combinations(turned, 2):
            slope, low, high = self.pairs.get((one, other), (0.0, 0.0, 0.0))
            total += slope * min(max(z * y, low), high)  # no further than it was measured
        return total

    def main(self, name: str, at: float) -> float:
        positions, effects = self.mains[name]
        right = min(max(bisect.bisect_left(positions, at), 1), len(positions) - 1)
        left = right - 1
        share = min(max((at - positions[left]) / (positions[right] - positions[left]), 0.0), 1.0)
        return effects[left] + share * (effects[right] - effects[left])

    def crashes(self, config: Mapping[str, Value]) -> bool:
        """Whether all settings of a configuration that diverged are in this one."""
        return any(all(config.get(name) == value for name, value in bad) for bad in self.diverged)

    def seconds(self, config: Mapping[str, Value]) -> float:
        """Seconds that a run holds its device: from FLOPs and steps, since the machine that measured was busy."""
        flops, steps = self.costs.get((), (3.6e11, 300))
        for name, value in config.items():
            if (found := self.costs.get(((name, value),))) is not None:
                flops, steps = flops * found[0] / self.costs[()][0], round(steps * found[1] / self.costs[()][1])
        return FIXED_S + STEP_S * steps + flops / FLOPS_PER_S


def place(name: str, value: Value) -> float:
    """Where a value stands on its knob's axis: its number, its logarithm, or the place among unordered levels."""
    levels = design.LEVELS[name]
    if isinstance(value, str):
        return float(levels.index(value))
    return math.log(max(float(value), 1e-9)) if name in LOG else float(value)


@functools.cache
def _span(name: str) -> tuple[float, float, float]:
    places = [place(name, level) for level in design.LEVELS[name]]
    return min(places), max(places), places[0]


def shift(name: str, at: float) -> float:
    """How far a place is from the base, in shares of the knob's span: -1..1."""
    low, high, middle = _span(name)
    return (at - middle) / (high - low)


# --- the table ---------------------------------------------------------------------------------------------------


def read(path: Path = measure.TABLE) -> list[Row]:
    """The table's rows as they stand."""
    found = []
    for row in measure.rows(path):
        config = tuple(sorted(json.loads(row["config"]).items()))
        value = float(row["val_bpb"]) if row["val_bpb"] else None
        flops, steps = float(row["flops"] or 0), int(row["steps"] or 0)
        found.append(Row(row["part"], int(row["depth"]), int(row["seed"]), config, value, flops, steps))
    return found


@functools.cache
def shipped() -> Surface:
    """The surface of the table in this package."""
    return fit(read())


def fit(rows: Sequence[Row]) -> Surface:
    """The surface of these rows, those at depth 2; its facts hold the error on the `drawn` part when that is left out."""
    shallow = [row for row in rows if row.depth == 2]
    sigma, rho = noise(shallow)
    held_out = [row for row in shallow if row.part == "drawn" and row.value is not None]
    facts: dict[str, Any] = {
        "rows": len(rows),
        "configurations": len({row.config for row in shallow}),
        "diverged": sum(row.value is None for row in rows),
    }
    if held_out:
        without = _coefficients([row for row in shallow if row.part != "drawn"])
        full = {
            (row.config, row.seed): _left_out(shallow, held_out, fold) for fold in range(8) for row in held_out[fold::8]
        }
        facts |= _errors(held_out, Surface(*without, sigma, rho, (), {}), full)
    facts |= scale_shift(rows)
    diverged = tuple(dict.fromkeys(row.config for row in shallow if row.value is None))
    costs = {row.config: (row.flops, row.steps) for row in shallow if row.steps and len(row.config) < 2}
    return Surface(*_coefficients(shallow), sigma, rho, diverged, costs, facts)


def noise(rows: Sequence[Row]) -> tuple[float, float]:
    """Sigma over seeds and the correlation of paired seeds, measured: every replicated configuration counts."""
    arms: dict[Config, dict[int, float]] = {}
    for row in rows:
        if row.value is not None:
            arms.setdefault(row.config, {})[row.seed] = row.value
    base = arms.get((), {})
    pairs = [{s: (base[s], arm[s]) for s in base.keys() & arm.keys()} for config, arm in arms.items() if config]
    paired = stats.paired_sigma(pairs)
    sigma = stats.pooled_sigma(arms.values()).value or FALLBACK_SIGMA
    return sigma, min(max(paired.rho or 0.0, 0.0), 0.99)


def scale_shift(rows: Sequence[Row]) -> dict[str, Any]:
    """How effects at depth 3 follow those at depth 2: slope and correlation over the configurations measured at both."""
    means: dict[int, dict[Config, list[float]]] = {2: {}, 3: {}}
    for row in rows:
        if row.value is not None and row.depth in means:
            means[row.depth].setdefault(row.config, []).append(row.value)
    both = [config for config in means[3] if config and config in means[2]]
    if len(both) < 3 or () not in means[2] or () not in means[3]:
        return {"scale_shift": None}
    old, new = ([stats.mean(means[d][c]) - stats.mean(means[d][()]) for c in both] for d in (2, 3))
    slope = sum(a * b for a, b in zip(old, new, strict=True)) / sum(a * a for a in old)
    spread = math.sqrt(stats.squares(old) * stats.squares(new))
    middle = stats.mean(old), stats.mean(new)
    joint = sum((a - middle[0]) * (b - middle[1]) for a, b in zip(old, new, strict=True))
    return {
        "scale_shift": {"slope": slope, "correlation": joint / spread if spread else None, "configurations": len(both)}
    }


# --- the fit -----------------------------------------------------------------------------------------------------


def _coefficients(rows: Sequence[Row]) -> tuple[float, Any, Any]:
    """(value at the base, main effects, interactions) by ridge over all rows that ended with a number. The columns are
    hats, one a level, so that a main effect is whatever the levels say."""
    numpy = arrays.numpy()

    rows = [row for row in rows if row.value is not None]
    if not rows:
        raise ValueError("the table of the surface has no row yet: run `python -m org.bench.measure`")
    names = list(design.LEVELS)
    knots = {name: sorted({place(name, level) for level in levels}) for name, levels in design.LEVELS.items()}
    columns = [(name, at) for name in names for at in knots[name] if at != _span(name)[2]]
    pairs = list(itertools.combinations(sorted(names), 2))
    matrix = numpy.zeros((len(rows), 1 + len(columns) + len(pairs)))
    index = {column: 1 + n for n, column in enumerate(columns)}
    for line, row in zip(matrix, rows, strict=True):
        line[0] = 1.0
        z = {name: shift(name, place(name, value)) for name, value in row.config}
        for name, value in row.config:
            line[index[name, place(name, value)]] = 1.0
        for n, (one, other) in enumerate(pairs):
            if one in z and other in z:
                line[1 + len(columns) + n] = z[one] * z[other]
    values = numpy.array([row.value for row in rows])
    penalty = numpy.diag([1e-9, *[RIDGE_MAIN] * len(columns), *[RIDGE_PAIR] * len(pairs)])
    middle = float(values.mean())
    found = numpy.linalg.solve(matrix.T @ matrix + penalty, matrix.T @ (values - middle))
    seen = {column for column in columns if matrix[:, index[column]].any()}
    mains = {}
    for name in names:
        # a level that no row has is left to the line between its neighbours
        known = [(at, 0.0 if at == _span(name)[2] else float(found[index[name, at]])) for at in knots[name]]
        known = [(at, effect) for at, effect in known if at == _span(name)[2] or (name, at) in seen]
        if len(known) == 1:
            known.append((known[0][0] + 1.0, 0.0))
        mains[name] = tuple(at for at, _ in known), tuple(effect for _, effect in known)
    interactions = {}
    for n, pair in enumerate(pairs, 1 + len(columns)):
        low, high = min(0.0, float(matrix[:, n].min())), max(0.0, float(matrix[:, n].max()))
        if low < high:
            interactions[pair] = float(found[n]), low, high
    return middle + float(found[0]), mains, interactions


def _left_out(rows: Sequence[Row], held_out: Sequence[Row], fold: int) -> Surface:
    gone = {row.config for row in held_out[fold::8]}
    return Surface(*_coefficients([row for row in rows if row.config not in gone]), 0.0, 0.0, (), {})


def _errors(held_out: Sequence[Row], without: Surface, full: Mapping[Any, Surface]) -> dict[str, Any]:
    """Root mean squares on the drawn configurations: never seen, one eighth left out, and what a constant would miss."""
    truth = [row.value for row in held_out if row.value is not None]

    def rms(guesses: Sequence[float]) -> float:
        return math.sqrt(stats.mean((g - t) ** 2 for g, t in zip(guesses, truth, strict=True)))

    return {
        "drawn": len(truth),
        "error_unseen": rms([without.base + without.effect(dict(row.config)) for row in held_out]),
        "error_left_out": rms(
            [s.base + s.effect(dict(row.config)) for row in held_out for s in [full[row.config, row.seed]]]
        ),
        "error_of_a_constant": rms([stats.mean(truth)] * len(truth)),
    }
