"""The policy `session`: what the session is after is inferred, and the best of it is served."""

from functools import lru_cache, partial
from random import Random

import numpy as np

from recsvc.candidates import Candidates
from recsvc.policy import CONTEXTUAL, PERSONAL, POPULAR, Plan, Pool, Routes, draw
from recsvc.recommenders.inference import infer
from recsvc.recommenders.source import NOTHING, Source

__all__ = ["SESSION", "SessionPolicy"]

SESSION = "session"

_LEAST_EXPLORATION = 1e-9
_IN_TURN = Routes({None: (0, 1, 2, 3)})


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
        return self.recall(source, user, track, time, rng, b"", b"")[0]

    def recall(
        self,
        source: Source,
        user: int,
        track: int,
        time: float,
        rng: Random,
        evidence: bytes,
        served: bytes,
    ) -> tuple[Plan, bytes]:
        """Plan the answer from what the session has heard before this report.

        `served` are tracks that went out, packed, the latest last, and not to go out again. Also
        returns the evidence to keep, this report included; none without a session model.
        """
        best, kept = NOTHING, b""
        if source.session_model is not None:
            found, kept = infer(source, evidence, track, time, served, self.candidates)
            best = _greedy(len(found), self.exploration).of(found.packed_tracks)
        made = draw(rng)
        pools = (
            Pool(SESSION, best, made),
            Pool(CONTEXTUAL, partial(source.neighbours, track), made),
            Pool(PERSONAL, partial(source.personal, user), made),
            Pool(POPULAR, source.popular, made),
        )
        return Plan(pools, _IN_TURN), kept


@lru_cache(maxsize=64)
def _greedy(count: int, exploration: float) -> Candidates:
    """Weigh so many candidates, the best first: the draw's probabilities."""
    # Not zero: the best may turn out to be heard, and then the others are drawn from.
    share = max(exploration, _LEAST_EXPLORATION)
    weights = np.full(count, share / max(count, 1))
    weights[:1] += 1.0 - share
    return Candidates(range(count), weights)
