"""An explanation as what /explain answers: with names, and in words."""

from typing import Any

from recsvc.explanation import Explanation, PoolExplanation
from recsvc.policy import CONTEXTUAL, PERSONAL
from recsvc.recommenders.reasons import Reasons
from recsvc.recommenders.session import SESSION
from recsvc.recommenders.source import Source
from recsvc.session import Report

__all__ = ["render"]


def render(
    explained: Explanation, report: Report, source: Source, threshold: float
) -> dict[str, Any]:
    """Return the answer's body; names come from `source`."""
    return {
        "user": report.user,
        "track": report.track,
        "time": report.time,
        "policy": explained.policy,
        "table_version": explained.table_version,
        "last_recommender": explained.last_recommender,
        "why": _why(explained, report.time, threshold),
        "answered_by": explained.answered_by,
        "pools": [_pool(pool, source) for pool in explained.pools],
        "reasons": _reasons(explained.reasons, source) if explained.reasons else None,
    }


def _why(explained: Explanation, time: float, threshold: float) -> str:
    if explained.first == SESSION:
        why = "the session's taste is inferred from what was heard"
    elif not explained.switches:
        why = f"the policy {explained.policy} always asks {explained.first} first"
    elif explained.last_recommender is None:
        why = f"a new session begins with {explained.first}"
    elif explained.last_recommender in (CONTEXTUAL, PERSONAL):
        doing = "below" if time < threshold else "at or above"
        why = (
            f"{explained.last_recommender} answered last and was heard for {time:g}, {doing} "
            f"{threshold:g}, so {explained.first} is first in line"
        )
    else:
        why = f"{explained.last_recommender} answered last, so {explained.first} is first in line"
    if explained.answered_by != explained.first:
        why += f"; it has nothing unheard left, so {explained.answered_by} answers"
    return why


def _reasons(told: Reasons, source: Source) -> dict[str, Any]:
    return {
        "summary": _summary(told, source),
        "typical": told.typical,
        "heard": [
            {
                **source.describe(one.track),
                "time": one.time,
                "expected": one.expected,
                "change": one.change,
            }
            for one in told.heard
        ],
        "candidates": [
            {
                **source.describe(one.track),
                "expected": one.time,
                "low": one.low,
                "high": one.high,
                "discount": one.discount,
            }
            for one in told.candidates
        ],
    }


def _summary(told: Reasons, source: Source) -> str:
    """Say in words what was inferred; a person reads this first."""
    if not told.candidates:
        return "nothing unheard is left to expect anything of"
    best = told.candidates[0]
    said = (
        f"{_named(best.track, source)} is expected to be heard for {best.time:.2f} "
        f"({best.low:.2f} to {best.high:.2f} in 9 of 10 cases)"
    )
    if best.discount < 1.0:
        said += f", of which its artist's earlier plays have cost {1.0 - best.discount:.0%}"
    moving = [one for one in told.heard if one.expected is not None]
    if moving:
        most = max(moving, key=lambda one: abs(one.change))
        said += (
            f"; most telling was {_named(most.track, source)}, heard for {most.time:.2f} where "
            f"{most.expected:.2f} was expected: {most.change:+.2f} for the answer"
        )
    return said


def _named(track: int, source: Source) -> str:
    known = source.describe(track)
    return f"{known['title'] or 'track'} ({track})"


def _pool(pool: PoolExplanation, source: Source) -> dict[str, Any]:
    return {
        "recommender": pool.recommender,
        "answers": pool.answers,
        "population": pool.population,
        "heard": sum(heard for _, _, heard, _ in pool.rows),
        "candidates": [
            {
                **source.describe(track),
                "weight": weight,
                "heard": heard,
                "probability": probability,
            }
            for track, weight, heard, probability in pool.rows
        ],
    }
