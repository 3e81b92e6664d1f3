"""The personal lists: what each listener would hear longest, by matrix factorisation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.bilinear import Model, Rows, train
from precompute.catalogue import Catalogue
from precompute.factorisation import Settings as Factorisation
from precompute.sessions import Sessions
from precompute.topk import top
from recsvc.policy import softmax_weights

__all__ = ["Lists", "Settings", "fit", "lists"]

Array = npt.NDArray[Any]

SMALLEST = 1e-30


@dataclass(frozen=True, slots=True)
class Settings:
    """How the personal lists are made."""

    factorisation: Factorisation = field(
        default_factory=lambda: Factorisation(
            epochs=15, patience=2, learning_rate=0.01, decays=(0.2, 0.02)
        )
    )
    """A listener's own taste is a much stronger signal than what follows what, so larger
    steps and a smaller penalty do."""
    size: int = 100
    """Tracks a list."""
    temperature: float = 0.05
    """Of the softmax of the predicted times; lower draws the best tracks more often."""
    block: int = 128
    """Listeners a step of the search; changes the speed and never the result."""


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """The lists of `u` listeners end to end."""

    offsets: Array
    """`[u + 1]` int64."""
    indices: Array
    """`[m]` int32: track indices, the heaviest of a list first."""
    weights: Array
    """`[m]` float32, positive; a list's weights sum to one."""


def fit(
    sessions: Sessions,
    catalogue: Catalogue,
    settings: Settings,
    *,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Model:
    """Factorise listening times: the left side are listeners, the right side tracks.

    An event is a row, so a pair heard often counts as often. A listener with few rows
    leans on what is true of all, and still gets a list.
    """
    known = sessions.known
    rows = Rows(
        left=sessions.user[known],
        right=sessions.track[known],
        value=sessions.time[known],
        valid=sessions.valid[known],
    )
    alone = np.arange(len(sessions.users))
    return train(
        rows, alone, catalogue.artist, settings.factorisation, seed=seed, on_epoch=on_epoch
    )


def lists(
    model: Model, settings: Settings, on_rows: Callable[[int], None] = lambda _: None
) -> Lists:
    """Return each listener's best tracks, weighted by the softmax of predicted times.

    `on_rows` is told how many lists are done since last time.
    """
    listeners, width = len(model.left), min(settings.size, len(model.right))
    indices = np.zeros((listeners, width), dtype=np.int32)
    weights = np.zeros((listeners, width), dtype=np.float32)
    done = 0
    for scores, columns in top(model.left, model.right, width, block=settings.block):
        rows = slice(done, done + len(scores))
        every = np.ones(scores.shape, dtype=bool)
        indices[rows] = columns.numpy()
        weights[rows] = softmax_weights(scores.numpy(), every, settings.temperature)
        done += len(scores)
        on_rows(len(scores))
    offsets = np.arange(listeners + 1, dtype=np.int64) * width
    return Lists(offsets, indices.ravel(), np.maximum(weights, SMALLEST).ravel())
