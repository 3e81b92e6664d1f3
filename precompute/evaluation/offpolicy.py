"""What another policy would have earned, from the log of the one that ran.

Each impression says with what probability (propensity) its track was served. Weighing it
by target probability / propensity makes the log look as if the target policy had chosen.
The value is the mean time of a served track on the states of the log; a target that would
lead listeners into other states is judged only as far as that goes.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from precompute.evaluation.events import Events
from recsvc.errors import RecsvcError

__all__ = ["Estimate", "Impressions", "Model", "OffPolicyError", "estimate", "impressions"]

Array = npt.NDArray[Any]


class OffPolicyError(RecsvcError):
    """A log cannot be used for an estimate; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Impressions:
    """Tracks that were served and then heard; all arrays are `[rows]`."""

    user: Array
    """int64."""
    session: Array
    """int64: number of the session."""
    anchor: Array
    """int64: the track that was heard when the next was asked for."""
    anchor_time: Array
    """float64: how much of it was heard."""
    served: Array
    """int64: the track that was served."""
    propensity: Array
    """float64: with what probability."""
    time: Array
    """float64, the reward: how much of it was heard."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model of the reward, for the doubly robust estimate; arrays are `[rows]`."""

    served: Array
    """Predicted time of the track that was served."""
    target: Array
    """Predicted time of what the target policy would serve, averaged over its choice."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The value of a target policy, with its 95% interval."""

    value: float
    low: float
    high: float
    effective: float
    """How many impressions of the target policy itself the log is worth (Kish)."""


def impressions(events: Events) -> Impressions:
    """Pair each served track with the event that tells how it was heard.

    Left out: impressions without a propensity, and those whose track was not the next one
    heard in the session.
    """
    here, following = slice(None, -1), slice(1, None)
    paired = (
        (events.session[here] == events.session[following])
        & (events.recommendation[here] == events.track[following])
        & ~np.isnan(events.propensity[here])
    )
    return Impressions(
        user=events.user[here][paired],
        session=events.session[here][paired],
        anchor=events.track[here][paired],
        anchor_time=events.time[here][paired],
        served=events.track[following][paired],
        propensity=events.propensity[here][paired],
        time=events.time[following][paired],
    )


def estimate(
    rewards: Array,
    propensities: Array,
    target: Array,
    *,
    clusters: Array | None = None,
    model: Model | None = None,
    method: Literal["ips", "snips", "dr"] = "snips",
    level: float = 0.95,
) -> Estimate:
    """Estimate the mean reward under a policy that serves what was served with `target`.

    `rewards`, `propensities` and `target` (probabilities) are `[rows]`. `clusters` says
    which rows belong together, as those of one listener do: they are not independent, and
    the interval must know. `ips` is unbiased; `snips` divides by the weights' own mean,
    and varies less; `dr` corrects a `model` of the reward, and varies least if it is good.

    Raises `OffPolicyError` for a propensity outside (0, 1], fewer than two clusters, or a
    target that shares nothing with the log.
    """
    _check(propensities, target, method, model)
    weights = target / propensities
    match method:
        case "ips":
            terms, scale = weights * rewards, np.ones_like(weights)
        case "snips":
            terms, scale = weights * rewards, weights
        case "dr" if model is not None:
            terms = model.target + weights * (rewards - model.served)
            scale = np.ones_like(weights)
    total, size = _sum_by(clusters, terms), _sum_by(clusters, scale)
    if len(total) < 2:
        raise OffPolicyError("an interval needs at least two clusters")
    if not size.sum() > 0 or not weights.sum() > 0:
        raise OffPolicyError("the target policy would serve nothing of what the log has")
    value = float(total.sum() / size.sum())
    # A ratio of sums over clusters, and its variance by the delta method.
    m = len(total)
    residual = total - value * size
    error = float(np.sqrt(m / (m - 1) * (residual**2).sum()) / size.sum())
    reach = float(stats.t.ppf(0.5 + level / 2.0, m - 1)) * error
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return Estimate(value, value - reach, value + reach, effective)


def _sum_by(clusters: Array | None, values: Array) -> Array:
    if clusters is None:
        return values
    _, index = np.unique(clusters, return_inverse=True)
    return np.bincount(index, weights=values)


def _check(propensities: Array, target: Array, method: str, model: Model | None) -> None:
    if not bool(((propensities > 0) & (propensities <= 1)).all()):
        raise OffPolicyError("a propensity is not in (0, 1]")
    if not bool(((target >= 0) & (target <= 1)).all()):
        raise OffPolicyError("a target probability is not in 0..1")
    if (method == "dr") != (model is not None):
        raise OffPolicyError("a model of the reward goes with the method dr, and only with it")
