"""How often and how well each track was heard, and the tracks that were heard most."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.sessions import Sessions

__all__ = ["Popular", "Settings", "Statistics", "count", "most_heard"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the popular list is made."""

    size: int = 200
    """Length of the list."""
    least_weight: float = 1e-3
    """Weight of a track that was played but never heard; all weights are positive."""


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What the log says of each track; all arrays are `[n]`."""

    plays: Array
    """int32: how often it was heard."""
    mean_time: Array
    """float32: mean observed time; the overall mean where there is none."""
    total_time: Array
    """float64: sum of observed times."""


@dataclass(frozen=True, slots=True, eq=False)
class Popular:
    """The most played tracks, the most played first; both arrays are `[p]`."""

    indices: Array
    weights: Array


def count(sessions: Sessions, tracks: int) -> Statistics:
    """Count a log over a catalogue of so many tracks."""
    track, time = sessions.track[sessions.known], sessions.time[sessions.known]
    plays = np.bincount(track, minlength=tracks)
    total = np.bincount(track, weights=time, minlength=tracks)
    overall = total.sum() / max(plays.sum(), 1)
    mean = np.divide(total, plays, out=np.full(tracks, overall), where=plays > 0)
    return Statistics(
        plays=plays.astype(np.int32),
        mean_time=np.clip(mean, 0.0, 1.0).astype(np.float32),
        total_time=total,
    )


def most_heard(statistics: Statistics, settings: Settings) -> Popular:
    """Return the most played tracks, weighted by the total time they were heard.

    Of equally played tracks the lower index comes first; unplayed ones are left out.
    """
    plays = statistics.plays.astype(np.int64)
    order = np.argsort(-plays, kind="stable")[: settings.size]
    order = order[plays[order] > 0]
    weights = np.maximum(statistics.total_time[order], settings.least_weight)
    return Popular(order.astype(np.int32), weights.astype(np.float32))
