"""Small tables with a session model, and sessions drawn from one, that tests share."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.inference.leaves import arrange
from recsvc.halves import halve
from recsvc.recommenders.source import session_model
from recsvc.table import Table, Text
from recsvc.taste import SessionModel
from tests.support import small_table

__all__ = ["as_artists", "hear", "inferring_table", "random_model", "session_arrays"]

Array = npt.NDArray[Any]


def session_arrays(
    vectors: Array,
    offsets: Array,
    *,
    leaf: int = 8,
    opening: Array | None = None,
    spread: Array | None = None,
    noise: float = 0.5,
    discount: float = 0.8,
) -> dict[str, Any]:
    """The session arrays of a table, of tracks with `vectors` `[n, d]` and `offsets` `[n]`.

    Sessions like their first track, and most of the others not so much.
    """
    n, k = len(vectors), vectors.shape[1] + 1
    if opening is None:
        opening = np.eye(k) * 1.5
        opening[-1, -1] = -1.0
    tracks = np.column_stack([vectors, offsets]).astype(np.float32)
    rows = arrange(tracks, leaf)
    leaves = [row[row >= 0] for row in rows.reshape(-1, leaf)]
    taken = np.flatnonzero(rows >= 0)
    placed = np.zeros((len(rows), k), dtype=np.float32)
    placed[taken] = tracks[rows[taken]]
    places = np.zeros(n, dtype=np.int32)
    places[rows[taken]] = taken
    return {
        "session_vectors": halve(placed.ravel()),
        "session_centres": halve(np.concatenate([tracks[leaf].mean(axis=0) for leaf in leaves])),
        "session_rows": rows,
        "session_places": places,
        "session_opening": opening.astype(np.float32).ravel(),
        "session_spread": (np.eye(k) if spread is None else spread).astype(np.float32).ravel(),
        "session_constants": np.array([noise, discount], dtype=np.float32),
    }


def random_model(n: int = 40, d: int = 4, *, seed: int = 1, **settings: Any) -> SessionModel:
    """A session model of tracks with random vectors; `settings` as of `session_arrays`."""
    return session_model(session_arrays(*_random(n, d, seed), **settings))


def inferring_table(
    n: int = 40, d: int = 4, *, seed: int = 1, first: int = 0, artists: int = 3, **settings: Any
) -> Table:
    """A small table with a session model of random vectors."""
    arrays = session_arrays(*_random(n, d, seed), **settings)
    return replace(as_artists(small_table(n, first=first), np.arange(n) % artists), **arrays)


def as_artists(table: Table, artist: Array) -> Table:
    """The same table with the tracks given to other artists."""
    names = Text.of([f"Artist {a}" for a in range(int(artist.max()) + 1)])
    return replace(
        table,
        artist=artist.astype(np.int32),
        artist_name_offsets=names.offsets,
        artist_names=names.block,
    )


def hear(
    model: SessionModel, state: Array, row: int, plays: int, rng: np.random.Generator
) -> float:
    """How much a session with `state` (taste, mood) hears of a track, by the model; as reported."""
    logit = state @ model.direction(row) + model.offset(row)
    logit += rng.normal(0.0, np.sqrt(model.noise))
    return round(float(model.discount**plays / (1.0 + np.exp(-logit))), 2)


def _random(n: int, d: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(0.0, 0.3, n)
