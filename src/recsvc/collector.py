"""Keeps Python's garbage collector out of the way of requests.

A request leaves no cycles behind: reference counting frees what it made. All the collector
does is to look again and again at what stays, and every caller waits while it looks.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["rarely_collecting"]

_THRESHOLDS = (20_000, 20, 20)


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """Let the collector look only at what is made from now on, and seldom."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
