"""Quality gates: whether a valid table is also good enough to serve from. Pure.

Each gate that refuses gives one plain sentence; the caller decides what to do with them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.policy import MAX_NEIGHBOURS, MIN_NEIGHBOURS
from recsvc.table import Table

__all__ = ["Limits", "check", "churn"]

_MODELS = ("contextual", "personal", "session")
_ROUNDING = 1e-6  # two ways to sum the same squares of times may differ so much

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where the gates stand. Shares lie in 0..1."""

    least_tracks: int = 1
    """A table has at least so many tracks."""
    coverage: float = 0.99
    """At least this share of the tracks has neighbours (a lone track cannot have any)."""
    kept_tracks: float = 0.8
    """At least this share of the live table's tracks is still there."""
    short_rows: float = 0.0
    """At most this share of the rows has fewer or more neighbours than the rule says."""
    heaviest: float = 0.9
    """A row is lopsided when one neighbour holds more than this share of its weight ..."""
    lopsided_rows: float = 0.5
    """... and at most this share of the rows may be."""
    overlap: float = 0.05
    """The mean overlap (Jaccard) of a track's neighbours with its live ones is at least
    this. Retraining from a new seed keeps much more; a mixed-up catalogue keeps nothing."""
    overlap_sample: int = 2000
    """Shared tracks to look at for the overlap."""
    error_ratio: float = 1.0
    """A model's validation error is at most so many times that of the constant predictor."""


def check(
    candidate: Table,
    live: Table | None = None,
    limits: Limits | None = None,
    metrics: Mapping[str, float] | None = None,
) -> list[str]:
    """Return why `candidate` should not replace `live`; nothing when it may.

    `live` is None when nothing is published yet. `metrics` are a manifest's; those that
    are missing are not held against it.
    """
    limits = limits or Limits()
    if len(candidate) < max(limits.least_tracks, 1):
        return [f"it has {len(candidate):,} tracks; {max(limits.least_tracks, 1):,} are needed"]
    gates: list[Callable[[Table, Limits], str | None]] = [_coverage, _counts, _weights]
    reasons = [gate(candidate, limits) for gate in gates]
    if live is not None and len(live):
        reasons += [_kept(candidate, live, limits), _overlap(candidate, live, limits)]
    reasons += [_error(model, metrics or {}, limits) for model in _MODELS]
    return [reason for reason in reasons if reason is not None]


def churn(candidate: Table, live: Table, sample: int = 2000) -> float | None:
    """Return the mean Jaccard overlap of the neighbour sets of the tracks both tables have.

    At most `sample` of them are looked at, evenly spread over the ids. None when the
    tables share no track. Two empty sets overlap fully.
    """
    shared = np.intersect1d(candidate.tracks, live.tracks, assume_unique=True)
    if not len(shared):
        return None
    spread = np.linspace(0, len(shared) - 1, min(sample, len(shared))).astype(np.int64)
    overlaps = [_jaccard(_ids(candidate, t), _ids(live, t)) for t in shared[spread].tolist()]
    return float(np.mean(overlaps))


def _coverage(table: Table, limits: Limits) -> str | None:
    if len(table) == 1:
        return None
    share = float((np.diff(table.neighbour_offsets) > 0).mean())
    if share >= limits.coverage:
        return None
    return f"only {share:.1%} of the tracks have neighbours; {limits.coverage:.1%} are needed"


def _counts(table: Table, limits: Limits) -> str | None:
    least = min(MIN_NEIGHBOURS, len(table) - 1)
    counts = np.diff(table.neighbour_offsets)
    share = float(((counts < least) | (counts > MAX_NEIGHBOURS)).mean())
    if share <= limits.short_rows:
        return None
    return (
        f"{share:.1%} of the tracks have fewer than {least} or more than {MAX_NEIGHBOURS} "
        f"neighbours; {limits.short_rows:.1%} may"
    )


def _weights(table: Table, limits: Limits) -> str | None:
    offsets = table.neighbour_offsets
    rows = np.flatnonzero(np.diff(offsets) > 1)  # of a single neighbour nothing follows
    if not len(rows):
        return None
    weights = table.neighbour_weights.astype(np.float64)
    if not (np.isfinite(weights) & (weights > 0)).all():
        return "a neighbour weight is not positive"
    filled = np.flatnonzero(np.diff(offsets) > 0)
    totals = np.add.reduceat(weights, offsets[filled])
    heaviest = np.maximum.reduceat(weights, offsets[filled]) / totals
    heaviest = heaviest[np.isin(filled, rows, assume_unique=True)]
    share = float((heaviest > limits.heaviest).mean())
    if share <= limits.lopsided_rows:
        return None
    return (
        f"in {share:.1%} of the rows one neighbour holds over {limits.heaviest:.0%} of the "
        f"weight; {limits.lopsided_rows:.1%} may"
    )


def _kept(candidate: Table, live: Table, limits: Limits) -> str | None:
    share = float(np.isin(live.tracks, candidate.tracks, assume_unique=True).mean())
    if share >= limits.kept_tracks:
        return None
    return (
        f"only {share:.1%} of the {len(live):,} live tracks are in it; "
        f"{limits.kept_tracks:.1%} are needed"
    )


def _overlap(candidate: Table, live: Table, limits: Limits) -> str | None:
    overlap = churn(candidate, live, limits.overlap_sample)
    if overlap is None or overlap >= limits.overlap:
        return None
    return (
        f"its neighbours overlap with the live ones by {overlap:.1%}; "
        f"{limits.overlap:.1%} are needed"
    )


def _error(model: str, metrics: Mapping[str, float], limits: Limits) -> str | None:
    error, constant = metrics.get(f"{model}_mse"), metrics.get(f"{model}_mse_constant")
    if error is None or constant is None or error <= limits.error_ratio * constant + _ROUNDING:
        return None
    digits = 4 if f"{error:.4f}" != f"{constant:.4f}" else 7  # so that the two look different
    return (
        f"the {model} model's error of {error:.{digits}f} is more than {limits.error_ratio:g} "
        f"times the constant predictor's {constant:.{digits}f}"
    )


def _ids(table: Table, track: int) -> set[int]:
    index = table.index(track)
    if index is None:
        return set()
    found: list[int] = table.tracks[table.neighbour_row(index).indices].tolist()
    return set(found)


def _jaccard(one: set[int], other: set[int]) -> float:
    union = len(one | other)
    return len(one & other) / union if union else 1.0
