"""The session model, pure: what a session is after, inferred from what was heard in it.

A track has a vector `v` and an offset `a`, a session a hidden taste `c` and a mood `b`. How
much of a track is heard is

    time = sigmoid(c · v + b + a + noise) * discount ** plays

where `plays` counts the earlier plays of its artist in the session. What is known of `(c, b)`
is a Gaussian. The first track sets its mean; every track heard moves it, by the update of a
Kalman filter on logit(time / discount ** plays). Where the time only says "at most" (heard
for 0.00) or "at least" (heard in full), the moments of the truncated Gaussian are taken
instead (Tobit filter): what was expected to fail and failed teaches nothing.

`d` is the length of `v`, and `k` = `d` + 1 that of `(c, b)`.

An invalid operation is not reported: a belief that comes from a store may hold any numbers, and
some kernels of OpenBLAS for narrow matrices (AVX-512, `k` of 5 to 7) raise the flag without
cause, for they add up what happens to lie on the stack, and throw it away.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.halves import widen

__all__ = ["Belief", "SessionModel", "logit_of", "predict", "prior", "update"]

Array = npt.NDArray[Any]

LEAST, MOST = 0.005, 0.995
"""Times are reported in steps of 0.01: below and above these a time is only a bound."""
_FARTHEST = 30.0  # logits and deviations beyond this are as good as this
_ROUNDING = 0.01**2 / 12.0  # variance of a time that was rounded to 2 decimals
_PROBIT = math.pi / 8.0  # E sigmoid(N(m, s2)) is about sigmoid(m / sqrt(1 + pi/8 s2)) (MacKay 1992)


@dataclass(frozen=True, slots=True, eq=False)
class SessionModel:
    """What was learnt of the tracks, and of sessions before anything is heard.

    Tracks lie in `leaves` of `size` similar ones each; the place of a track is its leaf times
    `size` plus where it lies inside. Places that are left over have zero vectors.
    """

    vectors: Array
    """`[leaves, size, k]` halves: the vector of each track, and its offset behind it."""
    centres: Array
    """`[leaves, k]` float32 that were halves: the mean of each leaf."""
    rows: Array
    """`[leaves * size]` int32: the track at each place, -1 at those left over."""
    places: Array
    """`[n]` int32: the place of each track."""
    opening: Array
    """`[k, k]` float64: from (time * v of the first track, 1) to the mean of (taste, mood)."""
    spread: Array
    """`[k, k]` float64: covariance of (taste, mood) around that mean."""
    noise: float
    """Variance of what the model cannot explain of a logit."""
    discount: float
    """What a time is multiplied with for each earlier play of the artist, 0 to 1."""

    def direction(self, row: int) -> Array:
        """Return `(v, 1)` of a track, `[k]` float64: how its logit depends on (taste, mood)."""
        found: Array = widen(self._flat()[self.places[row]]).astype(np.float64)
        found[-1] = 1.0
        return found

    def offset(self, row: int) -> float:
        """Return the offset of a track."""
        return float(widen(self._flat()[self.places[row], -1]))

    def at(self, places: Array) -> Array:
        """Return the vectors of the tracks at `places` `[...]`, offsets behind them, `[..., k]`."""
        return widen(self._flat().take(places, axis=0))

    def _flat(self) -> Array:
        return self.vectors.reshape(-1, self.vectors.shape[2])


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is known of a session: (taste, mood) is Gaussian with `mean` and `covariance`.

    `[k]` and `[k, k]`, both float64, or float32 when they have been stored.
    """

    mean: Array
    covariance: Array


def prior(model: SessionModel, first: int | None, time: float) -> Belief:
    """Return what is known of a session that began with track `first`, heard for `time`.

    None is a track that the model does not know.
    """
    start = np.zeros(len(model.opening))
    if first is not None:
        start[:] = model.direction(first) * time
    start[-1] = 1.0
    return Belief(model.opening @ start, model.spread)


def logit_of(time: float, share: float) -> tuple[float, float, int]:
    """Return the logit that a time of at most `share` tells of, how exactly, and on which side.

    The second is the variance that rounding adds. The third is 0 where the logit is as given,
    -1 where it is that or less, 1 where it is that or more.
    """
    fraction = time / share
    side = -1 if time < LEAST else 1 if fraction > MOST - 0.001 else 0
    fraction = min(max(fraction, LEAST), MOST)
    slope = share * fraction * (1.0 - fraction)
    return math.log(fraction / (1.0 - fraction)), _ROUNDING / slope**2, side


@np.errstate(invalid="ignore")
def update(model: SessionModel, belief: Belief, row: int, time: float, plays: int) -> Belief:
    """Return the belief after track `row` was heard for `time`, its artist `plays` times before.

    With a discount of 0 a further play of an artist says nothing.
    """
    share = model.discount**plays
    if share < LEAST:
        return belief
    logit, rounding, side = logit_of(time, share)
    x = model.at(model.places[row]).astype(belief.mean.dtype, copy=False)
    offset, x[-1] = float(x[-1]), 1.0
    gain = belief.covariance @ x
    # A belief that comes from a store may be none: what it says of itself is not trusted.
    variance = max(float(x @ gain), 0.0) + rounding + model.noise
    error = logit - offset - float(belief.mean @ x)
    if side:
        shift, shrink = _truncated(error, math.sqrt(variance), side)
    else:
        shift, shrink = error / variance, 1.0 / variance
    return Belief(
        belief.mean + gain * shift,
        belief.covariance - gain[:, None] * (gain * shrink),
    )


@np.errstate(invalid="ignore")
def predict(model: SessionModel, belief: Belief, places: Array) -> tuple[Array, Array, Array]:
    """Return how much of the tracks at `places` `[m]` will be heard, by an artist not yet played.

    The first is the expected time, then come the mean and the standard deviation of its logit;
    all `[m]`, floats as the belief's are.
    """
    found = model.at(places)
    offsets = found[:, -1].copy()
    found[:, -1] = 1.0
    logits = found @ belief.mean + offsets
    variance = np.vecdot(found @ belief.covariance, found) + model.noise
    variance = np.maximum(variance, 0.0)
    expected = logits / np.sqrt(1.0 + _PROBIT * variance)
    times = 1.0 / (1.0 + np.exp(-np.maximum(expected, -_FARTHEST)))
    return times, logits, np.sqrt(variance)


def _truncated(error: float, deviation: float, side: int) -> tuple[float, float]:
    """Return what takes the place of `error / variance` and `1 / variance` for a mere bound.

    With `z` the bound in standard deviations and `h` = pdf(z) / cdf(z), the mean of a Gaussian
    below its bound falls by `h` deviations, and its variance by the share `h * (h + z)`.
    """
    z = min(max(-side * error / deviation, -_FARTHEST), _FARTHEST)
    hazard = math.exp(-0.5 * z * z) / (math.sqrt(math.pi / 2.0) * math.erfc(-z / math.sqrt(2.0)))
    return side * hazard / deviation, hazard * (hazard + z) / deviation**2
