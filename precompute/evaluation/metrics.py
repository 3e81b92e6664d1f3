"""Metrics of listeners: what an experiment compares, one number a listener."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.evaluation.events import Events

__all__ = ["LOWER_IS_BETTER", "METRICS", "ListenerMetrics", "listener_metrics", "measure"]

METRICS = (
    "mean_time_per_session",
    "mean_tracks_per_session",
    "time",
    "sessions",
    "mean_request_latency",
)
"""The metrics, the one that decides first. Times are in tracks, latency in seconds."""

LOWER_IS_BETTER = frozenset({"mean_request_latency"})

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ListenerMetrics:
    """The metrics of the `u` listeners of an experiment."""

    users: Array
    """`[u]` int64, ascending."""
    treatment: Array
    """`[u]` int32: index into `treatments`."""
    treatments: tuple[str, ...]
    values: Mapping[str, Array]
    """Metric -> `[u]` float64; NaN where a listener has none (no latency logged)."""
    before: Mapping[str, Array]
    """The same, from the events of the same listeners that precede the experiment."""
    contaminated: int
    """Listeners left out because they had more than one treatment."""


def measure(events: Events) -> ListenerMetrics:
    """Compute the metrics of every listener that the experiment has exactly one treatment for.

    Events that precede a listener's first event in the experiment are its pre-period;
    later ones outside the experiment are left out.
    """
    inside = events.treatment >= 0
    users, index = np.unique(events.user[inside], return_inverse=True)
    lowest = np.full(len(users), np.iinfo(np.int32).max, dtype=np.int32)
    highest = np.full(len(users), -1, dtype=np.int32)
    began = np.full(len(users), np.iinfo(np.int64).max)
    np.minimum.at(lowest, index, events.treatment[inside])
    np.maximum.at(highest, index, events.treatment[inside])
    np.minimum.at(began, index, events.timestamp[inside])
    clean = lowest == highest
    users, began = users[clean], began[clean]
    before = ~inside & _precedes(events, users, began)
    return ListenerMetrics(
        users=users,
        treatment=lowest[clean],
        treatments=events.treatments,
        values=listener_metrics(events, inside, users),
        before=listener_metrics(events, before, users),
        contaminated=int((~clean).sum()),
    )


def listener_metrics(events: Events, chosen: Array, users: Array) -> dict[str, Array]:
    """Compute metric -> `[u]` for `users` (ascending), from the `chosen` events alone."""
    place = _place(users, events.user)
    chosen = chosen & (place >= 0)
    who, size = place[chosen], len(users)
    sessions = _count_sessions(events, chosen, place, size)
    time = np.bincount(who, weights=events.time[chosen], minlength=size)
    tracks = np.bincount(who, minlength=size).astype(np.float64)
    timed = chosen & ~np.isnan(events.latency)
    requests = np.bincount(place[timed], minlength=size)
    latency = np.bincount(place[timed], weights=events.latency[timed], minlength=size)
    some = sessions > 0
    return {
        "mean_time_per_session": _ratio(time, sessions),
        "mean_tracks_per_session": _ratio(tracks, sessions),
        "time": np.where(some, time, np.nan),
        "sessions": np.where(some, sessions, np.nan),
        "mean_request_latency": _ratio(latency, requests),
    }


def _count_sessions(events: Events, chosen: Array, place: Array, size: int) -> Array:
    """Return `[size]`: how many sessions each listener has among the chosen events."""
    _, first = np.unique(events.session[chosen], return_index=True)
    return np.bincount(place[chosen][first], minlength=size).astype(np.float64)


def _precedes(events: Events, users: Array, began: Array) -> Array:
    place = _place(users, events.user)
    return np.asarray((place >= 0) & (events.timestamp < np.append(began, 0)[place]))


def _place(users: Array, wanted: Array) -> Array:
    """Return where each wanted id is among the ascending `users`, -1 where it is not."""
    if not len(users):
        return np.full(len(wanted), -1)
    places = np.searchsorted(users, wanted).clip(max=len(users) - 1)
    return np.where(users[places] == wanted, places, -1)


def _ratio(total: Array, count: Array) -> Array:
    nothing = np.full(len(total), np.nan)
    return np.asarray(np.divide(total, count, out=nothing, where=count > 0))
