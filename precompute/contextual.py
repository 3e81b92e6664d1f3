"""The contextual model: how much of one track is heard after another."""

from collections.abc import Callable
from dataclasses import dataclass, field

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
    previous_time: float = 0.0
    """Learn only from rows whose previous track was heard at least this much. At 0, the
    rule's, a track skipped at once says as much about the next one as one heard out."""


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
