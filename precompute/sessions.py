"""A log cut into sessions, the sessions into transitions, and both split by time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.catalogue import Catalogue
from precompute.errors import TrainingError
from precompute.log import Log

__all__ = ["Sessions", "Settings", "Transitions", "arrange", "transitions"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session is, and how many of them are kept for validation."""

    idle_minutes: float = 30.0
    """A listener who says nothing for longer starts a new session."""
    valid_share: float = 0.1
    """This share of the sessions, the latest to begin, is for validation."""


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """All events by listener, then time. `rows` events, `s` sessions, `u` listeners."""

    users: Array
    """`[u]` int64: the listeners' ids, ascending."""
    user: Array
    """`[rows]` int32: index into `users`."""
    track: Array
    """`[rows]` int32: index into the catalogue, -1 where it lacks the track."""
    time: Array
    """`[rows]` float32."""
    session: Array
    """`[rows]` int64: number of the session, `0..s-1`, ascending."""
    valid: Array
    """`[rows]` bool: the session is for validation."""

    @property
    def count(self) -> int:
        """How many sessions there are."""
        return int(self.session[-1]) + 1 if len(self.session) else 0

    @property
    def known(self) -> Array:
        """`[rows]` bool: the catalogue has the track."""
        return np.asarray(self.track >= 0)


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """What was heard after what; all arrays are `[rows]`."""

    previous: Array
    """int32: index of the track heard just before in the same session."""
    next: Array
    """int32: index of the track heard then."""
    time: Array
    """float32: how much of `next` was heard."""
    previous_time: Array
    """float32: how much of `previous` had been."""
    valid: Array
    """bool: the row is for validation."""


def arrange(log: Log, catalogue: Catalogue, settings: Settings | None = None) -> Sessions:
    """Sort a log into sessions.

    A session ends at a `last` event, and before an event that comes more than
    `idle_minutes` after the one before it. Events of the same listener and millisecond
    stay in the order of the log. Raises `TrainingError` when the catalogue lists none
    of the log's tracks.
    """
    settings = settings or Settings()
    order = np.lexsort((log.timestamp, log.user))  # stable
    timestamp, user = log.timestamp[order], log.user[order]
    track = catalogue.index(log.track[order])
    if not (track >= 0).any():
        raise TrainingError("the catalogue lists none of the tracks in the log")
    begins = np.ones(len(user), dtype=bool)
    begins[1:] = (
        (user[1:] != user[:-1])
        | log.is_last[order][:-1]
        | (timestamp[1:] - timestamp[:-1] > settings.idle_minutes * 60_000)
    )
    session = np.cumsum(begins) - 1
    users, index = np.unique(user, return_inverse=True)
    return Sessions(
        users=users,
        user=index.astype(np.int32),
        track=track,
        time=log.time[order],
        session=session,
        valid=_latest(timestamp[begins], settings.valid_share)[session],
    )


def transitions(sessions: Sessions) -> Transitions:
    """Pair each event with the one before it in its session.

    An event whose track the catalogue lacks is part of no pair; its neighbours in time
    are not paired over it, since the listener did not hear them one after the other.
    """
    track, session = sessions.track, sessions.session
    paired = (session[1:] == session[:-1]) & (track[1:] >= 0) & (track[:-1] >= 0)
    return Transitions(
        previous=track[:-1][paired],
        next=track[1:][paired],
        time=sessions.time[1:][paired],
        previous_time=sessions.time[:-1][paired],
        valid=sessions.valid[1:][paired],
    )


def _latest(starts: Array, share: float) -> Array:
    """Mark the latest `share` of some start times; of equal ones the later in the array."""
    held = int(len(starts) * share)
    marked = np.zeros(len(starts), dtype=bool)
    marked[np.argsort(starts, kind="stable")[len(starts) - held :]] = True
    return marked
