"""The track catalogue: ids, artists and titles."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from precompute.errors import CatalogueError
from precompute.lines import PARQUET, numbered
from precompute.log import Log
from recsvc.table import MAX_ID, Text

__all__ = ["UNKNOWN", "Catalogue", "from_log", "read"]

Array = npt.NDArray[Any]

UNKNOWN = "unknown artist"


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """All tracks that may be served: `n` tracks by ascending id, `a` artists."""

    tracks: Array
    """`[n]` int64, ascending."""
    artist: Array
    """`[n]` int32: index into `artists`."""
    artists: Text
    titles: Text
    duplicates: int = 0
    """Lines whose track was listed again further down; the last one counts."""

    def __len__(self) -> int:
        return len(self.tracks)

    def index(self, ids: Array) -> Array:
        """Return the index of each id, `[rows]` int32; -1 for those that are not listed."""
        if not len(self):
            return np.full(len(ids), -1, dtype=np.int32)
        position = np.minimum(np.searchsorted(self.tracks, ids), len(self) - 1)
        return np.where(self.tracks[position] == ids, position, -1).astype(np.int32)


def read(path: Path) -> Catalogue:
    """Read JSON lines of `{"track", "artist", "title"}`; other keys are ignored.

    `artist` is a name or a number; a track without one, or with a negative number, has an
    artist of its own. When a track is listed twice the last line counts. Raises
    `CatalogueError` with the line number at the first line that is not a track, and when
    there is no track at all. The file may be compressed, see `lines.blocks`.
    """
    if path.suffix in PARQUET:
        raise CatalogueError(f"{path} is Parquet; a catalogue is JSON lines")
    entries: dict[int, tuple[str | int, str]] = {}
    lines = 0
    try:
        for number, line in numbered(path):
            track, artist, title = _entry(line, f"{path}:{number}")
            entries[track] = artist, title
            lines += 1
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{path} cannot be read: {error}") from error
    if not entries:
        raise CatalogueError(f"there is no track in {path}")
    return _assemble(entries, lines - len(entries))


def from_log(log: Log) -> Catalogue:
    """Make a catalogue of the tracks in a log, each with an artist of its own."""
    ids = np.unique(np.concatenate([log.track, log.recommendation[log.recommendation >= 0]]))
    return Catalogue(
        tracks=ids,
        artist=np.arange(len(ids), dtype=np.int32),
        artists=Text.of([UNKNOWN] * len(ids)),
        titles=Text.of([f"Track {track}" for track in ids.tolist()]),
    )


def _entry(line: bytes, place: str) -> tuple[int, str | int, str]:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CatalogueError(f"{place}: not JSON: {error}") from error
    if not isinstance(entry, dict):
        raise CatalogueError(f"{place}: not a JSON object")
    track, artist, title = entry.get("track"), entry.get("artist"), entry.get("title")
    if type(track) is not int or not 0 <= track <= MAX_ID:
        raise CatalogueError(f"{place}: track is not an integer in 0..2^63-1")
    if artist is not None and type(artist) not in (int, str):
        raise CatalogueError(f"{place}: artist is neither a name nor a number")
    if artist is None or (isinstance(artist, int) and artist < 0):  # as -1 for "unknown"
        artist = -1 - track  # no listed artist's number, so it keeps the unknown ones apart
    return track, artist, "" if title is None else str(title)


def _assemble(entries: dict[int, tuple[str | int, str]], duplicates: int) -> Catalogue:
    numbers: dict[str | int, int] = {}
    tracks = sorted(entries)
    artist = [numbers.setdefault(entries[track][0], len(numbers)) for track in tracks]
    return Catalogue(
        tracks=np.array(tracks, dtype=np.int64),
        artist=np.array(artist, dtype=np.int32),
        artists=Text.of([_name(key) for key in numbers]),
        titles=Text.of([entries[track][1] for track in tracks]),
        duplicates=duplicates,
    )


def _name(key: str | int) -> str:
    if isinstance(key, str):
        return key
    return f"Artist {key}" if key >= 0 else UNKNOWN
