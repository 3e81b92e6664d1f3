"""The recommendation rules, pure: no I/O, no clock, no hidden randomness.

A decision is *planned* before the listener's session is known and *settled* once it is. The
plan holds, for every recommender that may answer, its candidates and a draw made in advance;
settling removes the tracks heard in the session and reads off the answer and its propensity.
This split lets one atomic step inside Redis settle a plan (`redis/claim.lua` is the same
algorithm, and a test holds the two equal), so that an answer costs one round trip.

Why the law stays exact: the track drawn in advance is accepted if it is unheard,
which has probability (weight / all weights); otherwise a second, independent draw
among the unheard decides. Either way a track's chance is its share of the unheard
weight. That share is the propensity.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

import numpy as np
import numpy.typing as npt

from recsvc.candidates import Candidates
from recsvc.values import value

__all__ = [
    "CATALOGUE",
    "CONTEXTUAL",
    "FILTER_THRESHOLD",
    "MAX_NEIGHBOURS",
    "MIN_NEIGHBOURS",
    "OLDEST",
    "PERSONAL",
    "POPULAR",
    "SWITCH_THRESHOLD",
    "Decision",
    "Draw",
    "Plan",
    "Pool",
    "Routes",
    "Sample",
    "backfill_weights",
    "draw",
    "keep",
    "probabilities",
    "settle",
    "softmax_weights",
    "switch",
]

CONTEXTUAL = "contextual"
PERSONAL = "personal"
POPULAR = "popular"
CATALOGUE = "catalogue"
OLDEST = "oldest"

FILTER_THRESHOLD = 0.5
SWITCH_THRESHOLD = 0.7
MIN_NEIGHBOURS = 30
MAX_NEIGHBOURS = 70

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


# --- the rules that build the neighbour table ---------------------------------------------------


def keep(scores: Floats, threshold: float = FILTER_THRESHOLD) -> Bools:
    """Tell which candidates stay: those whose predicted time is at least `threshold`.

    `scores` has any shape; so has the answer. A NaN never stays.
    """
    return np.asarray(scores >= threshold)


def softmax_weights(scores: Floats, kept: Bools, temperature: float = 1.0) -> Floats:
    """Weigh the kept candidates of each row by the softmax of their scores.

    `scores` and `kept` are `[..., k]`; rows of the answer sum to one, with zero where
    a candidate was not kept, and are all zero where none was. Predicted times lie in
    0..1, so at temperature 1 (the rule's) the largest weight is at most e times the
    smallest; a lower temperature sharpens the draw.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    masked = np.where(kept, scores / temperature, -np.inf)
    top = masked.max(axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(masked - np.where(np.isfinite(top), top, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(weights, total, out=np.zeros_like(weights), where=total > 0))


def backfill_weights(weights: Floats, mean_times: Floats, floor: float = 1e-3) -> Floats:
    """Weigh the popular tracks that fill up a short row.

    `weights` `[k]` are the row's own, `mean_times` `[m]` the fillers' mean observed
    times. Each filler gets a third of the smallest own weight, or its mean time where
    the row has none. `floor` keeps a filler that nobody could stand drawable.
    """
    if weights.size:
        return np.full(mean_times.shape, weights.min() / 3.0)
    return np.maximum(mean_times, floor)


# --- the rules that answer a request -------------------------------------------------------------


def switch(last: str | None, time: float, threshold: float = SWITCH_THRESHOLD) -> str:
    """Name the recommender that answers next, given who answered last and how it was heard.

    `last` is None in a new session. Stay with the one that is doing well.
    """
    if last == CONTEXTUAL and time < threshold:
        return PERSONAL
    if last == PERSONAL and time >= threshold:
        return PERSONAL
    return CONTEXTUAL


@value
class Draw:
    """Two independent draws, uniform in [0, 1), made before the session is known.

    `chance` picks a candidate in proportion to the weights; `spare` decides among the
    unheard when the pick turns out to have been heard. The pools of a plan may share them,
    for only one pool answers, and which one does not depend on the draws.
    """

    chance: float
    spare: float


class Pool:
    """A weighted draw among `candidates`; without `memory` heard tracks stay in it.

    As a rule the first pool of a plan answers, so the candidates of others may be given as a
    function that finds them, and are found when somebody asks.
    """

    __slots__ = ("_candidates", "draw", "memory", "recommender")

    def __init__(
        self,
        recommender: str,
        candidates: Candidates | Callable[[], Candidates],
        draw: Draw,
        memory: bool = True,
    ) -> None:
        self.recommender = recommender
        self.draw = draw
        self.memory = memory
        self._candidates = candidates

    @property
    def candidates(self) -> Candidates:
        """What may be drawn."""
        found = self._candidates
        if not isinstance(found, Candidates):
            found = self._candidates = found()
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """A uniform draw among all unheard tracks of a population too large to list.

    `proposals` are distinct tracks of the population in random order, so the first
    unheard one is a uniform draw. `size` is the population's.
    """

    recommender: str
    proposals: Sequence[int]
    size: int


class Routes:
    """In which order the pools of a plan are asked, by the recommender that answered last.

    `None` is every other state, a new session among them. A policy makes its routes once: each
    is equal to itself alone, so what is derived from one is soon found again.
    """

    __slots__ = ("_by_last", "first")

    def __init__(self, by_last: Mapping[str | None, tuple[int, ...]]) -> None:
        self._by_last = by_last
        self.first = tuple(sorted({route[0] for route in by_last.values()}))
        """The pools that may be the first to be asked."""

    def after(self, last: str | None) -> tuple[int, ...]:
        """Return the indices of the pools to ask, in order, after `last`."""
        return self._by_last.get(last, self._by_last[None])


@value
class Plan:
    """Who may answer, in which order, for every session state that matters.

    Whoever answers after the first of a route is a fallback; in a plan made as a fallback
    everyone is.
    """

    pools: tuple[Pool | Sample, ...]
    routes: Routes
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The track to serve, who chose it, and with what probability."""

    track: int
    recommender: str
    propensity: float
    fallback: bool


def draw(rng: Random) -> Draw:
    """Make the two draws of a plan; the same generator state gives the same draws."""
    return Draw(rng.random(), rng.random())


def probabilities(candidates: Candidates, heard: Sequence[bool]) -> list[float]:
    """Return each candidate's chance to be served once the heard ones are removed.

    The list has the length of `candidates`, zero at the heard; it sums to one unless
    all are heard.
    """
    left = sum(w for w, known in zip(candidates.weights, heard, strict=True) if not known)
    return [
        0.0 if known else weight / left
        for weight, known in zip(candidates.weights, heard, strict=True)
    ]


def settle(
    plan: Plan,
    last: str | None,
    heard: Callable[[Sequence[int]], Sequence[bool]],
    heard_in_population: int,
) -> Decision | None:
    """Settle a plan against a session; None when all of its pools are exhausted.

    `heard` tells for each of some tracks whether this session has heard it;
    `heard_in_population` is how many tracks of a `Sample`'s population it has heard.
    """
    for rank, index in enumerate(plan.routes.after(last)):
        pool = plan.pools[index]
        if isinstance(pool, Sample):
            found = _settle_sample(pool, heard(pool.proposals), heard_in_population)
        else:
            found = _settle_pool(pool, heard(pool.candidates.tracks))
        if found is not None:
            track, propensity = found
            return Decision(track, pool.recommender, propensity, plan.fallback or rank > 0)
    return None


def _settle_pool(pool: Pool, heard: Sequence[bool]) -> tuple[int, float] | None:
    candidates = pool.candidates
    if not pool.memory or not any(heard):
        if not len(candidates):
            return None
        pick = candidates.pick(pool.draw.chance)
        return candidates.tracks[pick], candidates.weights[pick] / candidates.total
    unheard = [i for i, known in enumerate(heard) if not known]
    if not unheard:
        return None
    cumulative = list(accumulate(candidates.weights[i] for i in unheard))
    left = cumulative[-1]
    pick = candidates.pick(pool.draw.chance)
    if heard[pick]:
        position = bisect_right(cumulative, pool.draw.spare * left)
        pick = unheard[min(position, len(unheard) - 1)]
    return candidates.tracks[pick], candidates.weights[pick] / left


def _settle_sample(pool: Sample, heard: Sequence[bool], gone: int) -> tuple[int, float] | None:
    for track, known in zip(pool.proposals, heard, strict=True):
        if not known:
            return track, 1.0 / max(pool.size - gone, 1)
    return None
