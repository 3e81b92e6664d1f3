"""The tracks worth a closer look, without a look at all of them; pure.

Similar tracks lie in one leaf, so the leaves with the best centres hold nearly all of the best
tracks. What a leaf costs is one product, and so the catalogue's size hardly counts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.taste import Belief, SessionModel

__all__ = ["Heard", "shortlist"]

Array = npt.NDArray[Any]

_TRACKS = 1536  # looked at, at least
_FOR_HEARD = 16  # further ones for each track heard: the best leaves are used up first


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What is out of the question or worth less.

    `places` `[h]`: those of the tracks heard. `plays` `[a]`: earlier plays of each artist.
    """

    places: Array
    plays: Array


def shortlist(
    model: SessionModel, belief: Belief, artist: Array, heard: Heard, count: int
) -> Array:
    """Return the places of about the `count` unheard tracks of most predicted time, unordered.

    `artist` `[n]` is the artist of each track. Ranked by the mean of the belief alone, the
    discount included; fewer come back when there are no more unheard tracks to see.
    """
    leaves, size, _ = model.vectors.shape
    query = belief.mean.astype(np.float32)
    mood, query[-1] = float(query[-1]), 1.0
    looked = min(leaves, -(-(_TRACKS + _FOR_HEARD * len(heard.places)) // size))
    nearest = _largest(model.centres @ query, looked)
    logits = (model.vectors[nearest] @ query).ravel() + np.float32(mood)
    places = (nearest[:, None] * size + np.arange(size)).ravel()
    rows = model.rows[places]
    worth = -np.log1p(np.exp(-np.maximum(logits, -80.0)))  # beyond, exp would overflow
    worth += heard.plays[artist[rows]] * np.float32(np.log(max(model.discount, 1e-6)))
    gone = rows < 0
    gone |= _among(places, heard.places, leaves * size)
    worth[gone] = -np.inf
    best = _largest(worth, min(count, len(worth)))
    return np.asarray(places[best[worth[best] > -np.inf]])


def _largest(values: Array, count: int) -> Array:
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, -count)[-count:]


def _among(places: Array, wanted: Array, size: int) -> Array:
    """Tell which of `places` are wanted; quicker than a search where both are many."""
    marked = np.zeros(size, dtype=bool)
    marked[wanted] = True
    return np.asarray(marked[places])
