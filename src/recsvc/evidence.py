"""What a session keeps of what was heard in it, as bytes beside the session.

The belief is kept so that a call costs one update, however long the session. What was heard is
kept so that another model can form a belief of its own: a belief is worth nothing to a model
that did not make it. Bytes from the store are untrusted: what cannot be read is no evidence.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.taste import Belief

__all__ = ["MOST_HEARD", "NO_EVIDENCE", "Evidence", "pack", "unpack"]

Array = npt.NDArray[Any]

MOST_HEARD = 300
"""Tracks kept; of more the first and the latest. 9 bytes each."""

_MOST_NUMBER = 1e6  # no belief holds a larger one
_HEAD = struct.Struct("<16sHH")  # the model's version, k, number of tracks


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was heard, in order, and what a model made of it.

    `tracks` `[h]` int64 are ids, `times` `[h]` float64. `belief` is that of the model
    `version`, after all of them; None before there is one.
    """

    tracks: Array
    times: Array
    version: str = ""
    belief: Belief | None = None

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
    return b"".join(
        (
            _HEAD.pack(evidence.version.encode(), len(mean), len(evidence)),
            mean.astype("<f4").tobytes(),
            covariance.ravel()[_upper(len(mean))].astype("<f4").tobytes(),
            evidence.tracks.astype("<i8").tobytes(),
            np.rint(evidence.times * 100.0).astype(np.uint8).tobytes(),
        )
    )


def unpack(data: bytes | None) -> Evidence:
    """Read evidence; what is not valid evidence is none."""
    if not data or len(data) < _HEAD.size:
        return NO_EVIDENCE
    version, k, count = _HEAD.unpack_from(data)
    sizes = (4 * k, 2 * k * (k + 1), 8 * count, count)
    if len(data) != _HEAD.size + sum(sizes) or k < 2:
        return NO_EVIDENCE
    ends = [*accumulate((_HEAD.size, *sizes))]
    mean, upper, tracks, times = (
        np.frombuffer(data[start:end], dtype=kind)
        for start, end, kind in zip(ends, ends[1:], ("<f4", "<f4", "<i8", "u1"), strict=False)
    )
    # What is not a number compares as false, and is to be found before it is calculated with.
    if not (np.abs(mean).max() < _MOST_NUMBER and np.abs(upper).max() < _MOST_NUMBER):
        return NO_EVIDENCE
    covariance = upper[_places(k)].astype(np.float64)
    if covariance.diagonal().min() <= 0.0 or times.max(initial=0) > 100:
        return NO_EVIDENCE
    belief = Belief(mean.astype(np.float64), covariance)
    return Evidence(tracks, times / 100.0, version.rstrip(b"\0").decode(errors="replace"), belief)
