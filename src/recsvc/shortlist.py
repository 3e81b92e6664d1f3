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
_FOR_HEARD = 64  # further ones for each track heard: its artist's others have lost worth, too
_MOST = 8192  # looked at, at most
_OUT = -1.0  # worth less than anything


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What is out of the question or worth less.

    `places` `[h]`: those of the tracks heard. `plays` `[a]`: earlier plays of each artist.
    """

    places: Array
    plays: Array


def shortlist(
    model: SessionModel, belief: Belief, artists: Array, heard: Heard, count: int
) -> Array:
    """Return the places of about the `count` unheard tracks of most predicted time, unordered.

    `artists` `[leaves, size]` is the artist of the track at each place. Ranked by the mean of
    the belief alone, the discount included; fewer come back when there are no more unheard
    tracks to see.
    """
    leaves, size, _ = model.vectors.shape
    query = belief.mean.astype(np.float32)
    mood, query[-1] = float(query[-1]), 1.0
    wanted = min(_TRACKS + _FOR_HEARD * len(heard.places), _MOST)
    looked = min(leaves, -(-wanted // size))
    nearest = _largest(model.centres @ query, looked)
    nearest.sort()
    logits = model.vectors[nearest] @ query + np.float32(mood)
    discounts = model.discount ** np.arange(heard.plays.max(initial=0) + 1)
    # Beyond a logit of -80 exp would overflow, and nothing is to be told apart.
    worth = np.exp(np.minimum(-logits, np.float32(80.0)))
    worth = discounts.astype(np.float32)[heard.plays[artists[nearest]]] / (worth + 1.0)
    worth[model.rows.reshape(leaves, size)[nearest] < 0] = _OUT
    leaf, inside = np.divmod(heard.places, size)
    at = np.searchsorted(nearest, leaf).clip(max=looked - 1)
    seen = nearest[at] == leaf
    worth[at[seen], inside[seen]] = _OUT
    worth = worth.ravel()
    best = _largest(worth, count)
    best = best[worth[best] > _OUT]
    return np.asarray(nearest[best // size] * size + best % size)


def _largest(values: Array, count: int) -> Array:
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, -count)[-count:]
