"""Fits the session model by expectation maximisation: factor analysis of logits of times."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precompute.inference.expectation import expect
from precompute.inference.maximisation import maximise
from precompute.inference.observations import Array, Observations
from precompute.inference.parameters import Parameters, Settings
from precompute.inference.rows import rows_of

__all__ = ["improve"]

Vectors = tuple[Tensor, Tensor, Tensor]
"""Artists, deviations, offsets: what changes most from pass to pass."""


def improve(
    model: Parameters,
    observations: Observations,
    artist: Array,
    passes: int,
    settings: Settings,
    on_sessions: Callable[[int], None] = lambda _: None,
) -> None:
    """Fit `model` to observations in place; `artist` `[n]` is the artist of each track.

    Every pass infers what sessions were after (E), then takes the model that explains it
    best (M). Passes alone creep, so each but the last is carried on in the direction it went,
    the further the longer that has been the way (Nesterov's momentum; begun anew when a pass
    turns back, O'Donoghue and Candès 2015). `on_sessions` hears how many sessions have been
    gone through since the last call.
    """
    rows, artists = rows_of(observations), torch.from_numpy(artist.astype(np.int64))
    means: Tensor | None = None
    found, straight = _vectors(model), 0
    for number in range(passes):
        moments, means = expect(
            model, artists, rows, means, settings.interests_at_once, on_sessions
        )
        begun, before = _vectors(model), found
        maximise(model, moments, artists, rows.interests, settings)
        found = _vectors(model)
        straight = 0 if _turns_back(before, begun, found) else straight + 1
        if number + 1 < passes:
            _carry_on(model, before, found, min(straight / (straight + 3), settings.momentum))


def _vectors(model: Parameters) -> Vectors:
    return model.artists, model.deviations, model.offsets


def _turns_back(before: Vectors, begun: Vectors, found: Vectors) -> bool:
    """Tell whether a pass from `begun` to `found` undid what led there from `before`."""
    parts = zip(before, begun, found, strict=True)
    return sum(float(((start - end) * (end - old)).sum()) for old, start, end in parts) > 0.0


def _carry_on(model: Parameters, before: Vectors, found: Vectors, share: float) -> None:
    """Go on from `found` by a `share` of the way that led there from `before`."""
    model.artists, model.deviations, model.offsets = (
        new + share * (new - old) for old, new in zip(before, found, strict=True)
    )
