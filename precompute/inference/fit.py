"""Fits the session model by expectation maximisation: factor analysis of logits of times."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precompute.inference.expectation import Rows, expect
from precompute.inference.maximisation import maximise
from precompute.inference.observations import Array, Observations
from precompute.inference.parameters import Parameters, Settings

__all__ = ["improve"]


def improve(
    model: Parameters,
    observations: Observations,
    artist: Array,
    passes: int,
    settings: Settings,
    on_sessions: Callable[[int], None] = lambda _: None,
) -> None:
    """Fit `model` to observations in place; `artist` `[n]` is the artist of each track.

    Every pass infers what each session was after (E), then takes the model that explains it
    best (M). `on_sessions` hears how many sessions have been inferred since the last call.
    """
    rows, artists = _rows(observations), torch.from_numpy(artist.astype(np.int64))
    means: Tensor | None = None
    for _ in range(passes):
        moments, means = expect(model, artists, rows, means, settings.sessions_at_once, on_sessions)
        maximise(model, moments, artists, rows.sessions, settings)


def _rows(observations: Observations) -> Rows:
    counts = np.bincount(observations.session, minlength=observations.count)
    return Rows(
        session=torch.from_numpy(observations.session),
        track=torch.from_numpy(observations.track),
        time=torch.from_numpy(observations.time.astype(np.float32)),
        plays=torch.from_numpy(observations.plays),
        first=torch.from_numpy(observations.first),
        first_time=torch.from_numpy(observations.first_time.astype(np.float32)),
        ends=torch.from_numpy(np.cumsum(counts)),
    )
