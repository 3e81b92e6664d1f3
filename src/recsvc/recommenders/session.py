"""The policy `session`: what the session is after is inferred, and the best of it is served."""

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import numpy as np

from recsvc.evidence import NO_EVIDENCE, Evidence
from recsvc.policy import CONTEXTUAL, PERSONAL, POPULAR, Candidates, Plan, Pool, draw
from recsvc.recommenders.inference import forecast, learn
from recsvc.recommenders.source import NOTHING, Source
from recsvc.table import Array

__all__ = ["SESSION", "SessionPolicy"]

SESSION = "session"

_LEAST_EXPLORATION = 1e-9


class SessionPolicy:
    """Serves the unheard track of most predicted time, and now and then another good one.

    With probability `exploration` the answer is a uniform draw among the `candidates` best, so
    that the log says what would have become of them; every propensity is exact. Without a
    session model in the table the pools of the other recommenders answer.
    """

    name = SESSION

    def __init__(self, exploration: float, candidates: int) -> None:
        self.exploration = exploration
        self.candidates = candidates

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Plan the answer in a session of which nothing is known."""
        return self.recall(source, user, track, time, rng, NO_EVIDENCE, ())[0]

    def recall(
        self,
        source: Source,
        user: int,
        track: int,
        time: float,
        rng: Random,
        evidence: Evidence,
        served: Sequence[int],
    ) -> tuple[Plan, Evidence | None]:
        """Plan the answer from what the session has heard before this report.

        `served` are tracks that went out, the latest last, and are not to go out again. Also
        returns the evidence to keep, this report included; None without a session model.
        """
        best, kept = NOTHING, None
        if source.session_model is not None:
            known = learn(source, evidence, track, time)
            found = forecast(source, known, served, self.candidates)
            kept = known.with_shortlist(found.shortlist)
            best = Candidates(found.tracks, _greedy(len(found), self.exploration))
        offers = (
            (SESSION, best),
            (CONTEXTUAL, source.neighbours(track)),
            (PERSONAL, source.personal(user)),
            (POPULAR, source.popular),
        )
        made = draw(rng)
        pools = tuple(Pool(name, found, made) for name, found in offers)
        return Plan(pools, {None: tuple(range(len(pools)))}), kept


@lru_cache(maxsize=64)
def _greedy(count: int, exploration: float) -> Array:
    """Weigh candidates, the best first: the draw's probabilities."""
    if count == 0:
        return np.zeros(0)
    # Not zero: the best may turn out to be heard, and then the others are drawn from.
    share = max(exploration, _LEAST_EXPLORATION)
    weights = np.full(count, share / count)
    weights[0] += 1.0 - share
    return weights
