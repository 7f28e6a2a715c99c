"""Noise estimates keep their promises under simulation, and no number that is not finite ever compares as better."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.evidence import stats

finite = st.floats(-10, 10, allow_nan=False)


@pytest.mark.parametrize(
    ("p", "x"), [(0.5, 0.0), (0.8, 0.841621), (0.95, 1.644854), (0.999, 3.090232), (1e-6, -4.753424)]
)
def test_normal_quantile_against_tables(p: float, x: float) -> None:
    assert stats.normal_quantile(p) == pytest.approx(x, abs=1e-5)
    assert stats.normal_cdf(x) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("p", "df", "x"),
    [(0.2, 1, 0.0642), (0.2, 3, 1.0052), (0.2, 7, 3.8223), (0.2, 60, 50.6406), (0.95, 1, 3.8415), (0.95, 10, 18.307), (0.5, 100, 99.3341)],
)  # fmt: skip
def test_chi2_quantile_against_tables(p: float, df: float, x: float) -> None:
    assert stats.chi2_quantile(p, df) == pytest.approx(x, abs=1e-3)


@given(st.floats(0.001, 0.999), st.floats(0.5, 300))
def test_chi2_quantile_inverts_the_distribution(p: float, df: float) -> None:
    assert stats.chi2_cdf(stats.chi2_quantile(p, df), df) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(("runs", "factor"), [(2, 3.95), (5, 1.56), (8, 1.35), (61, 1.09)])
def test_upper_limit_factors_are_the_published_ones(runs: int, factor: float) -> None:
    sigma = stats.pooled_sigma([[float(k) for k in range(runs)]])
    assert sigma.df == runs - 1
    assert sigma.upper / sigma.value == pytest.approx(factor, abs=0.01)


def test_the_upper_limit_covers_in_four_of_five_cases() -> None:
    luck = random.Random(1)
    hits = sum(
        stats.pooled_sigma([[luck.gauss(0, 1) for _ in range(4)], [luck.gauss(5, 1) for _ in range(2)]]).upper >= 1
        for _ in range(2000)
    )
    assert 0.77 < hits / 2000 < 0.83


def test_arms_on_the_same_seeds_are_not_many_estimates() -> None:
    """Twenty arms that share two seeds and nearly all their luck know sigma as badly as one arm does; counted as
    twenty, the limit covers in half of the cases instead of four fifths."""
    luck = random.Random(2)
    honest = naive = 0
    for _ in range(600):
        shared = {seed: luck.gauss(0, 1) for seed in (1, 2)}
        arms = [{s: 0.95 * shared[s] + math.sqrt(1 - 0.95**2) * luck.gauss(0, 1) for s in (1, 2)} for _ in range(20)]
        honest += stats.pooled_sigma(arms, rho=0.95**2).upper >= 1
        naive += stats.pooled_sigma(arms).upper >= 1
    assert honest / 600 > 0.74
    assert naive / 600 < 0.6


@given(
    st.lists(st.dictionaries(st.integers(1, 6), finite, min_size=2, max_size=6), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_shared_seeds_never_add_degrees_of_freedom(arms: list[dict[int, float]], rho: float) -> None:
    raw = sum(len(arm) - 1 for arm in arms)
    sigma = stats.pooled_sigma(arms, rho)
    assert min(len(arm) for arm in arms) - 1 - 1e-9 <= sigma.df <= raw + 1e-9
    assert sigma.df == pytest.approx(raw) or len(arms) > 1
    assert sigma.upper >= sigma.value


def test_one_run_an_arm_says_nothing_about_noise() -> None:
    assert stats.pooled_sigma([[1.0], [2.0], []]) == stats.Sigma(None, 0, None)
    assert stats.paired_sigma([[(1.0, 2.0)]]).sd_diff is None
    with pytest.raises(ValueError):
        stats.effect({1: 1.0}, {1: 0.5}, stats.pooled_sigma([]))


def test_pairing_is_used_when_it_is_measured_to_help_and_only_then() -> None:
    luck = random.Random(3)
    shared = [luck.gauss(0, 1) for _ in range(8)]
    close = [(x, x + 0.1 * luck.gauss(0, 1) - 0.5) for x in shared]
    apart = [(luck.gauss(0, 1), luck.gauss(0, 1) - 0.5) for _ in range(8)]
    for pair, helps in ((close, True), (apart, False)):
        paired = stats.paired_sigma([pair])
        assert paired.helps is helps
        base, cand = ({k: run[arm] for k, run in enumerate(pair)} for arm in (0, 1))
        found = stats.effect(base, cand, stats.pooled_sigma([list(base.values()), list(cand.values())]), paired)
        assert found.paired is helps
        assert found.effect == pytest.approx(stats.mean(cand.values()) - stats.mean(base.values()))
    assert not stats.paired_sigma([close[:3]]).helps, "three pairs cannot show a correlation"


def test_unpaired_uses_every_baseline_run() -> None:
    sigma = stats.Sigma(1.0, 7, 1.35)
    found = stats.effect({s: 2.0 for s in range(8)}, {1: 1.0}, sigma, None)
    assert (found.effect, found.n, found.paired) == (-1.0, 1, False)
    assert found.se == pytest.approx(1.35 * math.sqrt(1 + 1 / 8))
    assert found.z == pytest.approx(1 / found.se)


@given(finite, finite, st.floats(0.001, 1))
def test_the_direction_of_the_metric_turns_z_and_nothing_else(base: float, cand: float, sigma: float) -> None:
    known = stats.Sigma(sigma, 7, sigma)
    lower = stats.effect({1: base}, {1: cand}, known, None, 1)
    higher = stats.effect({1: base}, {1: cand}, known, None, -1)
    assert (lower.effect, lower.se, lower.z) == (higher.effect, higher.se, -higher.z)
    assert (lower.z > 0) == (cand < base)


@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.booleans())
def test_what_is_not_finite_never_compares(bad: float, in_base: bool) -> None:
    arms = ({1: bad, 2: 1.0}, {1: 1.0, 2: 1.0})
    with pytest.raises(ValueError):
        stats.effect(*(arms if in_base else arms[::-1]), stats.Sigma(1.0, 7, 1.35))


@given(finite, st.floats(0, 1e-300))
def test_z_is_always_a_number_that_json_can_hold(difference: float, se: float) -> None:
    assert math.isfinite(stats.z_score(difference, se, 1))
