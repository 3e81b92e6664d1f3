"""One table, as the recommenders ask it: candidates by id, made once and kept."""

from functools import lru_cache

import numpy as np

from recsvc.policy import Candidates
from recsvc.table import Array, Row, Table

__all__ = ["NOTHING", "Source"]

_KEPT = 65_536  # candidate lists kept; about 10 KB each, the much-asked ones stay
_MOST_OF_ARTIST = 500  # of a longer list of one artist's tracks, the most played

NOTHING = Candidates([], [])


class Source:
    """The candidates that a table offers.

    `version` names the table in answers and events. All lists are empty for a track or a
    listener that the table does not know.
    """

    def __init__(self, table: Table, version: str) -> None:
        self.table = table
        self.version = version
        self.popular = self._weighted(table.popular_row())
        # Makers of lists, each with a memory of its own: asking again costs a look-up.
        self.neighbours = lru_cache(maxsize=_KEPT)(self._neighbours)
        self.neighbours_evenly = lru_cache(maxsize=_KEPT)(self._neighbours_evenly)
        self.top = lru_cache(maxsize=_KEPT)(self._top)
        self.top_weighted = lru_cache(maxsize=_KEPT)(self._top_weighted)
        self.same_artist = lru_cache(maxsize=_KEPT)(self._same_artist)
        self.personal = lru_cache(maxsize=_KEPT)(self._personal)
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

    def _neighbours(self, track: int) -> Candidates:
        """The weighted neighbours of the table."""
        index = self.table.index(track)
        return NOTHING if index is None else self._weighted(self.table.neighbour_row(index))

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

    def _personal(self, user: int) -> Candidates:
        """A listener's personal list."""
        row = self.table.personal_row(user)
        return NOTHING if row is None else self._weighted(row)

    def _weighted(self, row: Row) -> Candidates:
        return Candidates(self.table.tracks[row.indices].tolist(), row.weights.tolist())

    def _even(self, indices: Array) -> Candidates:
        return Candidates(self.table.tracks[indices].tolist(), [1.0] * len(indices))
