"""Lists of candidates that lie in a table end to end, by the number of their row."""

import ctypes
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from recsvc.candidates import SIEVE, Candidates
from recsvc.table import Array

__all__ = ["CandidatesOf", "compiled_rows", "rows"]

CandidatesOf = Callable[[int], Candidates]
"""Makes the candidates of a row."""

_FIELDS = {"ids": np.int64, "offsets": np.int64, "indices": np.int32, "weights": np.float32}


class _Rows(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in _FIELDS)


def rows(ids: Array, offsets: Array, indices: Array, weights: Array) -> CandidatesOf:
    """Return what makes candidates of the rows that `offsets` `[rows + 1]` cuts.

    `ids` `[n]` are those of tracks, `indices` tell which of them a row has.
    """

    def candidates(row: int) -> Candidates:
        start, end = offsets[row], offsets[row + 1]
        return Candidates(ids.take(indices[start:end]), weights[start:end])

    return candidates


def compiled_rows(
    library: Any, ids: Array, offsets: Array, indices: Array, weights: Array
) -> CandidatesOf:
    """Return the same, done by `rows.c` in a fifth of the time. Not to be shared by threads."""
    given = zip((ids, offsets, indices, weights), _FIELDS.values(), strict=True)
    arrays = [np.ascontiguousarray(array, dtype) for array, dtype in given]
    known = ctypes.byref(_Rows(*(array.ctypes.data for array in arrays)))
    room = bytearray(8 * (3 * int(np.diff(offsets).max(initial=0)) + 1) + SIEVE)
    view, to = memoryview(room), ctypes.byref(ctypes.c_char.from_buffer(room))
    write = library.candidates

    def candidates(row: int, _pointed_to: Any = arrays) -> Candidates:
        size = 8 * write(known, row, to)
        packed = 2 * size + 8 + SIEVE
        sums = array("d", room[packed : packed + size])
        return Candidates.of_packed(view[:packed].tobytes(), sums)

    return candidates
