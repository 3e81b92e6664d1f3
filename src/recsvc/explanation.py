"""What /explain says of a decision, as plain data."""

from dataclasses import dataclass

from recsvc.policy import Pool, Sample, probabilities
from recsvc.recommenders.reasons import Reasons

__all__ = ["Explanation", "PoolExplanation", "explain_pool"]


@dataclass(frozen=True, slots=True)
class PoolExplanation:
    """One recommender's candidates as /next would see them; rows heaviest first.

    A row is (track, weight, heard, probability). A sample lists only its proposals.
    """

    recommender: str
    answers: bool
    population: int
    rows: list[tuple[int, float, bool, float]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What /next would do now, and why. `pools` are in the order they would be asked.

    `switches` tells whether the policy asks first who did well, `reasons` are those of one that
    infers what the session is about.
    """

    policy: str
    table_version: str
    last_recommender: str | None
    first: str
    answered_by: str
    pools: list[PoolExplanation]
    switches: bool
    reasons: Reasons | None = None


def explain_pool(
    pool: Pool | Sample, heard: list[bool], gone: int, *, answers: bool
) -> PoolExplanation:
    """List a pool's candidates; `heard` has a flag for each, `answers` if it is chosen.

    Of a sample's population the session has heard `gone` tracks, so each unheard
    proposal has one chance in those that are left.
    """
    if isinstance(pool, Sample):
        chance = 1.0 / max(pool.size - gone, 1)
        rows = [
            (track, 1.0, known, 0.0 if known else chance)
            for track, known in zip(pool.proposals, heard, strict=True)
        ]
        return PoolExplanation(pool.recommender, answers, pool.size, rows)
    offered = pool.candidates
    chances = probabilities(offered, heard)
    rows = list(zip(offered.tracks, offered.weights, heard, chances, strict=True))
    return PoolExplanation(pool.recommender, answers, len(offered), rows)
