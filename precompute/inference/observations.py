"""What a log says of sessions, as the session model sees it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.errors import TrainingError
from precompute.sessions import Sessions

__all__ = ["Observations", "observe"]

Array = npt.NDArray[Any]

_LIKED = 0.5  # a first track heard for less does not tell what the session is after


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """The tracks heard in `s` sessions, the first track of each apart. `rows` observations.

    Sorted by session, in it by time. Repeats of a track are left out: of them the time says
    nothing.
    """

    session: Array
    """`[rows]` int64, ascending."""
    track: Array
    """`[rows]` int64: index into the catalogue."""
    time: Array
    """`[rows]` float32."""
    plays: Array
    """`[rows]` int64: how often the artist was played before in the session."""
    first: Array
    """`[s]` int64: the track that each session began with, -1 where the catalogue lacks it."""
    first_time: Array
    """`[s]` float32: how much of it was heard."""
    valid: Array
    """`[s]` bool: the session is for validation."""
    interest: Array
    """`[s]` int64: what each session is after; those of one number are taken to be after the same.

    They are of one listener and began with tracks of one artist, each heard for half or more.
    In the order of their earliest sessions.
    """

    def __len__(self) -> int:
        return len(self.track)

    @property
    def count(self) -> int:
        """How many sessions there are."""
        return len(self.first)

    def among(self, chosen: Array) -> "Observations":
        """Return the sessions that `chosen` `[s]` marks, numbered anew."""
        rows = chosen[self.session]
        number = np.cumsum(chosen) - 1
        return Observations(
            number[self.session[rows]],
            self.track[rows],
            self.time[rows],
            self.plays[rows],
            self.first[chosen],
            self.first_time[chosen],
            self.valid[chosen],
            self.interest[chosen],
        )


def observe(sessions: Sessions, artist: Array) -> Observations:
    """Take a log apart for the session model; `artist` `[n]` is the artist of each track.

    Raises `TrainingError` when no session has more than its first track.
    """
    session = sessions.session.astype(np.int64)
    track = sessions.track.astype(np.int64)
    begins = np.ones(len(session), dtype=bool)
    begins[1:] = session[1:] != session[:-1]
    known = track >= 0
    fresh, plays = np.zeros(len(session), dtype=bool), np.zeros(len(session), dtype=np.int64)
    fresh[known] = _earlier(session[known], track[known]) == 0
    plays[known] = _earlier(session[known], artist[track[known]].astype(np.int64))
    kept = fresh & ~begins
    if not kept.any():
        raise TrainingError("no session in the log has more than one track")
    first, first_time = track[begins], sessions.time[begins]
    return Observations(
        session=session[kept],
        track=track[kept],
        time=sessions.time[kept],
        plays=plays[kept],
        first=first,
        first_time=first_time,
        valid=sessions.valid[begins],
        interest=_interests(sessions.user[begins], first, first_time, artist),
    )


def _interests(user: Array, first: Array, first_time: Array, artist: Array) -> Array:
    """Number what sessions are after, `[s]`; see `Observations.interest`."""
    listener_and_artist = user.astype(np.int64) * (len(artist) + 1) + artist[first]
    alone = -1 - np.arange(len(first))
    told = (first >= 0) & (first_time >= _LIKED)
    keys = np.where(told, listener_and_artist, alone)
    _, earliest, number = np.unique(keys, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(earliest))[number]


def _earlier(groups: Array, values: Array) -> Array:
    """Return how often each row's value occurred before in its group; rows are in order."""
    order = np.lexsort((values, groups))  # stable: equal ones stay in order
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (np.diff(groups[order]) != 0) | (np.diff(values[order]) != 0)
    number = np.arange(len(order))
    earlier = np.empty(len(order), dtype=np.int64)
    earlier[order] = number - np.maximum.accumulate(np.where(starts, number, 0))
    return earlier
