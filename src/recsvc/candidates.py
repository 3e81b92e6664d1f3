"""What a recommender may serve: tracks with weights, packed as the session store takes them."""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsvc.tracks import Ids, pack_tracks, unpack_tracks

__all__ = ["SEVERAL", "SIEVE", "Candidates"]

Floats = npt.NDArray[np.floating]

_DOUBLE = struct.Struct("<d")
_FLOAT64 = np.dtype("<f8")
SIEVE = 512
"""Bytes."""
SEVERAL = 255
"""What stands in a sieve for tracks that differ."""


class Candidates:
    """What one recommender may serve: tracks with positive weights, in a fixed order.

    Ids and weights are sequences or arrays `[k]`. Immutable by convention. Most are made only to
    be drawn from and sent to the store, so they are kept as bytes, and lists of them are made when
    somebody asks.
    """

    __slots__ = ("cumulative", "packed")

    def __init__(self, tracks: Sequence[int] | Ids, weights: Sequence[float] | Floats) -> None:
        floats, ids = np.asarray(weights, _FLOAT64), np.asarray(tracks, np.int64)
        # Not a list: thousands of these may be kept, and the garbage collector looks into lists.
        self.cumulative = array("d", np.add.accumulate(floats).tobytes())
        self.packed = pack_tracks(ids) + floats.tobytes() + _DOUBLE.pack(self.total) + _sieve(ids)
        """The ids as int64, then the weights and their sum as float64, all little-endian, then
        what rules nearly all other tracks out: 512 bytes. That by a track's lowest nine bits (its
        index is twice the lowest byte, and the lowest bit of the next) has the next seven and one;
        0 for no track, or SEVERAL."""

    @classmethod
    def of_packed(cls, packed: bytes, cumulative: "array[float]") -> "Candidates":
        """Return what has been packed and summed up elsewhere."""
        made = cls.__new__(cls)
        made.packed, made.cumulative = packed, cumulative
        return made

    def of(self, tracks: bytes) -> "Candidates":
        """Return as many other tracks, packed, with these weights, and with no bytes behind."""
        return self.of_packed(tracks + self.packed[len(tracks) : -SIEVE], self.cumulative)

    def __len__(self) -> int:
        return len(self.cumulative)

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return self.cumulative[-1] if self.cumulative else 0.0

    @property
    def tracks(self) -> list[int]:
        """The ids."""
        return unpack_tracks(self.packed, len(self))

    @property
    def weights(self) -> list[float]:
        """The weights."""
        weights = np.frombuffer(self.packed, _FLOAT64, len(self), offset=8 * len(self))
        found: list[float] = weights.tolist()
        return found

    def pick(self, chance: float) -> int:
        """Return the index that `chance` picks in proportion to the weights; -1 of none."""
        sums = self.cumulative
        if not sums:
            return -1
        index = bisect_right(sums, chance * sums[-1])
        return index if index < len(sums) else len(sums) - 1  # the product may round up


def _sieve(ids: Ids) -> bytes:
    sieve = np.zeros(SIEVE, np.uint8)
    places, marks = 2 * (ids & 255) + (ids >> 8 & 1), 1 + (ids >> 9 & 127)
    sieve[places] = marks
    sieve[places[sieve[places] != marks]] = SEVERAL
    return sieve.tobytes()
