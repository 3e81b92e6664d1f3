"""Statistics against numbers worked out by hand, scipy's own, and repeated draws."""

import math

import mmh3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from precompute.evaluation.statistics import (
    Effect,
    cuped,
    holm,
    mean_effect,
    median_effect,
    sample_ratio,
)
from precompute.simulation.batch import simulate
from precompute.simulation.generate import generate
from precompute.simulation.policies import RandomTracks


def test_welch_by_hand() -> None:
    control, treatment = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 5.0, 9.0])
    # Means 2.5 and 17/3; squared errors 1.25/3 and 28/9; Satterthwaite from these.
    a, b = 5.0 / 3.0 / 4.0, 28.0 / 3.0 / 3.0
    freedom = (a + b) ** 2 / (a**2 / 3.0 + b**2 / 2.0)
    reach = float(stats.t.ppf(0.975, freedom)) * math.sqrt(a + b)
    difference = 17.0 / 3.0 - 2.5
    effect = mean_effect(control, treatment)
    assert effect.control == pytest.approx(2.5)
    assert effect.treatment == pytest.approx(17.0 / 3.0)
    assert effect.percent == pytest.approx(100.0 * difference / 2.5)
    assert effect.low == pytest.approx(100.0 * (difference - reach) / 2.5)
    assert effect.high == pytest.approx(100.0 * (difference + reach) / 2.5)
    assert not effect.significant
    assert effect.p_value > 0.05


def test_constant_samples_have_no_noise() -> None:
    same = mean_effect(np.full(9, 0.1) * 3, np.full(5, 0.3))
    assert (same.percent, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert not same.significant
    other = mean_effect(np.full(9, 2.0), np.full(5, 3.0))
    assert (other.percent, other.low, other.high, other.p_value) == (50.0, 50.0, 50.0, 0.0)
    half = mean_effect(np.full(9, 2.0), np.array([2.0, 3.0, 4.0]))
    reach = float(stats.t.ppf(0.975, 2)) / math.sqrt(3)
    assert (half.low, half.high) == pytest.approx((50 * (1 - reach), 50 * (1 + reach)))


def test_a_shift_is_seen_on_the_right_side() -> None:
    rng = np.random.default_rng(0)
    base = rng.exponential(2.0, 4000)
    better = mean_effect(base, rng.exponential(2.4, 4000))
    worse = mean_effect(base, rng.exponential(1.6, 4000))
    assert better.low > 0 < better.percent < better.high
    assert worse.high < 0
    assert better.significant
    assert worse.significant
    assert max(better.p_value, worse.p_value) < 1e-4


def test_significance_is_that_zero_is_outside() -> None:
    assert Effect(1, 2, 5, 1, 9, 0.01, (0.01, 0.09)).significant
    assert Effect(1, 2, -5, -9, -1, 0.01, (-0.09, -0.01)).significant
    assert not Effect(1, 2, 5, -1, 9, 0.2, (-0.01, 0.09)).significant


@pytest.mark.parametrize("size", [7, 8, 501])
def test_medians_have_the_interval_of_the_bootstrap(size: int) -> None:
    rng = np.random.default_rng(4)
    control, treatment = rng.exponential(2.0, size), rng.exponential(3.0, size + 1)
    ours = median_effect(control, treatment, seed=1, resamples=40_000)
    base = np.median(control)
    theirs = stats.bootstrap(
        (treatment, control),
        lambda t, c, axis: 100 * (np.median(t, axis=axis) - np.median(c, axis=axis)) / base,
        n_resamples=20_000,
        vectorized=True,
        method="percentile",
        batch=2000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.percent == pytest.approx(100 * (np.median(treatment) - base) / base)
    assert ours.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.06 * width)
    assert math.isnan(ours.p_value)


def test_median_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for seed in range(400):
        effect = median_effect(
            rng.exponential(1.0, 150), rng.exponential(1.0, 150), seed=seed, resamples=1000
        )
        covered += not effect.significant
    assert 0.92 <= covered / 400 <= 0.99


def test_cuped_by_hand() -> None:
    before = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    values = np.array([3.0, 5.0, 7.0, 9.0, 4.0])  # 1 + 2 * before, and one without
    np.testing.assert_allclose(cuped(values, before), [6.0, 6.0, 6.0, 6.0, 4.0])
    np.testing.assert_array_equal(cuped(values, np.full(5, 2.0)), values)
    np.testing.assert_array_equal(cuped(values, np.full(5, np.nan)), values)


def test_cuped_narrows_the_interval_and_keeps_the_effect() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(5.0, 2.0, 4000)
    treated = np.arange(4000) % 2 == 1
    values = before + rng.normal(0.0, 1.0, 4000) + 0.3 * treated
    plain = mean_effect(values[~treated], values[treated])
    sharp = mean_effect(*(cuped(values, before)[side] for side in (~treated, treated)))
    assert sharp.high - sharp.low < 0.55 * (plain.high - plain.low)
    assert sharp.low < 100 * 0.3 / 5.0 < sharp.high


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for before, after in zip(p_values, adjusted, strict=True):
        assert before <= after <= min(1.0, before * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_sample_ratio_by_hand() -> None:
    # Expected 500 each: chi-square 2 * 40 ** 2 / 500 = 6.4 at one degree of freedom.
    assert sample_ratio([540, 460], [1, 1]) == pytest.approx(float(stats.chi2.sf(6.4, 1)))
    assert sample_ratio([750, 250], [0.75, 0.25]) == 1.0
    assert sample_ratio([5300, 4700], [1, 1]) < 1e-6


def test_no_effect_is_found_five_times_in_a_hundred() -> None:
    """A/A: the same listeners split by the service's own rule, under many names."""
    world = generate(1000, 1200, seed=5)
    values = simulate(world, RandomTracks(world, 0), seed=1).session_times
    users = [str(user) for user in world.listeners.users.tolist()]
    found = 0
    for number in range(600):
        salt = mmh3.hash(f"experiment-{number}", signed=False)
        side = np.array([mmh3.hash(user, salt, signed=False) % 2 for user in users])
        found += mean_effect(values[side == 0], values[side == 1]).significant
    # 99.9% of binomial(600, 0.05) lies here.
    assert 14 <= found <= 49
