"""Noise and effects: pooled sigma with its upper limit, paired differences, z. Standard library only; no t tables.

The limits stand in for Student's t: a sigma known from few runs enters every z at its 80 % upper limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")

CONFIDENCE = 0.8  # one-sided, of every limit on a noise estimate
MAX_Z = 99.0  # a z is shown and stored; noise that measures zero must not make it infinite


@dataclass(frozen=True)
class Sigma:
    """Standard deviation of one run's metric. `value` and `upper` are None while no arm has two runs."""

    value: float | None
    df: float
    upper: float | None


@dataclass(frozen=True)
class PairedSigma:
    """Noise of a difference taken on one seed. `sd_diff` is at its upper limit, `rho_low` the correlation's lower limit."""

    sd_diff: float | None
    rho: float | None
    rho_low: float | None
    df: float

    @property
    def helps(self) -> bool:
        """Whether pairing is measured to help: only then are differences taken seed by seed."""
        return self.sd_diff is not None and self.rho_low is not None and self.rho_low > 0


@dataclass(frozen=True)
class Effect:
    """candidate - baseline in the metric's unit; `z` is positive when better; `n` candidate runs it rests on."""

    effect: float
    se: float
    z: float
    n: int
    paired: bool


# --- distributions -----------------------------------------------------------------------------------------------


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def normal_quantile(p: float) -> float:
    """Inverse of normal_cdf, by Newton's method from a logistic start; 0 < p < 1."""
    if not 0 < p < 1:
        raise ValueError(f"a quantile needs 0 < p < 1, not {p}")
    if p > 0.5:
        return -normal_quantile(1 - p)
    # Rational start, Abramowitz and Stegun 26.2.23 (error < 4.5e-4), so that Newton cannot leave the tail.
    t = math.sqrt(-2 * math.log(p))
    x = -(t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t**3))
    for _ in range(3):
        x -= (normal_cdf(x) - p) * math.sqrt(2 * math.pi) * math.exp(x * x / 2)
    return x


def chi2_cdf(x: float, df: float) -> float:
    """Regularised lower incomplete gamma P(df/2, x/2): a series below the mode, a continued fraction above."""
    if x <= 0:
        return 0.0
    a, y = df / 2, x / 2
    scale = math.exp(a * math.log(y) - y - math.lgamma(a))
    if y < a + 1:
        term = total = 1 / a
        k = a
        while term > total * 1e-15:
            k += 1
            term *= y / k
            total += term
        return scale * total
    b = y + 1 - a
    c, d = 1e300, 1 / b
    h = d
    for i in range(1, 10_000):
        an = -i * (i - a)
        b += 2
        d = 1 / (an * d + b or 1e-300)
        c = b + an / c or 1e-300
        h *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return 1 - scale * h


def chi2_quantile(p: float, df: float) -> float:
    """Inverse of chi2_cdf, by Newton's method kept inside a shrinking bracket; 0 < p < 1, df > 0 (fractions too)."""
    if not 0 < p < 1 or df <= 0:
        raise ValueError(f"a chi-square quantile needs 0 < p < 1 and df > 0, not p={p}, df={df}")
    low, high = 0.0, df + 10.0
    while chi2_cdf(high, df) < p:
        high *= 2
    # Wilson and Hilferty's cube is within 1 % from df 3 on: a few steps where halving alone takes fifty.
    cube = 1 - 2 / (9 * df) + normal_quantile(p) * math.sqrt(2 / (9 * df))
    x = df * cube**3 if cube > 0 else high / 2
    log_scale = -math.lgamma(df / 2) - df / 2 * math.log(2)
    for _ in range(100):
        if not low < x < high:
            x = (low + high) / 2
        miss = chi2_cdf(x, df) - p
        low, high = (x, high) if miss < 0 else (low, x)
        density = math.exp(log_scale + (df / 2 - 1) * math.log(x) - x / 2)
        step = miss / density if density > 0 else math.inf
        x -= step
        if abs(step) <= 1e-13 * abs(x):
            break
    return x if low <= x <= high else (low + high) / 2


# --- noise -------------------------------------------------------------------------------------------------------

