"""The table: what the offline half hands to the serving half, as plain arrays.

Its form as bytes, and the checks on bytes that come from elsewhere, are in `packing` and `checks`.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.values import value

__all__ = ["MAX_ID", "SESSION_ARRAYS", "Array", "Row", "Table", "Text", "empty"]

MAX_ID = 2**63 - 1

SESSION_ARRAYS = (
    "session_rows",
    "session_places",
    "session_vectors",
    "session_centres",
    "session_opening",
    "session_spread",
    "session_constants",
)
"""The arrays of the session model, of which a table has all or none."""

Array = npt.NDArray[Any]


@value
class Row:
    """A run of track indices with their weights: `[k]` int32 and `[k]` float32."""

    indices: Array
    weights: Array


@dataclass(frozen=True, slots=True)
class Text:
    """Many short strings as one block of UTF-8 and the offsets that cut it."""

    block: Array  # [bytes] uint8
    offsets: Array  # [n + 1] int64

    def __getitem__(self, index: int) -> str:
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.block[start:end].tobytes().decode()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @staticmethod
    def of(strings: list[str]) -> "Text":
        """Pack `strings`; lone surrogates become question marks."""
        encoded = [s.encode(errors="replace") for s in strings]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(e) for e in encoded], out=offsets[1:])
        return Text(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)


def _no_floats() -> Array:
    return np.zeros(0, dtype=np.float32)


def _no_halves() -> Array:
    return np.zeros(0, dtype=np.uint16)


def _no_indices() -> Array:
    return np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Everything that answers are made from. `n` tracks, `u` listeners, `a` artists.

    Tracks are known inside by their index `0..n-1`, in the order of their ids. Runs of
    a varying length are stored end to end and cut by offsets.
    """

    tracks: Array
    """`[n]` int64: the track ids, ascending."""
    artist: Array
    """`[n]` int32: index into the artist names."""
    artist_name_offsets: Array
    artist_names: Array
    title_offsets: Array
    titles: Array
    neighbour_offsets: Array
    """`[n + 1]` int64: cuts `neighbours` and `neighbour_weights` into rows."""
    neighbours: Array
    """`[m]` int32: track indices, the heaviest of a row first."""
    neighbour_weights: Array
    """`[m]` float32, positive."""
    top: Array
    """`[n * k]` int32: every track's best k by predicted time, before any rule; k may be 0."""
    top_weights: Array
    popular: Array
    """`[p]` int32: the most heard tracks, the most heard first."""
    popular_weights: Array
    users: Array
    """`[u]` int64: the listeners with a personal list, ascending."""
    personal_offsets: Array
    personal: Array
    personal_weights: Array
    plays: Array
    """`[n]` int32: how often a track was heard in the log."""
    mean_time: Array
    """`[n]` float32: mean observed time, the overall mean where there is none."""
    session_vectors: Array = field(default_factory=_no_halves)
    """The arrays of `taste.SessionModel`, end to end; all are empty where there is none."""
    session_centres: Array = field(default_factory=_no_halves)
    session_rows: Array = field(default_factory=_no_indices)
    session_places: Array = field(default_factory=_no_indices)
    session_opening: Array = field(default_factory=_no_floats)
    session_spread: Array = field(default_factory=_no_floats)
    session_constants: Array = field(default_factory=_no_floats)
    """`[2]` float32: noise, discount."""
    _ids: memoryview = field(init=False, repr=False)
    _users: memoryview = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # bisect on a memoryview is several times faster than on a numpy array.
        object.__setattr__(self, "_ids", self.tracks.data)
        object.__setattr__(self, "_users", self.users.data)

    def __len__(self) -> int:
        return len(self.tracks)

    def index(self, track: int) -> int | None:
        """Return the index of a track id, None when the catalogue lacks it."""
        return _find(self._ids, track)

    def neighbour_row(self, index: int) -> Row:
        """Return the weighted neighbours of the track at `index`."""
        start, end = self.neighbour_offsets[index], self.neighbour_offsets[index + 1]
        return Row(self.neighbours[start:end], self.neighbour_weights[start:end])

    def top_row(self, index: int) -> Row:
        """Return the best tracks by predicted time, before any rule.

        A table may come without them; its neighbours then stand in.
        """
        width = len(self.top) // len(self.tracks)
        if width == 0:
            return self.neighbour_row(index)
        row = slice(index * width, (index + 1) * width)
        return Row(self.top[row], self.top_weights[row])

    def listener(self, user: int) -> int | None:
        """Return the number of a listener's personal list, None when there is none."""
        return _find(self._users, user)

    def personal_row(self, user: int) -> Row | None:
        """Return a listener's personal list, None when there is none."""
        number = self.listener(user)
        if number is None:
            return None
        start, end = self.personal_offsets[number], self.personal_offsets[number + 1]
        return Row(self.personal[start:end], self.personal_weights[start:end])

    def popular_row(self) -> Row:
        """Return the popular tracks."""
        return Row(self.popular, self.popular_weights)

    def title(self, index: int) -> str:
        """Return the title of the track at `index`."""
        return Text(self.titles, self.title_offsets)[index]

    def artist_name(self, index: int) -> str:
        """Return the name of the artist of the track at `index`."""
        return Text(self.artist_names, self.artist_name_offsets)[int(self.artist[index])]

    @property
    def session(self) -> dict[str, Array]:
        """Return the arrays of the session model by their names, none where there is none."""
        if not len(self.session_opening):
            return {}
        return {name: getattr(self, name) for name in SESSION_ARRAYS}

    def counts(self) -> dict[str, int]:
        """Return the sizes that a person asks for."""
        return {
            "tracks": len(self.tracks),
            "artists": len(self.artist_name_offsets) - 1,
            "neighbours": len(self.neighbours),
            "popular": len(self.popular),
            "listeners": len(self.users),
            "session_dimensions": max(math.isqrt(len(self.session_opening)) - 1, 0),
        }


def empty() -> Table:
    """Return a table of nothing: what is served from before one is published."""
    ids, offsets = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64)
    indices, weights = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
    text = np.zeros(0, dtype=np.uint8)
    return Table(
        tracks=ids,
        artist=indices,
        artist_name_offsets=offsets,
        artist_names=text,
        title_offsets=offsets,
        titles=text,
        neighbour_offsets=offsets,
        neighbours=indices,
        neighbour_weights=weights,
        top=indices,
        top_weights=weights,
        popular=indices,
        popular_weights=weights,
        users=ids,
        personal_offsets=offsets,
        personal=indices,
        personal_weights=weights,
        plays=indices,
        mean_time=weights,
    )


def _find(ids: memoryview, wanted: int) -> int | None:
    # Most catalogues number their tracks one after the other.
    guess = wanted - ids[0] if len(ids) else -1
    if 0 <= guess < len(ids) and ids[guess] == wanted:
        return guess
    position = bisect_left(ids, wanted)
    if position < len(ids) and ids[position] == wanted:
        return position
    return None
