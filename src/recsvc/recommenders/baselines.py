"""The baselines, and the four steps of `ensemble` one at a time.

The control, `contextual`, draws uniformly among the top neighbours by predicted time and
remembers nothing. `weighted`, `filtered`, `remembering` and `switching` each add one step
of `ensemble` to it, so that an experiment can tell which step carries.
"""

from collections.abc import Callable
from random import Random

from recsvc.candidates import Candidates
from recsvc.policy import (
    CATALOGUE,
    CONTEXTUAL,
    PERSONAL,
    POPULAR,
    Plan,
    Pool,
    Routes,
    Sample,
    draw,
)
from recsvc.recommenders.ensemble import Ensemble
from recsvc.recommenders.source import Source

__all__ = ["STICKY_ARTIST", "Chain", "Offer", "RandomTrack", "baselines"]

STICKY_ARTIST = "sticky_artist"

# Of so many random tracks the first unheard one is served; should all of them have been
# heard, the service proposes more.
_PROPOSALS = 16

Offer = tuple[str, Callable[[Source, int, int], Candidates]]
"""A recommender's name, and its candidates for (source, user, track)."""


def _top(source: Source, _: int, track: int) -> Candidates:
    return source.top(track)


def _top_weighted(source: Source, _: int, track: int) -> Candidates:
    return source.top_weighted(track)


def _neighbours_evenly(source: Source, _: int, track: int) -> Candidates:
    return source.neighbours_evenly(track)


def _personal(source: Source, user: int, _: int) -> Candidates:
    return source.personal(user)


def _same_artist(source: Source, _: int, track: int) -> Candidates:
    return source.same_artist(track)


def _popular(source: Source, _: int, __: int) -> Candidates:
    return source.popular


class Chain:
    """Asks some recommenders in a fixed order."""

    def __init__(self, name: str, *offers: Offer, memory: bool = True) -> None:
        self.name = name
        self.offers = offers
        self.memory = memory
        self._routes = Routes({None: tuple(range(len(offers)))})

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Plan the same order for every state of the session."""
        offered = [(name, offer(source, user, track)) for name, offer in self.offers]
        made = draw(rng)
        pools = tuple(Pool(name, found, made, self.memory) for name, found in offered)
        return Plan(pools, self._routes)


class RandomTrack:
    """Any unheard track, each as likely as any other."""

    name = "random"
    _routes = Routes({None: (0,)})

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Propose distinct random tracks; the first unheard one is a uniform draw."""
        size = len(source.table)
        indices = rng.sample(range(size), min(_PROPOSALS, size))
        sample = Sample(CATALOGUE, source.table.tracks[indices].tolist(), size)
        return Plan((sample,), self._routes)


def baselines(switch_threshold: float) -> tuple[Chain | Ensemble | RandomTrack, ...]:
    """Make them all."""
    popular = (POPULAR, _popular)
    return (
        RandomTrack(),
        Chain("popular", popular),
        Chain("sticky_artist", (STICKY_ARTIST, _same_artist), popular),
        Chain("personal", (PERSONAL, _personal), popular),
        Chain("contextual", (CONTEXTUAL, _top), popular, memory=False),
        Chain("weighted", (CONTEXTUAL, _top_weighted), popular, memory=False),
        Chain("filtered", (CONTEXTUAL, _neighbours_evenly), popular, memory=False),
        Chain("remembering", (CONTEXTUAL, _top), popular),
        Ensemble(
            switch_threshold,
            name="switching",
            contextual=lambda source, track: source.top(track),
            memory=False,
        ),
    )
