"""The weighted neighbour table, in the five steps of the rule.

Rows are `MAX_NEIGHBOURS` wide arrays in which the first `count` entries hold; the whole
catalogue is done at once, and only the filling of short rows goes row by row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from precompute.backfill import Pool, fill
from precompute.topk import top
from recsvc.policy import FILTER_THRESHOLD, MAX_NEIGHBOURS, keep, softmax_weights

__all__ = ["Neighbours", "Settings", "build"]

Array = npt.NDArray[Any]

SMALLEST = 1e-30
"""Least weight; a very low temperature would else make one zero in float32."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How predicted times become weighted neighbours."""

    threshold: float = FILTER_THRESHOLD
    """Candidates whose predicted time is below this go."""
    temperature: float = 1.0
    """Of the softmax. Predicted times lie in 0..1, so at 1, the rule's, the weights are
    nearly flat: the best candidate is at most e times as likely as the worst."""
    pool: int = 200
    """Short rows are filled from so many of the most played tracks."""
    least_weight: float = 1e-3
    """Weight of a track of the same artist that nobody could stand; all weights are positive."""
    block: int = 128
    """Tracks a step of the search; changes the speed and never the result."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The table's rows end to end, and how they came about."""

    offsets: Array
    """`[n + 1]` int64."""
    indices: Array
    """`[m]` int32: track indices, the heaviest of a row first, of equal ones the lower."""
    weights: Array
    """`[m]` float32, positive."""
    by_model: int
    """Rows in which a candidate of the model stayed."""
    by_artist: int
    """Rows that had none and took tracks of the same artist."""
    filled: int
    """Rows that were short and got popular tracks."""


def build(
    context: Tensor,
    target: Tensor,
    artist: Array,
    plays: Array,
    mean_time: Array,
    settings: Settings,
    seed: int,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Neighbours:
    """Make the neighbour table of `n` tracks.

    `context` and `target` are `[n, d]` float32, such that `context[t] · target[n]` is
    the predicted time of `n` after `t`; the raw prediction is used, even where it lies
    outside 0..1, since cutting it off would lose the order. `artist` `[n]` are artist
    numbers, `plays` `[n]` counts, `mean_time` `[n]` mean observed times with the overall
    mean where there is none. `on_rows` is told how many rows are done since last time.
    """
    n = len(artist)
    indices = np.zeros((n, MAX_NEIGHBOURS), dtype=np.int32)
    weights = np.zeros((n, MAX_NEIGHBOURS), dtype=np.float32)
    count = np.zeros(n, dtype=np.int64)
    # 1. The best other tracks by predicted time.
    done = 0
    for scores, columns in top(
        context, target, MAX_NEIGHBOURS, skip_self=True, block=settings.block
    ):
        rows = slice(done, done + len(scores))
        width = scores.shape[1]
        # 2. Those below the threshold go. Scores fall along a row, so the rest leads it.
        kept = keep(scores.numpy(), settings.threshold)
        # 3. Softmax of those that stay.
        weighed = softmax_weights(scores.numpy(), kept, settings.temperature)
        indices[rows, :width] = columns.numpy()
        weights[rows, :width] = np.where(kept, np.maximum(weighed, SMALLEST), 0.0)
        count[rows] = kept.sum(1)
        done += len(scores)
        on_rows(len(scores))
    # 4. Where none stays, the artist's other tracks.
    none = np.flatnonzero(count == 0)
    by_model = n - len(none)
    _same_artist(none, artist, np.maximum(mean_time, settings.least_weight), indices, weights)
    count[none] = (weights[none] > 0).sum(1)
    by_artist = int((count[none] > 0).sum())
    # 5. Short rows are filled up with popular tracks.
    pool = Pool.of(plays, mean_time, settings.pool)
    filled = fill(indices, weights, count, pool, seed, settings.least_weight)
    _sort(indices, weights, count)
    used = np.arange(MAX_NEIGHBOURS) < count[:, None]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    return Neighbours(offsets, indices[used], weights[used], by_model, by_artist, filled)


def _same_artist(rows: Array, artist: Array, time: Array, indices: Array, weights: Array) -> None:
    """Write into `rows` the other tracks of each one's artist, the best heard first."""
    n = len(artist)
    if not len(rows):
        return
    order = np.lexsort((np.arange(n), -time, artist))  # by artist, then time, then index
    sorted_artist = artist[order]
    start = np.searchsorted(sorted_artist, artist[rows], side="left")
    end = np.searchsorted(sorted_artist, artist[rows], side="right")
    # One more than fits, for the track itself may be among them.
    position = start[:, None] + np.arange(MAX_NEIGHBOURS + 1)  # [rows, 71]
    candidate = order[np.minimum(position, n - 1)]
    fits = (position < end[:, None]) & (candidate != rows[:, None])
    front = np.argsort(~fits, axis=1, kind="stable")[:, :MAX_NEIGHBOURS]
    fits = np.take_along_axis(fits, front, 1)
    candidate = np.take_along_axis(candidate, front, 1)
    indices[rows] = np.where(fits, candidate, 0)
    weights[rows] = np.where(fits, time[candidate], 0.0)


def _sort(indices: Array, weights: Array, count: Array, block: int = 1 << 14) -> None:
    """Sort each row in place: heaviest first, of equal weights the lower index."""
    for start in range(0, len(indices), block):
        rows = slice(start, start + block)
        used = np.arange(MAX_NEIGHBOURS) < count[rows, None]
        order = np.lexsort((indices[rows], np.where(used, -weights[rows], np.inf)), axis=1)
        indices[rows] = np.take_along_axis(indices[rows], order, 1)
        weights[rows] = np.take_along_axis(weights[rows], order, 1)