Arm = Sequence[float] | Mapping[int, float]  # runs of one arm; a mapping says which seed each had


def pooled_sigma(groups: Iterable[Arm], rho: float = 0.0) -> Sigma:
    """Sigma within arms, pooled over every arm with two or more runs.

    `rho`: correlation of different arms' runs on one seed. Arms that share seeds share luck, so their degrees of
    freedom are counted once, not twice: twenty arms on the same two seeds are not twenty estimates.
    """
    arms = [_by_seed(group, number) for number, group in enumerate(groups)]
    arms = [arm for arm in arms if len(arm) >= 2]
    if not arms:
        return Sigma(None, 0, None)
    raw = sum(len(arm) - 1 for arm in arms)
    total = sum(squares(list(arm.values())) for arm in arms)
    return sigma_from(total, raw, _effective_df([frozenset(arm) for arm in arms], rho))


def sigma_from(total: float, raw: int, df: float) -> Sigma:
    """Sigma from its sufficient sums: squares around each arm's mean, runs less arms, and their effective number."""
    value = math.sqrt(max(0.0, total) / raw)
    return Sigma(value, df, value * _upper_factor(df))


def paired_sigma(
    pairs: Iterable[Sequence[tuple[float, float]] | Mapping[int, tuple[float, float]]],
) -> PairedSigma:
    """Noise of seed-by-seed differences (baseline, candidate), pooled within pairs of arms; rho with its lower limit.

    Pairs given by seed are taken to share the baseline's runs, which halves what each further pair can tell.
    """
    arms = [_by_seed(pair, number) for number, pair in enumerate(pairs)]
    arms = [arm for arm in arms if len(arm) >= 2]
    if not arms:
        return PairedSigma(None, None, None, 0)
    raw = sum(len(arm) - 1 for arm in arms)
    base = sum(squares([b for b, _ in arm.values()]) for arm in arms)
    cand = sum(squares([c for _, c in arm.values()]) for arm in arms)
    diff = sum(squares([c - b for b, c in arm.values()]) for arm in arms)
    return paired_from(base, cand, diff, raw, _effective_df([frozenset(arm) for arm in arms], 0.5))


def paired_from(base: float, cand: float, diff: float, raw: int, df: float) -> PairedSigma:
    """Noise of differences from its sufficient sums: squares of either arm and of the differences."""
    sd_diff = math.sqrt(diff / raw) * _upper_factor(df)
    if base <= 0 or cand <= 0:
        return PairedSigma(sd_diff, None, None, df)
    rho = max(-1.0, min(1.0, (base + cand - diff) / 2 / math.sqrt(base * cand)))
    rho_low = _rho_low(rho, df)
    # Pairing is chosen where rho looks high, and there the differences look small by luck too: with rho 0 a sixth of
    # 4 + 4 verifications paired, and 2 % of those nulls passed. So the noise is never taken below what rho's own
    # lower limit allows (null_keep_rate over all of them: 0.55 % before).
    at_rho_low = math.sqrt((base + cand) / raw * max(0.0, 1 - rho_low)) * _upper_factor(df)
    return PairedSigma(max(sd_diff, at_rho_low), rho, rho_low, df)


def effect(
    base: Mapping[int, float], cand: Mapping[int, float], sigma: Sigma, paired: PairedSigma | None = None, sign: int = 1
) -> Effect:
    """Candidate against baseline, both {seed: metric}. `sign` is the metric's: +1 when lower is better.

    Paired only where pairing is measured to help and seeds are shared; else against all baseline runs.
    Raises ValueError for an empty arm, a number that is not finite, or a sigma not known yet.
    """
    if not base or not cand:
        raise ValueError("an effect needs runs of both arms")
    if not all(map(math.isfinite, [*base.values(), *cand.values()])):
        raise ValueError("a metric is not a finite number: that run is a crash, not a comparison")
    common = sorted(base.keys() & cand.keys())
    if common and paired is not None and paired.helps:
        assert paired.sd_diff is not None
        difference = math.fsum(cand[s] - base[s] for s in common) / len(common)
        se = paired.sd_diff / math.sqrt(len(common))
        return Effect(difference, se, z_score(difference, se, sign), len(common), True)
    if sigma.upper is None:
        raise ValueError("sigma is not known: replicate an arm first")
    difference = mean(cand.values()) - mean(base.values())
    se = sigma.upper * math.sqrt(1 / len(cand) + 1 / len(base))
    return Effect(difference, se, z_score(difference, se, sign), len(cand), False)


