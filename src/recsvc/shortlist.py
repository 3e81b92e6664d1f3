"""The tracks worth a closer look, without a look at all of them; pure.

Similar tracks lie in one leaf, so the leaves with the best centres hold nearly all of the best
tracks. What a leaf costs is one product, and so the catalogue's size hardly counts. What was
found serves some more reports of the session: with each of them the belief moves less.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.halves import widen
from recsvc.taste import Belief, SessionModel

__all__ = [
    "MOST_TRACKS",
    "NO_SHORTLIST",
    "Heard",
    "Shortlist",
    "discounts_by_plays",
    "discounts_of",
    "shortlist",
]

Array = npt.NDArray[Any]

_TRACKS = 1536  # looked at, at least
_FOR_HEARD = 128  # further ones for each track heard: its artist's others have lost worth, too
MOST_TRACKS = 16_384  # looked at, at most
_OUT = -1.0  # worth less than anything
_PLAYS = 512  # of one artist in a session that are told apart
_OLDEST = 0xFFFF


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What is out of the question or worth less.

    `places` `[h]`: those of the tracks heard. `plays` `[a]`: earlier plays of each artist.
    """

    places: Array
    plays: Array


@dataclass(frozen=True, slots=True, eq=False)
class Shortlist:
    """Tracks that were worth a closer look `age` reports of the session ago.

    `places` `[c]` uint32, ascending; `plays` `[c]` uint16: of the artist of each, until now.
    """

    places: Array
    plays: Array
    age: int

    def serves(self, heard: int, count: int) -> bool:
        """Tell whether the best `count` can be taken from it in a session of `heard` reports.

        It was made when four fifths of them were known, and so the belief was much the same.
        """
        return 5 * self.age < heard + 4 and len(self.places) >= count

    def without(self, place: int) -> "Shortlist":
        """Return the rest of it."""
        left = self.places != place
        return Shortlist(self.places[left], self.plays[left], self.age)

    def after_report(self, played: Array | None) -> "Shortlist":
        """Return it one report later. `played` `[c]` tells whose artist it was of."""
        plays = self.plays if played is None else self.plays + played
        return Shortlist(self.places, plays, min(self.age + 1, _OLDEST))


NO_SHORTLIST = Shortlist(np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.uint16), 0)


@np.errstate(invalid="ignore")  # see `taste`
def shortlist(
    model: SessionModel, belief: Belief, artists: Array, heard: Heard, count: int
) -> Shortlist:
    """Return about the `count` unheard tracks of most predicted time.

    `artists` `[leaves, size]` is the artist of the track at each place. Ranked by the mean of
    the belief alone, the discount included; fewer come back when there are no more unheard
    tracks to see.
    """
    leaves, size, _ = model.vectors.shape
    query = belief.mean.astype(np.float32)
    mood, query[-1] = query[-1], 1.0
    wanted = min(_TRACKS + _FOR_HEARD * len(heard.places), MOST_TRACKS)
    looked = min(leaves, -(-wanted // size))
    nearest = _largest(model.centres @ query, looked)
    nearest.sort()
    logits = widen(model.vectors.take(nearest, axis=0)).reshape(-1, len(query)) @ query + mood
    # Beyond a logit of -80 exp would overflow, and nothing is to be told apart.
    logits = np.maximum(logits, np.float32(-80.0)).reshape(looked, size)
    discounts = discounts_of(model, heard.plays.take(artists.take(nearest, axis=0)))
    worth = discounts / (np.exp(-logits) + np.float32(1.0))
    if nearest[-1] == leaves - 1:  # only the last leaf has places left over
        worth[-1, model.rows[-size:] < 0] = _OUT
    leaf, inside = np.divmod(heard.places, size)
    at = np.minimum(nearest.searchsorted(leaf), looked - 1)
    seen = nearest[at] == leaf
    worth[at[seen], inside[seen]] = _OUT
    worth = worth.ravel()
    best = _largest(worth, count)
    best = best[worth[best] > _OUT]
    best.sort()
    leaf, inside = nearest[best // size], best % size
    plays = heard.plays[artists[leaf, inside]].astype(np.uint16, copy=False)
    return Shortlist((leaf * size + inside).astype(np.uint32), plays, 0)


def discounts_of(model: SessionModel, plays: Array) -> Array:
    """Return what the time of a track is multiplied with after so many `plays` of its artist.

    Both of one shape, the discounts float32.
    """
    found: Array = discounts_by_plays(model.discount).take(plays, mode="clip")
    return found


@lru_cache(maxsize=8)
def discounts_by_plays(discount: float) -> Array:
    """Return the discounts of 0, 1, 2 ... plays, as many as are told apart; float32."""
    return np.asarray(discount ** np.arange(_PLAYS), dtype=np.float32)


def _largest(values: Array, count: int) -> Array:
    if count >= len(values):
        return np.arange(len(values))
    return values.argpartition(-count)[-count:]
