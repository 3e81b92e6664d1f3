"""One table, as the recommenders ask it: candidates by track id, made once and kept."""

from functools import lru_cache

from recsvc.policy import Candidates
from recsvc.table import Row, Table

__all__ = ["Source"]

_KEPT = 65_536  # candidate lists kept; about 10 KB each, the much-asked ones stay


class Source:
    """The candidates that a table offers.

    `version` names the table in answers and events.
    """

    def __init__(self, table: Table, version: str) -> None:
        self.table = table
        self.version = version
        self.neighbours = lru_cache(maxsize=_KEPT)(self._neighbours)
        self.personal = lru_cache(maxsize=_KEPT)(self._personal)
        self.popular = self._candidates(table.popular_row())

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
        index = self.table.index(track)
        return NOTHING if index is None else self._candidates(self.table.neighbour_row(index))

    def _personal(self, user: int) -> Candidates:
        row = self.table.personal_row(user)
        return NOTHING if row is None else self._candidates(row)

    def _candidates(self, row: Row) -> Candidates:
        return Candidates(self.table.tracks[row.indices].tolist(), row.weights.tolist())


NOTHING = Candidates([], [])
