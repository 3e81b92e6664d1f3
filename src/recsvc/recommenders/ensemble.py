"""The policy `ensemble`: contextual or personal, whichever is doing well."""

from random import Random

from recsvc.policy import (
    CONTEXTUAL,
    PERSONAL,
    POPULAR,
    SWITCH_THRESHOLD,
    Plan,
    Pool,
    draw,
    switch,
)
from recsvc.recommenders.source import Source

__all__ = ["Ensemble"]

_ORDER = {CONTEXTUAL: (0, 1, 2), PERSONAL: (1, 0, 2)}


class Ensemble:
    """Plans by the switch rule; every recommender falls back to the next one's pool."""

    name = "ensemble"

    def __init__(self, threshold: float = SWITCH_THRESHOLD) -> None:
        self.threshold = threshold

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Plan the answer for every state that the session may be in."""
        offers = (
            (CONTEXTUAL, source.neighbours(track)),
            (PERSONAL, source.personal(user)),
            (POPULAR, source.popular),
        )
        return Plan(
            tuple(Pool(name, offered, draw(offered, rng)) for name, offered in offers),
            {
                last: _ORDER[switch(last, time, self.threshold)]
                for last in (CONTEXTUAL, PERSONAL, None)
            },
        )
