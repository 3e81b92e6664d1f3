"""Statistics of experiments: effects with intervals, and checks that they may be believed.

The formulas are scipy's. A listener is the unit: metrics are one number a listener, so
that the numbers compared are independent.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["Effect", "cuped", "holm", "mean_effect", "median_effect", "sample_ratio"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Effect:
    """How much a treatment moves a statistic, against control."""

    control: float
    treatment: float
    percent: float
    """Effect in percent of control; this and its interval are NaN where control is 0."""
    low: float
    high: float
    """The ends of its interval, in percent of control."""
    p_value: float
    """Of no effect; NaN for a median, which has only the interval."""
    difference: tuple[float, float]
    """The ends of the interval of treatment less control, which there is of a control of 0 too."""

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        low, high = self.difference
        return low > 0.0 or high < 0.0


def mean_effect(control: Array, treatment: Array, level: float = 0.95) -> Effect:
    """Compare the means of two independent samples of at least two values each.

    Welch's t-test: unequal variances, Satterthwaite's degrees of freedom. The interval is
    that of the difference, in percent of the control mean as it was observed.
    """
    base, treated = float(np.mean(control)), float(np.mean(treatment))
    if _constant(control) and _constant(treatment):
        # As when every listener had two sessions: there is no noise to test against.
        same = bool(np.isclose(base, treated, rtol=1e-9, atol=0.0))
        difference = 0.0 if same else treated - base
        return _effect(base, base + difference, (difference, difference), float(same))
    with warnings.catch_warnings():
        # scipy warns where one side alone is constant, whose variance is truly zero.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        result = stats.ttest_ind(treatment, control, equal_var=False)
        interval = result.confidence_interval(level)
    return _effect(base, treated, interval, float(result.pvalue))


def median_effect(
    control: Array, treatment: Array, *, seed: int, level: float = 0.95, resamples: int = 10_000
) -> Effect:
    """Compare the medians of two samples, with a percentile bootstrap interval."""
    rng = np.random.default_rng(seed)
    difference = _resampled_medians(treatment, resamples, rng)
    difference -= _resampled_medians(control, resamples, rng)
    tail = (1.0 - level) / 2.0
    base, interval = float(np.median(control)), np.quantile(difference, [tail, 1.0 - tail])
    return _effect(base, float(np.median(treatment)), interval, float("nan"))


def _constant(values: Array) -> bool:
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def _effect(base: float, treated: float, interval: Sequence[float] | Array, p: float) -> Effect:
    ends = float(interval[0]), float(interval[1])
    percent, low, high = (
        100.0 * d / base if base else float("nan") for d in (treated - base, *ends)
    )
    return Effect(base, treated, percent, low, high, p, ends)


def _resampled_medians(values: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Return the medians of so many resamples, without making the resamples.

    A resample draws n positions in the sorted sample; its k-th smallest value stands at
    position n * U, U the k-th smallest of n uniform numbers. That U has a beta
    distribution, so two draws do for n, and the law is the bootstrap's own.
    """
    ordered, n = np.sort(values), len(values)
    k = (n + 1) // 2
    lower = rng.beta(k, n - k + 1, size=resamples)
    median = ordered[np.minimum((lower * n).astype(np.int64), n - 1)].astype(np.float64)
    if n % 2 == 0:
        # Given the k-th, the next is the smallest of the n - k that lie above it.
        upper = lower + (1.0 - lower) * rng.beta(1, n - k, size=resamples)
        median += ordered[np.minimum((upper * n).astype(np.int64), n - 1)]
        median /= 2.0
    return median


def cuped(values: Array, before: Array) -> Array:
    """Take out of `values` `[u]` what `before`, the same listeners' pre-period, explains.

    All listeners of all treatments go in together. Who has no pre-period (NaN) is left as
    is. The mean stays, the variance falls by the squared correlation (Deng et al. 2013).
    """
    known = ~np.isnan(before) & ~np.isnan(values)
    if known.sum() < 3 or np.ptp(before[known]) == 0.0:
        return values
    slope = stats.linregress(before[known], values[known]).slope
    return np.asarray(values - slope * np.where(known, before - before[known].mean(), 0.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for how many there are (Holm 1979); in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the p-value of the listeners' split having come from the declared shares.

    Chi-square. A tiny one means that assignment or logging is broken, and that no effect
    is to be believed.
    """
    expected = np.asarray(shares, dtype=np.float64) / np.sum(shares) * np.sum(counts)
    return float(stats.chisquare(counts, expected).pvalue)
