"""What /explain says of a decision, as plain data."""

from dataclasses import dataclass

from recsvc.policy import Candidates, Pool, Sample, probabilities

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
    """What /next would do now, and why. `pools` are in the order they would be asked."""

    policy: str
    table_version: str
    last_recommender: str | None
    first: str
    answered_by: str
    pools: list[PoolExplanation]


def explain_pool(pool: Pool | Sample, heard: list[bool], *, answers: bool) -> PoolExplanation:
    """List a pool's candidates; `heard` has a flag for each, `answers` if it is chosen."""
    if isinstance(pool, Sample):
        candidates = Candidates(pool.proposals, [1.0] * len(pool.proposals))
        size = pool.size
    else:
        candidates, size = pool.candidates, len(pool.candidates)
    chances = probabilities(candidates, heard)
    rows = zip(candidates.tracks, candidates.weights, heard, chances, strict=True)
    return PoolExplanation(pool.recommender, answers, size, list(rows))
