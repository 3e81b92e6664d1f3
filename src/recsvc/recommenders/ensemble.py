"""The policy `ensemble`: contextual or personal, whichever is doing well."""

from collections.abc import Callable
from functools import partial
from random import Random

from recsvc.candidates import Candidates
from recsvc.policy import (
    CONTEXTUAL,
    PERSONAL,
    POPULAR,
    SWITCH_THRESHOLD,
    Plan,
    Pool,
    Routes,
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
        # The switch rule only asks on which side of the threshold a time is.
        self._routes = tuple(
            Routes(
                {
                    last: _ORDER[switch(last, time, threshold)]
                    for last in (CONTEXTUAL, PERSONAL, None)
                }
            )
            for time in (-1.0, threshold)
        )

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Plan the answer for every state that the session may be in."""
        made, memory = draw(rng), self.memory
        pools = (
            Pool(CONTEXTUAL, partial(self.contextual, source, track), made, memory),
            Pool(PERSONAL, partial(source.personal, user), made, memory),
            Pool(POPULAR, source.popular, made, memory),
        )
        return Plan(pools, self._routes[time >= self.threshold])
