"""Numbers of half the size: the upper half of a float32, as bfloat16 has it, in a uint16.

It has the range of a float32 and eight significant bits: enough for what was learnt from noisy
data, and reading vectors is what a search costs.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["halve", "widen"]

Array = npt.NDArray[Any]
Halves = npt.NDArray[np.uint16]


def halve(numbers: Array) -> Halves:
    """Round finite numbers of any shape to halves; the nearest, and of two the larger."""
    bits = np.asarray(numbers, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16)


def widen(halves: Array) -> Array:
    """Return halves of any shape as float32, exactly."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
