"""Any unheard track: the fallback that only a whole catalogue can exhaust."""

from collections.abc import Sequence
from math import ceil
from random import Random

from recsvc.candidates import Candidates
from recsvc.policy import CATALOGUE, OLDEST, Draw, Plan, Pool, Routes, Sample
from recsvc.recommenders.source import Source

__all__ = ["plan_among", "plan_oldest", "plan_sample"]

# The chance that every proposal has been heard is below e**-_SURENESS.
_SURENESS = 12
_MOST = 2048
_ONE = Routes({None: (0,)})


def plan_sample(source: Source, heard: int, rng: Random) -> Plan | None:
    """Propose random tracks of the catalogue, of which the session has heard `heard`.

    Returns None when so few are unheard that listing those is cheaper.
    """
    size = len(source.table)
    unheard = size - heard
    if unheard <= 0:
        return None
    count = min(size, ceil(_SURENESS * size / unheard))
    if count > _MOST:
        return None
    indices = rng.sample(range(size), count)
    return _only(Sample(CATALOGUE, source.table.tracks[indices].tolist(), size))


def plan_among(source: Source, unheard: Sequence[int], rng: Random) -> Plan:
    """Propose some of the tracks known to be unheard, in random order."""
    proposals = rng.sample(unheard, min(len(unheard), 64))
    return _only(Sample(CATALOGUE, proposals, len(source.table)))


def plan_oldest(track: int) -> Plan:
    """Serve the track heard longest ago, the whole catalogue having been heard."""
    return _only(Pool(OLDEST, Candidates([track], [1.0]), Draw(0.0, 0.0), memory=False))


def _only(pool: Pool | Sample) -> Plan:
    return Plan((pool,), _ONE, fallback=True)
