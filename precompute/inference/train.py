"""From sessions to the arrays of the session model, with what they are worth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from precompute.catalogue import Catalogue
from precompute.inference import leaves, quality
from precompute.inference.fit import improve
from precompute.inference.observations import Array, Observations, observe
from precompute.inference.parameters import Parameters, Settings
from precompute.inference.quality import Quality
from precompute.inference.start import find_discount, start, warm_start
from precompute.sessions import Sessions
from recsvc.halves import halve
from recsvc.recommenders.source import session_model
from recsvc.table import Table

__all__ = ["Trained", "is_warm", "train"]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A session model as the table holds it."""

    arrays: dict[str, Array]
    """By the names of the fields of `recsvc.table.Table`."""
    quality: Quality | None
    """What it foresaw of sessions that it was not fitted to, before it saw them too."""
    rows: int
    """Rows gone through, over all passes."""


def is_warm(live: Table | None, settings: Settings) -> bool:
    """Tell whether a table has a session model to start from: one with vectors of this length."""
    return live is not None and live.counts()["session_dimensions"] == settings.dimensions


def train(
    sessions: Sessions,
    catalogue: Catalogue,
    settings: Settings,
    *,
    seed: int,
    live: Table | None = None,
    on_sessions: Callable[[int], None] = lambda _: None,
) -> Trained:
    """Fit the session model, from that of the table `live` where `is_warm`.

    Raises `TrainingError` when no session has more than one track.
    """
    artist = catalogue.artist.astype(np.int64)
    everything = observe(sessions, artist)
    kept = quality.sample(everything.valid, seed=seed)
    fitted, held = everything.among(~kept), everything.among(kept)
    if not len(fitted):
        fitted, held = everything, everything.among(~everything.valid)
    warm = is_warm(live, settings)
    if live is not None and warm:
        model = _from_table(live, catalogue)
        model.discount = find_discount(fitted)
    else:
        model = start(fitted, artist, len(catalogue.artists), settings, seed=seed)
    passes = settings.passes(warm=warm)
    improve(model, fitted, artist, passes, settings, on_sessions)
    measured = _assess(model, held, artist, settings)
    improve(model, everything, artist, settings.finishing, settings, on_sessions)
    rows = passes * len(fitted) + settings.finishing * len(everything)
    return Trained(_arrays(model, artist, settings), measured, rows)


def _assess(
    model: Parameters, held: Observations, artist: Array, settings: Settings
) -> Quality | None:
    if not len(held):
        return None
    return quality.assess(session_model(_arrays(model, artist, settings)), held)


def _arrays(model: Parameters, artist: Array, settings: Settings) -> dict[str, Array]:
    """Return the arrays of a table."""
    vectors = torch.cat([model.vectors(torch.from_numpy(artist)), model.offsets[:, None]], 1)
    tracks = vectors.numpy().astype(np.float32)
    rows = leaves.arrange(tracks, settings.leaf)
    placed = np.where((rows >= 0)[:, None], tracks[rows], np.float32(0.0))
    inside = (rows >= 0).reshape(-1, settings.leaf).sum(axis=1)
    sums = placed.reshape(len(inside), settings.leaf, -1).sum(axis=1)
    places = np.empty(len(tracks), dtype=np.int32)
    places[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    return {
        "session_vectors": halve(placed.ravel()),
        "session_centres": halve((sums / inside[:, None]).ravel()),
        "session_rows": rows,
        "session_places": places,
        "session_opening": model.opening.numpy().astype(np.float32).ravel(),
        "session_spread": model.spread.numpy().astype(np.float32).ravel(),
        "session_constants": np.array([model.noise, model.discount], dtype=np.float32),
    }


def _from_table(live: Table, catalogue: Catalogue) -> Parameters:
    """Return the parameters that a table's model was made of, for this catalogue's tracks."""
    model = session_model(live.session)
    k = len(model.opening)
    found = np.zeros((len(catalogue), k), dtype=np.float32)
    here = catalogue.index(live.tracks)
    found[here[here >= 0]] = model.at(model.places[here >= 0])
    constants = model.noise, model.discount
    artists = len(catalogue.artists)
    return warm_start(
        found[:, :-1],
        found[:, -1],
        catalogue.artist.astype(np.int64),
        artists,
        model.opening,
        model.spread,
        constants,
    )
