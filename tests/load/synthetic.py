"""Tables of any size, made up: what costs depend on is their shape, not what is in them."""

from typing import Any

import numpy as np

from recsvc.halves import halve
from recsvc.table import Table, Text

__all__ = ["make_table"]

_ALIKE = 10  # tracks of one artist
_LEAF = 16  # tracks of one leaf of the session model


def make_table(
    tracks: int,
    *,
    neighbours: int = 70,
    users: int = 0,
    personal: int = 100,
    popular: int = 200,
    dimensions: int = 0,
    seed: int = 0,
) -> Table:
    """Make a table of tracks 0..tracks-1, each with so many neighbours from all over it.

    Users 0..users-1 have `personal` tracks each. Lists are as long as asked for, or as the
    catalogue allows. With `dimensions` there is a session model of such vectors; without, the
    policy `session` would fall back to the others, which cost far less. The same arguments give
    the same table.
    """
    rng = np.random.default_rng(seed)
    neighbours, personal, popular = (
        min(length, tracks - 1) for length in (neighbours, personal, popular)
    )
    near = _distinct_rows(rng, np.arange(tracks), tracks, neighbours)
    own = _distinct_rows(rng, rng.integers(0, tracks, users), tracks, personal)
    artists = Text.of([f"Artist {i}" for i in range(-(-tracks // _ALIKE))])
    titles = Text.of([f"Song {i}" for i in range(tracks)])
    nothing = np.zeros(0)
    return Table(
        tracks=np.arange(tracks, dtype=np.int64),
        artist=(np.arange(tracks) // _ALIKE).astype(np.int32),
        artist_name_offsets=artists.offsets,
        artist_names=artists.block,
        title_offsets=titles.offsets,
        titles=titles.block,
        neighbour_offsets=np.arange(tracks + 1, dtype=np.int64) * neighbours,
        neighbours=near.ravel(),
        neighbour_weights=np.tile(_weights(neighbours), tracks),
        top=nothing.astype(np.int32),
        top_weights=nothing.astype(np.float32),
        popular=np.arange(popular, dtype=np.int32),
        popular_weights=_weights(popular),
        users=np.arange(users, dtype=np.int64),
        personal_offsets=np.arange(users + 1, dtype=np.int64) * personal,
        personal=own.ravel(),
        personal_weights=np.tile(_weights(personal), users),
        plays=np.arange(tracks, 0, -1, dtype=np.int32),
        mean_time=np.full(tracks, 0.5, dtype=np.float32),
        **(_session_model(rng, tracks, dimensions) if dimensions else {}),
    )


def _session_model(rng: np.random.Generator, tracks: int, dimensions: int) -> dict[str, Any]:
    """Make the arrays of a session model: tracks of one artist alike, leaves in their order."""
    k, leaves = dimensions + 1, -(-tracks // _LEAF)
    artists = rng.normal(0.0, 0.15, (-(-tracks // _ALIKE), k))
    vectors = np.zeros((leaves * _LEAF, k), dtype=np.float32)
    vectors[:tracks] = artists[np.arange(tracks) // _ALIKE] + rng.normal(0.0, 0.06, (tracks, k))
    rows = np.full(leaves * _LEAF, -1, dtype=np.int32)
    rows[:tracks] = np.arange(tracks)
    opening, spread = np.eye(k) * 2.0, np.eye(k) * 2.0
    opening[-1, -1], spread[-1, -1] = -4.0, 9.0
    return {
        "session_vectors": halve(vectors.ravel()),
        "session_centres": halve(vectors.reshape(leaves, _LEAF, k).mean(axis=1).ravel()),
        "session_rows": rows,
        "session_places": np.arange(tracks, dtype=np.int32),
        "session_opening": opening.astype(np.float32).ravel(),
        "session_spread": spread.astype(np.float32).ravel(),
        "session_constants": np.array([0.5, 0.8], dtype=np.float32),
    }


def _distinct_rows(
    rng: np.random.Generator, starts: np.ndarray, size: int, length: int
) -> np.ndarray:
    """Draw `[len(starts), length]` int32 indices below `size`, no row with one twice.

    Each row goes once around the catalogue from its start, in random steps too short to
    come around, so it never meets its start either.
    """
    longest = max((size - 1) // max(length, 1), 1)
    rows = rng.integers(1, longest + 1, (len(starts), length), dtype=np.int32)
    np.cumsum(rows, axis=1, out=rows)
    rows += starts.astype(np.int32)[:, None]
    rows %= size
    return rows


def _weights(length: int) -> np.ndarray:
    """Weights as the softmax of predicted times gives them: the first about e times the last."""
    weights = np.exp(np.linspace(1.0, 0.0, length, dtype=np.float32))
    return np.asarray(weights / weights.sum(), dtype=np.float32)
