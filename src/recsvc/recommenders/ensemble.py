"""The policy `ensemble`: contextual or personal, whichever is doing well."""

from collections.abc import Callable
from random import Random

from recsvc.policy import (
    CONTEXTUAL,
    PERSONAL,
    POPULAR,
    SWITCH_THRESHOLD,
    Candidates,
    Plan,
    Pool,
    draw,
    switch,
)
from recsvc.recommenders.source import Source

__all__ = ["Ensemble"]

_ORDER = {CONTEXTUAL: (0, 1, 2), PERSONAL: (1, 0, 2)}


def _neighbours(source: Source, track: int) -> Candidates:
    return source.neighbours(track)


class Ensemble:
    """Plans by the switch rule; every recommender falls back to the next one's pool.

    The arguments are for experiments that take it apart: `contextual` offers the
    candidates after a track, and without `memory` heard tracks stay in all pools.
    """

    def __init__(
        self,
        threshold: float = SWITCH_THRESHOLD,
        *,
        name: str = "ensemble",
        contextual: Callable[[Source, int], Candidates] = _neighbours,
        memory: bool = True,
    ) -> None:
        self.threshold = threshold
        self.name = name
        self.contextual = contextual
        self.memory = memory

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Plan the answer for every state that the session may be in."""
        offers = (
            (CONTEXTUAL, self.contextual(source, track)),
            (PERSONAL, source.personal(user)),
            (POPULAR, source.popular),
        )
        pools = [Pool(name, found, draw(found, rng), self.memory) for name, found in offers]
        states = (CONTEXTUAL, PERSONAL, None)
        return Plan(
            tuple(pools), {last: _ORDER[switch(last, time, self.threshold)] for last in states}
        )
