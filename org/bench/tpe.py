"""A tree-structured Parzen estimator over all knobs at once, its densities as a few products of matrices. Trains nothing.

Optuna's TPESampler with its defaults (kernels that are products over the knobs), rewritten because that takes 3 s of
processor for 300 asks of 24 knobs, and T0 makes sixty thousand; a test holds the two against each other on one task.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from org.agents import arrays
from org.agents import knobs as knobs_
from org.bench.design import Value
from org.records import Knob

STARTUP = 10  # draws at random before the first estimate
CANDIDATES = 24


class Sampler:
    """Asks for whole settings and is told one number each, lower is better. Ranges live on 0..1 of a knob's span."""

    def __init__(self, knobs: Sequence[Knob], seed: str) -> None:
        numpy = arrays.numpy()

        self._np: Any = numpy
        self.ranged = [knob for knob in knobs if not knob.choices]
        self.listed = [knob for knob in knobs if knob.choices]
        self.counts: Any = numpy.array([len(knob.choices) for knob in self.listed])
        self.stream: Any = numpy.random.default_rng(zlib.crc32(seed.encode()))
        self.places: list[list[float]] = []
        self.words: list[list[int]] = []
        self.values: list[float] = []

    def ask(self) -> dict[str, Value]:
        np = self._np
        if len(self.values) < STARTUP:
            places = self.stream.random(len(self.ranged))
            words = self.stream.integers(0, self.counts)
        else:
            order = np.argsort(np.array(self.values), kind="stable")
            good = min(math.ceil(0.1 * len(order)), 25)
            # in the order in which they were told: what came last weighs most
            below, above = (self._kernels(np.sort(part)) for part in (order[:good], order[good:]))
            candidates = self._draws(below)
            best = int((self._density(candidates, below) - self._density(candidates, above)).argmax())
            places, words = candidates[0][best], candidates[1][best]
        found: dict[str, Value] = {
            knob.name: _value(knob, float(at)) for knob, at in zip(self.ranged, places, strict=True)
        }
        return found | {knob.name: knob.choices[int(n)] for knob, n in zip(self.listed, words, strict=True)}

    def tell(self, changes: Mapping[str, Value], value: float) -> None:
        self.places.append([knobs_.position(knob, changes[knob.name]) for knob in self.ranged])
        self.words.append([knob.choices.index(changes[knob.name]) for knob in self.listed])
        self.values.append(value)

    def _kernels(self, part: Any) -> tuple[Any, Any, Any, Any]:
        """Middles and widths of (runs + prior, ranges), words of (runs, lists), and the weights of runs and prior."""
        np = self._np
        table = np.array(self.places)[part]
        order = np.argsort(table, axis=0, kind="stable")
        ordered = np.take_along_axis(table, order, axis=0)
        ends = np.vstack([np.zeros((1, table.shape[1])), ordered, np.ones((1, table.shape[1]))])
        gaps = np.maximum(ends[1:-1] - ends[:-2], ends[2:] - ends[1:-1])
        if len(table) > 1:  # the end kernels look inwards only
            gaps[0], gaps[-1] = ends[2] - ends[1], ends[-2] - ends[-3]
        widths = np.empty_like(gaps)
        np.put_along_axis(widths, order, gaps, axis=0)
        widths = np.clip(widths, 1.0 / min(100.0, 2.0 + len(table)), 1.0)
        middles = np.vstack([table, np.full((1, table.shape[1]), 0.5)])
        widths = np.vstack([widths, np.ones((1, table.shape[1]))])
        return middles, widths, np.array(self.words)[part], _weights(np, len(table))

    def _draws(self, kernels: tuple[Any, Any, Any, Any]) -> tuple[Any, Any]:
        """Places and words of the candidates: a kernel each, what falls outside 0..1 drawn again."""
        np = self._np
        middles, widths, words, weights = kernels
        picked = self.stream.choice(len(weights), CANDIDATES, p=weights)
        middles, widths = middles[picked], widths[picked]
        found = middles + widths * self.stream.standard_normal(middles.shape)
        while (is_out := (found < 0) | (found > 1)).any():
            found[is_out] = middles[is_out] + widths[is_out] * self.stream.standard_normal(int(is_out.sum()))
        rows = len(weights)
        any_word = self.stream.integers(0, self.counts, (CANDIDATES, len(self.counts)))
        # a kernel of a word puts 1/rows of it on every word, the prior is the same on all
        is_own = self.stream.random(any_word.shape) * (1.0 + self.counts / rows) < 1.0
        own = np.vstack([words, np.zeros((1, len(self.counts)), int)])[picked]
        return found, np.where(is_own & (picked < rows - 1)[:, None], own, any_word)

    def _density(self, candidates: tuple[Any, Any], kernels: tuple[Any, Any, Any, Any]) -> Any:
        """log density of each candidate but for a constant, every kernel cut at 0 and 1."""
        np = self._np
        (places, drawn), (middles, widths, words, weights) = candidates, kernels
        rows = len(weights)
        inside = widths * (_cdf(np, (1.0 - middles) / widths) - _cdf(np, -middles / widths))
        sharp = 0.5 / widths**2
        found = np.log(weights) - np.log(inside).sum(axis=1) - (middles**2 * sharp).sum(axis=1)
        found = found[None] - (places**2) @ sharp.T + 2.0 * places @ (middles * sharp).T
        if len(self.counts):
            found[:, -1] -= np.log(self.counts).sum()
            found[:, :-1] -= np.log((1.0 + self.counts / rows) * rows).sum()
            is_same = drawn[:, None, :] == words[None]
            found[:, :-1] += math.log(rows + 1.0) * is_same.sum(axis=2)
        most = found.max(axis=1)
        return most + np.log(np.exp(found - most[:, None]).sum(axis=1))


def _cdf(np: Any, x: Any) -> Any:
    """The normal's, to 3e-4: numpy has no erf."""
    return 0.5 * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _weights(np: Any, runs: int) -> Any:
    """Of the runs in the order told, and of the prior: the last 25 whole, those before them on a ramp."""
    own = np.ones(runs) if runs < 25 else np.concatenate([np.linspace(1.0 / runs, 1.0, runs - 25), np.ones(25)])
    weights = np.append(own, 1.0)
    return weights / weights.sum()


def _value(knob: Knob, at: float) -> int | float:
    low, high = knob.low or 0.0, knob.high or 0.0
    if knob.log:
        return math.exp(math.log(low) + at * (math.log(high) - math.log(low)))
    return low + at * (high - low)
