"""Sorts tracks into leaves of similar ones, all of one size, for the search at serving time."""

import numpy as np

from precompute.inference.observations import Array

__all__ = ["arrange"]

_SAMPLE = 4096  # rows from which a direction is told


@np.errstate(invalid="ignore")  # see recsvc.taste: raised without cause where k is 5 to 7
def arrange(vectors: Array, size: int) -> Array:
    """Return the rows of `vectors` `[n, k]` leaf by leaf, `[leaves * size]` int32.

    Cut in two across the direction of most variance, again and again, until no piece has more
    than `size`; both halves are whole leaves but for the last one. Places that are left over,
    fewer than `size`, are -1.
    """
    order = np.arange(len(vectors))
    _cut(vectors, order, size)
    padded = np.full(-(-len(vectors) // size) * size, -1, dtype=np.int32)
    padded[: len(order)] = order
    return padded


def _cut(vectors: Array, order: Array, size: int) -> None:
    """Sort `order`, rows of `vectors`, in place, so that similar ones are close."""
    leaves = -(-len(order) // size)
    if leaves <= 1:
        return
    middle = leaves // 2 * size
    sample = vectors[order[:: -(-len(order) // _SAMPLE)]]
    centred = sample - sample.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axis = axes[:, -1] * (1.0 if axes[:, -1].sum() >= 0 else -1.0)
    order[:] = order[np.argpartition(vectors[order] @ axis, middle - 1)]
    _cut(vectors, order[:middle], size)
    _cut(vectors, order[middle:], size)
