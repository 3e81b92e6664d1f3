"""Popular tracks that fill up the short rows of the neighbour table."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.policy import MAX_NEIGHBOURS, MIN_NEIGHBOURS, backfill_weights

__all__ = ["Pool", "fill"]

Array = npt.NDArray[Any]

# Rows that share a random generator. Part of the result, so no setting.
_CHUNK = 1024
# A row holds at most 29 tracks of its own and is none of its fillers, which leaves 30.
_LEAST_POOL = 2 * MIN_NEIGHBOURS
_UNPLAYED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The tracks that are drawn from; all arrays are `[p]`, the most played first."""

    tracks: Array
    plays: Array
    mean_time: Array

    @staticmethod
    def of(plays: Array, mean_time: Array, size: int) -> "Pool":
        """Take the `size` most played tracks, and at least the 60 that a full row may need.

        Of equally played tracks the lower index comes first. A track that nobody played
        counts as half a play, so that a small catalogue can still fill its rows.
        """
        tracks = np.argsort(-plays.astype(np.int64), kind="stable")[: max(size, _LEAST_POOL)]
        return Pool(tracks, np.maximum(plays[tracks], _UNPLAYED), mean_time[tracks])


def fill(
    indices: Array,
    weights: Array,
    count: Array,
    pool: Pool,
    *,
    seed: int,
    floor: float = 1e-3,
) -> int:
    """Fill the rows that have fewer than 30 entries, in place; return how many had.

    `indices` `[n, 70]` int32, `weights` `[n, 70]` float32 and `count` `[n]` are the
    rows. Fillers are sampled without replacement in proportion to their plays; neither
    the track itself nor one that is in its row is drawn. Each row's sample depends on
    `seed`, its number and the pool alone.
    """
    filled = 0
    position = np.full(len(indices) + 1, -1)  # in the pool, of each track; the last of none
    position[pool.tracks] = np.arange(len(pool.tracks))
    for chunk, start in enumerate(range(0, len(indices), _CHUNK)):
        rows = slice(start, start + _CHUNK)
        short = np.flatnonzero(count[rows] < MIN_NEIGHBOURS)
        if not len(short):
            continue
        # The whole chunk's noise is drawn, so that a row's share is always the same.
        noise = np.random.default_rng([seed, chunk]).gumbel(size=(_CHUNK, len(pool.tracks)))
        drawn = _draw(start + short, indices, count, pool, position, noise=noise[short])
        for row, picks in zip((start + short).tolist(), drawn, strict=True):
            have = int(count[row])
            part = slice(have, have + len(picks))
            indices[row, part] = pool.tracks[picks]
            weights[row, part] = backfill_weights(weights[row, :have], pool.mean_time[picks], floor)
            count[row] = part.stop
        filled += len(short)
    return filled


def _draw(
    rows: Array, indices: Array, count: Array, pool: Pool, position: Array, *, noise: Array
) -> list[Array]:
    """Return for each row the positions in the pool that fill it.

    The largest of (log plays + Gumbel noise) are a sample without replacement in
    proportion to the plays (Vieira 2014, "Gumbel-max trick and weighted reservoir
    sampling"; Efraimidis and Spirakis 2006).
    """
    keys = np.log(pool.plays) + noise  # [rows, p]
    keys[pool.tracks == rows[:, None]] = -np.inf
    own = np.where(np.arange(MAX_NEIGHBOURS) < count[rows, None], indices[rows], -1)
    own = own[:, :MIN_NEIGHBOURS]
    taken = position[own]  # [rows, 30]; own -1 reads the last entry, which is -1
    where = np.nonzero(taken >= 0)
    keys[where[0], taken[where]] = -np.inf
    order = np.argsort(-keys, axis=1, kind="stable")
    free = np.isfinite(keys).sum(1)
    wanted = np.minimum(MIN_NEIGHBOURS - count[rows], free)
    return [picks[:number] for picks, number in zip(order, wanted.tolist(), strict=True)]
