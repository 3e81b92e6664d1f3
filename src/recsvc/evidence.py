"""What a session keeps of what was heard in it, as bytes beside the session.

The belief is kept so that a call costs one update, however long the session. What was heard is
kept so that another model can form a belief of its own: a belief is worth nothing to a model
that did not make it. Bytes from the store are untrusted: what cannot be read is no evidence.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mmh3
import numpy as np
import numpy.typing as npt

from recsvc.shortlist import NO_SHORTLIST, Shortlist
from recsvc.taste import Belief

__all__ = ["MOST_HEARD", "NO_EVIDENCE", "Evidence", "checked", "pack", "signed", "unpack"]

Array = npt.NDArray[Any]

MOST_HEARD = 300
"""Tracks kept; of more the first and the latest. 9 bytes each."""

_MOST_NUMBER = int(np.float32(1e6).view(np.uint32))  # no belief holds a larger one
# A checksum of all that follows; the model's version; k, tracks heard, and of the shortlist
# its size and its age.
_SUM, _HEAD = 8, struct.Struct("<8x16sHHHH")
_FLOAT32, _INT64, _UINT32, _UINT16 = (np.dtype(name) for name in ("<f4", "<i8", "<u4", "<u2"))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was heard, in order, and what a model made of it.

    `tracks` `[h]` int64 are ids, `times` `[h]` float64. `belief` is that of the model
    `version`, after all of them; None before there is one. `shortlist` is what that model
    found worth a closer look.
    """

    tracks: Array
    times: Array
    version: str = ""
    belief: Belief | None = None
    shortlist: Shortlist = NO_SHORTLIST

    def __len__(self) -> int:
        return len(self.tracks)

    def with_heard(self, track: int, time: float) -> "Evidence":
        """Return the evidence with one more track heard, and no belief yet."""
        kept = len(self.tracks)
        tracks, times = np.empty(kept + 1, dtype=np.int64), np.empty(kept + 1)
        tracks[:-1], tracks[-1] = self.tracks, track
        times[:-1], times[-1] = self.times, time
        if kept >= MOST_HEARD:
            # The first track set the prior: it stays.
            tracks, times = np.delete(tracks, 1), np.delete(times, 1)
        return Evidence(tracks, times)

    def with_belief(self, version: str, belief: Belief, found: Shortlist) -> "Evidence":
        """Return the evidence with what a model made of it."""
        return Evidence(self.tracks, self.times, version, belief, found)

    def with_shortlist(self, found: Shortlist) -> "Evidence":
        """Return the evidence with another shortlist."""
        return Evidence(self.tracks, self.times, self.version, self.belief, found)


NO_EVIDENCE = Evidence(np.zeros(0, dtype=np.int64), np.zeros(0))


@lru_cache(maxsize=8)
def _upper(k: int) -> Array:
    """Return where the upper triangle of a `[k, k]` matrix lies in it."""
    rows, columns = np.triu_indices(k)
    return np.asarray(rows * k + columns)


@lru_cache(maxsize=8)
def _places(k: int) -> Array:
    """Return where each element of a symmetric `[k, k]` matrix lies in its upper triangle."""
    places = np.zeros((k, k), dtype=np.int64)
    places.ravel()[_upper(k)] = np.arange(k * (k + 1) // 2)
    return np.maximum(places, places.T)


def pack(evidence: Evidence) -> bytes:
    """Write evidence with its belief as bytes; `unpack` is the inverse, in single precision."""
    if evidence.belief is None:
        raise ValueError("evidence without a belief is not kept")
    mean, covariance = evidence.belief.mean, evidence.belief.covariance
    k, count, found = len(mean), len(evidence), evidence.shortlist
    head = _HEAD.pack(evidence.version.encode(), k, count, len(found.places), found.age)
    content = b"".join(
        (
            head[_SUM:],
            evidence.tracks.astype(_INT64, copy=False).tobytes(),
            mean.astype(_FLOAT32, copy=False).tobytes(),
            covariance.take(_upper(k)).astype(_FLOAT32, copy=False).tobytes(),
            found.places.astype(_UINT32, copy=False).tobytes(),
            found.plays.astype(_UINT16, copy=False).tobytes(),
            np.rint(evidence.times * 100.0).astype(np.uint8).tobytes(),
        )
    )
    return signed(content)


def signed(content: bytes | memoryview) -> bytes:
    """Write what comes behind the checksum with the checksum."""
    return _checksum(content) + content


def checked(data: bytes) -> bool:
    """Tell whether the checksum holds."""
    return data[:_SUM] == _checksum(memoryview(data)[_SUM:])


def unpack(data: bytes | None) -> Evidence:
    """Read evidence; what is not valid evidence is none."""
    if not data or len(data) < _HEAD.size or not checked(data):
        return NO_EVIDENCE
    version, k, count, found, age = _HEAD.unpack_from(data)
    numbers = k + k * (k + 1) // 2  # the mean, and the upper triangle of the covariance
    at_state = _HEAD.size + 8 * count
    at_places = at_state + 4 * numbers
    at_plays = at_places + 4 * found
    at_times = at_plays + 2 * found
    if len(data) != at_times + count or k < 2:
        return NO_EVIDENCE
    state = np.frombuffer(data, _FLOAT32, numbers, at_state)
    times = np.frombuffer(data, np.uint8, count, at_times)
    places = np.frombuffer(data, _UINT32, found, at_places)
    # As integers: what is not a number is to be found before it is calculated with.
    if np.maximum.reduce(state.view(_UINT32) & 0x7FFFFFFF) > _MOST_NUMBER:
        return NO_EVIDENCE
    covariance = state[k:].take(_places(k))
    if covariance.diagonal().min() <= 0.0 or times.max(initial=0) > 100:
        return NO_EVIDENCE
    if not (places[1:] > places[:-1]).all():  # nothing is offered twice
        return NO_EVIDENCE
    return Evidence(
        np.frombuffer(data, _INT64, count, _HEAD.size),
        times / 100.0,
        version.rstrip(b"\0").decode(errors="replace"),
        Belief(state[:k], covariance),
        Shortlist(places, np.frombuffer(data, _UINT16, found, at_plays), age),
    )


def _checksum(content: bytes | memoryview) -> bytes:
    return mmh3.mmh3_x64_128_digest(content)[:_SUM]
