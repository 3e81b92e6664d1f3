"""One table, as the recommenders ask it: candidates by id."""

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from recsvc.candidates import Candidates
from recsvc.halves import widen
from recsvc.recommenders.compiled import library
from recsvc.recommenders.native import Native
from recsvc.recommenders.rows import CandidatesOf, compiled_rows, rows
from recsvc.table import Array, Row, Table
from recsvc.taste import SessionModel

__all__ = ["NOTHING", "Source", "session_model"]

_KEPT = 16_384  # candidate lists kept, of each kind; about 2 KB each, the much-asked ones stay
_MOST_OF_ARTIST = 500  # of a longer list of one artist's tracks, the most played

NOTHING = Candidates([], [])


class Source:
    """The candidates that a table offers.

    `version` names the table in answers and events. All lists are empty for a track or a
    listener that the table does not know. Without `compiled` the compiled code is not used.
    """

    def __init__(self, table: Table, version: str, *, compiled: bool = True) -> None:
        self.table = table
        self.version = version
        self.popular = self._weighted(table.popular_row())
        self.session_model = session_model(table.session) if table.session else None
        self.session_artists = _artists(self.session_model, table.artist)
        code = library() if compiled else None
        self.native = self._native(code)
        self._neighbour_row = _maker(
            code, table, table.neighbour_offsets, table.neighbours, table.neighbour_weights
        )
        self._personal_row = _maker(
            code, table, table.personal_offsets, table.personal, table.personal_weights
        )
        # Makers of lists, each with a memory of its own: asking again costs a look-up.
        self.neighbours_evenly = lru_cache(maxsize=_KEPT)(self._neighbours_evenly)
        self.top = lru_cache(maxsize=_KEPT)(self._top)
        self.top_weighted = lru_cache(maxsize=_KEPT)(self._top_weighted)
        self.same_artist = lru_cache(maxsize=_KEPT)(self._same_artist)
        self._withheld: set[int] = set()
        self._by_artist = np.argsort(table.artist, kind="stable")
        self._artist_starts = np.searchsorted(
            table.artist[self._by_artist], np.arange(len(table.artist_name_offsets))
        )

    def describe(self, track: int) -> dict[str, int | str]:
        """Return a track's id, artist and title; empty strings when it is not known."""
        index = self.table.index(track)
        if index is None:
            return {"track": track, "artist": "", "title": ""}
        return {
            "track": track,
            "artist": self.table.artist_name(index),
            "title": self.table.title(index),
        }

    def artists_at(self, places: Array) -> Array:
        """Return the artist of the track at each place of the session model."""
        return self.session_artists.take(places, mode="clip")

    def neighbours(self, track: int) -> Candidates:
        """Return the weighted neighbours of a track."""
        index = self.table.index(track)
        return NOTHING if index is None else self._neighbour_row(index)

    def personal(self, user: int) -> Candidates:
        """Return a listener's personal list."""
        number = None if user in self._withheld else self.table.listener(user)
        return NOTHING if number is None else self._personal_row(number)

    def withhold(self, users: Iterable[int]) -> None:
        """Never again use the personal lists of listeners who asked to be forgotten."""
        self._withheld.update(users)

    def _native(self, code: Any) -> Native | None:
        model = self.session_model
        if model is None or code is None:
            return None
        return Native.of(code, model, self.table, self.session_artists, self.version)

    def _neighbours_evenly(self, track: int) -> Candidates:
        """The same tracks, all of one weight."""
        index = self.table.index(track)
        return NOTHING if index is None else self._even(self.table.neighbour_row(index).indices)

    def _top(self, track: int) -> Candidates:
        """The top tracks by predicted time, before any rule, all of one weight."""
        index = self.table.index(track)
        return NOTHING if index is None else self._even(self.table.top_row(index).indices)

    def _top_weighted(self, track: int) -> Candidates:
        """The same tracks, weighted as the rule weighs them."""
        index = self.table.index(track)
        return NOTHING if index is None else self._weighted(self.table.top_row(index))

    def _same_artist(self, track: int) -> Candidates:
        """The other tracks of the same artist, all of one weight."""
        index = self.table.index(track)
        if index is None:
            return NOTHING
        artist = self.table.artist[index]
        start, end = self._artist_starts[artist], self._artist_starts[artist + 1]
        others = self._by_artist[start:end]
        others = others[others != index]
        if len(others) > _MOST_OF_ARTIST:
            most_played = np.argsort(-self.table.plays[others], kind="stable")
            others = others[most_played[:_MOST_OF_ARTIST]]
        return self._even(others)

    def _weighted(self, row: Row) -> Candidates:
        return Candidates(self.table.tracks.take(row.indices), row.weights)

    def _even(self, indices: Array) -> Candidates:
        return Candidates(self.table.tracks.take(indices), [1.0] * len(indices))


def _maker(code: Any, table: Table, *lists: Array) -> CandidatesOf:
    """Return what makes candidates of some lists of a table."""
    if code is not None:
        # Nothing is kept: a list that was kept lies far from the processor by the time that it is
        # asked for, and to make one anew takes no longer.
        return compiled_rows(code, table.tracks, *lists)
    return lru_cache(maxsize=_KEPT)(rows(table.tracks, *lists))


def _artists(model: SessionModel | None, artist: Array) -> Array:
    """Return the artist of the track at each place of a session model, `[leaves, size]`."""
    if model is None:
        return np.zeros((0, 0), dtype=artist.dtype)
    return np.asarray(artist[model.rows].reshape(model.vectors.shape[:2]))


def session_model(arrays: Mapping[str, Array]) -> SessionModel:
    """Return a session model, its arrays in shape, from those of a table by their names."""
    k = math.isqrt(len(arrays["session_opening"]))
    centres = widen(arrays["session_centres"]).reshape(-1, k)
    noise, discount = arrays["session_constants"].tolist()
    return SessionModel(
        vectors=arrays["session_vectors"].reshape(len(centres), -1, k),
        centres=centres,
        rows=arrays["session_rows"],
        places=arrays["session_places"],
        opening=arrays["session_opening"].reshape(k, k).astype(np.float64),
        spread=arrays["session_spread"].reshape(k, k).astype(np.float64),
        noise=noise,
        discount=discount,
    )
