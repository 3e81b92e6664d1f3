"""Ids of tracks as the session store keeps them: 8 bytes each, little-endian, end to end."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Ids", "pack_tracks", "packed_tracks", "unpack_tracks"]

Ids = npt.NDArray[np.int64]

_INT64 = np.dtype("<i8")  # made anew from a name each time


def pack_tracks(tracks: Sequence[int] | Ids) -> bytes:
    """Write ids."""
    return np.asarray(tracks, _INT64).tobytes()


def packed_tracks(packed: bytes, count: int = -1) -> Ids:
    """Return `count` ids, or all, where they are."""
    return np.frombuffer(packed, _INT64, count)


def unpack_tracks(packed: bytes, count: int = -1) -> list[int]:
    """Read `count` ids, or all."""
    found: list[int] = packed_tracks(packed, count).tolist()
    return found