def z_score(difference: float, se: float, sign: int) -> float:
    """Standard errors by which the candidate is better; within ±99."""
    if difference == 0:
        return 0.0
    gain = -sign * difference
    return math.copysign(MAX_Z, gain) if se <= 0 else max(-MAX_Z, min(MAX_Z, gain / se))


def unselected(effect: float, se: float, limit: float) -> float:
    """What to report of an effect that was kept because |effect| >= limit * se: the value whose mean, given that it was
    kept, is the one measured. Never of the other sign, never larger; the same from some 3 se above the limit on.

    A keep rule passes the lucky ones, so the plain effect of what passed is too large, most where power is low.
    """
    if effect == 0 or se <= 0:
        return effect
    seen = abs(effect) / se
    low, high = 0.0, seen
    if seen - _mean_above(low, limit) <= 0:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _mean_above(middle, limit) < seen else (low, middle)
    return math.copysign((low + high) / 2 * se, effect)


def _mean_above(middle: float, limit: float) -> float:
    """Mean of a normal value of standard deviation 1 around `middle`, given that it is above `limit`."""
    gap = limit - middle
    return middle + math.exp(-gap * gap / 2) / math.sqrt(2 * math.pi) / max(normal_cdf(-gap), 1e-300)


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def _by_seed(group: Sequence[T] | Mapping[int, T], number: int) -> dict[object, T]:
    """Values by seed; a plain sequence gets seeds of its own, shared with no other group."""
    if isinstance(group, Mapping):
        return {seed: value for seed, value in group.items()}
    return {(number, place): value for place, value in enumerate(group)}


def squares(values: Sequence[float]) -> float:
    """Sum of squared distances from the mean."""
    middle = mean(values)
    return math.fsum((value - middle) ** 2 for value in values)


@lru_cache(maxsize=4096)
def _upper_factor(df: float) -> float:
    return math.sqrt(df / chi2_quantile(1 - CONFIDENCE, df))


def _rho_low(rho: float, df: float) -> float:
    """Lower limit by Fisher's z; -1 below four degrees of freedom, where the limit is too wide for pairing to gain."""
    if df < 4 - 1e-9:
        return -1.0
    z = math.atanh(max(-0.999999, min(0.999999, rho)))
    return math.tanh(z - normal_quantile(CONFIDENCE) / math.sqrt(df - 2))


def _effective_df(seeds: Sequence[frozenset[object]], rho: float) -> float:
    """Degrees of freedom of a variance pooled over arms whose runs on one seed correlate by `rho` (Satterthwaite).

    Arm A contributes the quadratic form of the centering matrix P_A over its seeds; two such forms of normal values
    have covariance 2 sigma^4 rho^2 tr(P_A P_B), and tr(P_A P_B) = c - c/a - c/b + c^2/(ab) for c shared seeds.
    """
    raw = sum(len(arm) - 1 for arm in seeds)
    kinds: dict[frozenset[object], int] = {}
    for arm in seeds:
        kinds[arm] = kinds.get(arm, 0) + 1
    spread = 0.0
    for one, count in kinds.items():
        for other, times in kinds.items():
            shared = overlap(one, other)
            same = count if one == other else 0  # an arm with itself correlates fully
            spread += shared * (same + (count * times - same) * rho * rho)
    return raw * raw / spread


def overlap(one: frozenset[Any], other: frozenset[Any]) -> float:
    """tr(P_A P_B) of two arms' centering matrices: len - 1 for an arm with itself, 0 where no seed is shared."""
    if one.isdisjoint(other):
        return 0.0
    c, a, b = len(one & other), len(one), len(other)
    return c - c / a - c / b + c * c / (a * b)
