"""The weighted neighbour table, in the five steps of the rule.

While it is made, rows are `MAX_NEIGHBOURS` wide arrays in which the first `count` entries
hold; the whole catalogue is done at once, and only short rows are filled one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from precompute.backfill import Pool, fill
from precompute.popular import Statistics
from precompute.topk import top
from recsvc.policy import FILTER_THRESHOLD, MAX_NEIGHBOURS, keep, softmax_weights

__all__ = ["Neighbours", "Settings", "build"]

Array = npt.NDArray[Any]

_ROWS = 1 << 16  # at once, where memory is what limits
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
    keep_top: bool = True
    """Store the top candidates before any rule too, for the control of experiments; they
    double the size of the table."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The table's rows end to end, and how they came about."""

    offsets: Array
    """`[n + 1]` int64."""
    indices: Array
    """`[m]` int32: track indices, the heaviest of a row first, of equal ones the lower."""
    weights: Array
    """`[m]` float32, positive."""
    top: Array
    """`[n * k]` int32: the best k by predicted time of every track, before any rule."""
    top_weights: Array
    """`[n * k]` float32: the softmax of all their predicted times."""
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
    statistics: Statistics,
    settings: Settings,
    *,
    seed: int,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Neighbours:
    """Make the neighbour table of `n` tracks.

    `context` and `target` are `[n, d]` float32, such that `context[t] · target[n]` is
    the predicted time of `n` after `t`; the raw prediction is used, even where it lies
    outside 0..1, since cutting it off would lose the order. `artist` `[n]` are artist
    numbers. `on_rows` is told how many rows are done since last time.
    """
    n = len(artist)
    indices = np.zeros((n, MAX_NEIGHBOURS), dtype=np.int32)
    weights = np.zeros((n, MAX_NEIGHBOURS), dtype=np.float32)
    count = np.zeros(n, dtype=np.int64)
    width = min(MAX_NEIGHBOURS, n - 1) if settings.keep_top else 0
    best = np.zeros((n, width), dtype=np.int32), np.zeros((n, width), dtype=np.float32)
    _by_model(context, target, settings, indices, weights, best=best, on_rows=on_rows)
    count[:] = (weights > 0).sum(1)
    # 4. Where none stays, the artist's other tracks.
    none = np.flatnonzero(count == 0)
    time = np.maximum(statistics.mean_time, settings.least_weight)
    for start in range(0, len(none), _ROWS):
        _same_artist(none[start : start + _ROWS], artist, time, indices, weights)
    count[none] = (weights[none] > 0).sum(1)
    by_artist = int((count[none] > 0).sum())
    # 5. Short rows are filled up with popular tracks.
    pool = Pool.of(statistics.plays, statistics.mean_time, settings.pool)
    filled = fill(indices, weights, count, pool, seed=seed, floor=settings.least_weight)
    _sort(indices, weights, count)
    used = np.arange(MAX_NEIGHBOURS) < count[:, None]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    return Neighbours(
        offsets,
        indices[used],
        weights[used],
        best[0].ravel(),
        best[1].ravel(),
        by_model=n - len(none),
        by_artist=by_artist,
        filled=filled,
    )


def _by_model(
    context: Tensor,
    target: Tensor,
    settings: Settings,
    indices: Array,
    weights: Array,
    *,
    best: tuple[Array, Array],
    on_rows: Callable[[int], None],
) -> None:
    """Write steps 1 to 3 into `indices` and `weights`; what does not stay weighs nothing.

    What step 1 found goes into `best` too, unfiltered, if that has any columns.
    """
    done = 0
    # 1. The best other tracks by predicted time.
    for scores, columns in top(
        context, target, MAX_NEIGHBOURS, skip_self=True, block=settings.block
    ):
        rows, width = slice(done, done + len(scores)), scores.shape[1]
        # 2. Those below the threshold go; scores fall along a row, so the rest leads it.
        kept = keep(scores.numpy(), settings.threshold)
        # 3. Softmax of those that stay.
        weighed = softmax_weights(scores.numpy(), kept, settings.temperature)
        indices[rows, :width] = columns.numpy()
        weights[rows, :width] = np.where(kept, np.maximum(weighed, SMALLEST), 0.0)
        if best[0].shape[1]:
            everyone = np.ones_like(kept)
            best[0][rows] = columns.numpy()
            best[1][rows] = np.maximum(
                softmax_weights(scores.numpy(), everyone, settings.temperature), SMALLEST
            )
        done += len(scores)
        on_rows(len(scores))


def _same_artist(rows: Array, artist: Array, time: Array, indices: Array, weights: Array) -> None:
    """Write into `rows` the other tracks of each one's artist, the best heard first."""
    n = len(artist)
    order = np.lexsort((np.arange(n), -time, artist))  # by artist, then time, then index
    by_artist = artist[order]
    start = np.searchsorted(by_artist, artist[rows], side="left")
    end = np.searchsorted(by_artist, artist[rows], side="right")
    # One more than fits, for the track itself may be among them.
    position = start[:, None] + np.arange(MAX_NEIGHBOURS + 1)  # [rows, 71]
    candidate = order[np.minimum(position, n - 1)]
    fits = (position < end[:, None]) & (candidate != rows[:, None])
    front = np.argsort(~fits, axis=1, kind="stable")[:, :MAX_NEIGHBOURS]
    fits = np.take_along_axis(fits, front, 1)
    candidate = np.take_along_axis(candidate, front, 1)
    indices[rows] = np.where(fits, candidate, 0)
    weights[rows] = np.where(fits, time[candidate], 0.0)


def _sort(indices: Array, weights: Array, count: Array) -> None:
    """Sort each row in place: heaviest first, of equal weights the lower index."""
    for start in range(0, len(indices), _ROWS):
        rows = slice(start, start + _ROWS)
        used = np.arange(MAX_NEIGHBOURS) < count[rows, None]
        order = np.lexsort((indices[rows], np.where(used, -weights[rows], np.inf)), axis=1)
        indices[rows] = np.take_along_axis(indices[rows], order, 1)
        weights[rows] = np.take_along_axis(weights[rows], order, 1)
