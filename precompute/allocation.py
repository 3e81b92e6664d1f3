"""How the C library manages the memory of this process."""

import ctypes
from typing import Any

__all__ = ["keep_freed_memory"]

# Of mallopt(3), and what they are set to.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MOST, _STEP = 2**31 - 1, 64 * 2**20


def keep_freed_memory() -> None:
    """Keep memory that is freed, to use it again, where the C library can be told to.

    A fit makes and drops large arrays thousands of times. By default each goes back to the
    system, which has to clear the next one: twice the work of the arithmetic itself.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _MOST)
    mallopt(_TOP_PAD, _STEP)
