"""The contextual model: how much of one track is heard after another."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from precompute.bilinear import Model, Rows, train
from precompute.catalogue import Catalogue
from precompute.errors import TrainingError
from precompute.factorisation import Settings as Factorisation
from precompute.sessions import Transitions

__all__ = ["Settings", "fit"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the contextual model is trained."""

    factorisation: Factorisation = field(default_factory=Factorisation)
    previous_time: float = 0.5
    """Learn only from rows whose previous track was heard at least this much: what follows
    a track that was skipped at once says little about that track. 0 takes all rows, and so
    does a log in which no such row is left. On a simulated log of random recommendations
    0.5 made `contextual` 34% better in the closed loop than 0 (docs/training.md)."""


def fit(
    transitions: Transitions,
    catalogue: Catalogue,
    settings: Settings,
    *,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Model:
    """Train `context[t] · target[n]`, the predicted time of `n` after `t`.

    The model's left side is the previous track, its right side the next; both are the
    catalogue's indices. Raises `TrainingError` when there is no row to learn from.
    """
    heard = transitions.previous_time >= settings.previous_time
    if not (heard & ~transitions.valid).any():
        heard = np.ones_like(heard)
    rows = Rows(
        left=transitions.previous[heard],
        right=transitions.next[heard],
        value=transitions.time[heard],
        valid=transitions.valid[heard],
    )
    if rows.valid.all():
        raise TrainingError("no listener in the log heard two tracks of the catalogue in a row")
    return train(
        rows,
        catalogue.artist,
        catalogue.artist,
        settings.factorisation,
        seed=seed,
        on_epoch=on_epoch,
    )
