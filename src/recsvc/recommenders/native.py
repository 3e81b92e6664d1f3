"""`inference` as compiled code, where the install could compile it: a quarter of the time.

Without `inference.c`, or for a call that it leaves, the Python answers.
"""

import ctypes
from typing import Any

import numpy as np

from recsvc.evidence import MOST_HEARD, checked, signed
from recsvc.recommenders.forecast import Forecast
from recsvc.shortlist import MOST_TRACKS, discounts_by_plays
from recsvc.table import Array, Table
from recsvc.taste import SessionModel

__all__ = ["Native"]

_MOST = 4096  # tracks of a shortlist, and that went out: where there are more, the Python answers
_VERSION = 16  # bytes of a table's version
_LANES = 16  # vectors that are multiplied at once
_CHECKSUM = 8  # bytes, which are ours to fill in

_SIZES = ("n", "leaves", "size", "k")
_KNOWN = {
    "ids": np.int64,
    "artist": np.int32,
    "place": np.int32,
    "row_at": np.int32,
    "artist_at": np.int32,
    "vectors": np.uint16,
    "centres": np.uint32,
    "opening": np.float64,
    "spread": np.float64,
    "discounts": np.float32,
}
_RESULTS = ("kept", "tracks", "numbers", "found")
_WORK = {
    "plays": np.uint16,
    "worth": np.float32,
    "keys": np.int32,
    "chosen": np.int32,
    "leaf": np.int32,
    "gone": np.int32,
}


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in (*_KNOWN, *_WORK, *_RESULTS)),
        ("noise", ctypes.c_double),
        ("discount", ctypes.c_double),
        ("version", ctypes.c_char * _VERSION),
    )


def _in_pairs(vectors: Array) -> Array:
    """Return vectors `[n, k]` as `[n / 2 / lanes, k, lanes]`, what is left over being zero.

    `vectors` are float32 of which the upper halves are all. Each number has two: the lower half
    is of the first so many vectors, the upper half of the next, so neither has to be widened.
    """
    n, k = vectors.shape
    padded = np.zeros((-(-n // (2 * _LANES)) * 2 * _LANES, k), np.uint32)
    padded[:n] = vectors.view(np.uint32)
    lanes = padded.reshape(-1, 2, _LANES, k).swapaxes(2, 3)
    return np.asarray(lanes[:, 0] >> 16 | lanes[:, 1])


class Native:
    """The inference of one table's session model. Not to be shared by threads."""

    def __init__(self, infer: Any, model: _Model, arrays: dict[str, Array]) -> None:
        self._infer = infer
        self._arrays = arrays  # what the model points to
        numbers = model.k + model.k * (model.k + 1) // 2
        sizes = 32 + 9 * MOST_HEARD + 4 * numbers + 6 * _MOST, 8 * _MOST, 16 * _MOST
        rooms = [bytearray(size) for size in sizes]
        self._kept, self._tracks, self._numbers = (memoryview(room) for room in rooms)
        self._found = ctypes.c_int64()
        written = [ctypes.addressof(ctypes.c_char.from_buffer(room)) for room in rooms]
        for name, at in zip(_RESULTS, [*written, ctypes.addressof(self._found)], strict=True):
            setattr(model, name, at)
        self._model = ctypes.byref(model)

    @classmethod
    def of(
        cls, found: Any, model: SessionModel, table: Table, artists: Array, version: str
    ) -> "Native | None":
        """Return the inference of `model`, one of `table`; None where it cannot be had.

        `found` is the `library`, `artists` are those of the tracks at the model's places.
        """
        named = version.encode()
        if len(named) > _VERSION:
            return None
        known: dict[str, Array] = {
            "ids": table.tracks,
            "artist": table.artist,
            "place": model.places,
            "row_at": model.rows,
            "artist_at": artists,
            "vectors": model.vectors,
            "centres": _in_pairs(model.centres),
            "opening": model.opening,
            "spread": model.spread,
            "discounts": discounts_by_plays(model.discount),
        }
        leaves, size, k = model.vectors.shape
        room = max(leaves + 2 * _LANES, MOST_TRACKS + size, _MOST + MOST_HEARD)
        arrays = {
            **{name: np.ascontiguousarray(known[name], dtype) for name, dtype in _KNOWN.items()},
            **{name: np.zeros(room, dtype) for name, dtype in _WORK.items()},
            "plays": np.zeros(len(table.artist_name_offsets) - 1, _WORK["plays"]),
        }
        pointers = (array.ctypes.data for array in arrays.values())
        made = _Model(len(table), leaves, size, k, *pointers)
        made.noise, made.discount, made.version = model.noise, model.discount, named
        return cls(found.infer, made, arrays)

    def infer(
        self, data: bytes | None, track: int, time: float, out: bytes, count: int
    ) -> tuple[Forecast, bytes] | None:
        """Do what `inference.infer` does; None when it is not the usual call."""
        if not data or not checked(data):
            data = b""
        size = self._infer(self._model, data, len(data), track, time, out, len(out) // 8, count)
        if size < 0:
            return None
        found = self._found.value
        told = Forecast(self._tracks[: 8 * found].tobytes(), self._numbers[: 16 * found].tobytes())
        return told, signed(self._kept[_CHECKSUM:size])
