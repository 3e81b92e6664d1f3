"""Why `session` would answer as it would: what moved its belief, and what it expects."""

from dataclasses import dataclass

import numpy as np

from recsvc.evidence import Evidence
from recsvc.recommenders.forecast import Forecast
from recsvc.recommenders.inference import walk
from recsvc.recommenders.source import Source
from recsvc.table import Array
from recsvc.taste import Belief, SessionModel, predict

__all__ = ["Candidate", "Influence", "Reasons", "reasons"]

_BAND = 1.645  # standard deviations on both sides of the middle that hold 90%


@dataclass(frozen=True, slots=True)
class Influence:
    """A track heard: how much of it, what was `expected` then, and what it changed.

    `change` is by how much more (less) of the answer is expected since. The first track sets
    what is expected of the session, so nothing was expected of it.
    """

    track: int
    time: float
    expected: float | None
    change: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is expected of a track: `time`, and the `low` and `high` that 90% lie between.

    The artist's earlier plays in the session are in it, as the factor `discount`.
    """

    track: int
    time: float
    low: float
    high: float
    discount: float


@dataclass(frozen=True, slots=True)
class Reasons:
    """What was inferred of a session, in numbers."""

    heard: list[Influence]
    candidates: list[Candidate]
    typical: float
    """What is expected of a track that is neither to the session's taste nor against it."""


def reasons(source: Source, evidence: Evidence, found: Forecast) -> Reasons | None:
    """Account for what `session` would answer, `found` being what is foreseen of the best.

    None without a session model, or without evidence of it.
    """
    model = source.session_model
    if model is None or evidence.belief is None:
        return None
    best = source.table.index(int(found.tracks[0])) if len(found) else None
    return Reasons(
        heard=[] if best is None else _influences(source, model, evidence, best),
        candidates=_candidates(found),
        typical=float(_logistic(evidence.belief.mean[-1])),
    )


def _influences(
    source: Source, model: SessionModel, evidence: Evidence, best: int
) -> list[Influence]:
    told: list[Influence] = []
    before: float | None = None
    for step in walk(source, evidence):
        now = _expected(model, step.after, best)
        expected = None
        if step.before is not None:
            expected = _expected(model, step.before, step.row) * model.discount**step.plays
        track = int(source.table.tracks[step.row])
        told.append(Influence(track, step.time, expected, 0.0 if before is None else now - before))
        before = now
    return told


def _expected(model: SessionModel, belief: Belief, row: int) -> float:
    times, _, _ = predict(model, belief, model.places[row : row + 1])
    return float(times[0])


def _candidates(found: Forecast) -> list[Candidate]:
    margins = _BAND * found.deviations
    low, high = (found.discounts * _logistic(found.logits + side * margins) for side in (-1, 1))
    columns = (found.tracks, found.times, low, high, found.discounts)
    return [Candidate(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _logistic(logits: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits))  # which no number overflows
