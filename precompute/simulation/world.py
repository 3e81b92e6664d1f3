"""A world: tracks with embeddings, and listeners with tastes.

On disk a world is a directory of three files, the format of the course this grew from:

    tracks.json      one {"track": int, "artist": str, "title": str} a line
    embeddings.npy   float32 [rows, d]
    users.json       one {"user": int, "interests": [track, ...], ...} a line

Optional fields of a listener, with their defaults: `consume_bias` 5.0,
`consume_sharpness` 1.0, `interest_neighbours` 10, `session_budget` 5,
`artist_discount_gamma` 0.8. Unknown fields are ignored.

Row `i` of the embeddings belongs to the track with id `i` where every id is smaller than
the number of rows. Otherwise row `i` belongs to line `i`, and there must be as many.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from recsvc.errors import RecsvcError
from recsvc.table import MAX_ID

__all__ = ["Catalogue", "Listeners", "World", "WorldError"]

TRACKS = "tracks.json"
EMBEDDINGS = "embeddings.npy"
USERS = "users.json"

Array = npt.NDArray[Any]

# Field of users.json -> attribute of Listeners, default, smallest and largest value.
_TRAITS = {
    "consume_bias": ("bias", 5.0, -1e6, 1e6),
    "consume_sharpness": ("sharpness", 1.0, 0.0, 1e6),
    "interest_neighbours": ("neighbours", 10, 1, 1_000_000),
    "session_budget": ("budget", 5, 1, 1_000_000),
    "artist_discount_gamma": ("gamma", 0.8, 0.0, 1.0),
}


class WorldError(RecsvcError):
    """The files of a world cannot be used; the message says which line and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """The tracks of a world, in the order of their ids. `n` tracks, `a` artists."""

    tracks: Array
    """`[n]` int64: the track ids, ascending. Elsewhere tracks are told by their index."""
    artist: Array
    """`[n]` int32: index into `artist_names`."""
    artist_names: tuple[str, ...]
    titles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tracks)

    def index(self, ids: Array) -> Array:
        """Return the index of each track id, -1 where the catalogue lacks it."""
        positions = np.searchsorted(self.tracks, ids).clip(max=len(self.tracks) - 1)
        return np.where(self.tracks[positions] == ids, positions, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Listeners:
    """The listeners of a world, one row each; `u` listeners with up to `k` interests."""

    users: Array
    """`[u]` int64: ids as the API sees them."""
    interests: Array
    """`[u, k]` int32: track indices, -1 behind the last interest of a row."""
    bias: Array
    """`[u]` float64: the affinity at which a track is heard half way."""
    sharpness: Array
    """`[u]` float64: how steeply time rises with affinity."""
    neighbours: Array
    """`[u]` int64: how many tracks near the interest a session may begin with."""
    budget: Array
    """`[u]` int64: how many disappointments end a session."""
    gamma: Array
    """`[u]` float64: what time is multiplied with for each earlier play of the artist."""

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """All that the listener model knows and a recommender must not."""

    catalogue: Catalogue
    embeddings: Array
    """`[n, d]` float32, in the order of `catalogue.tracks`."""
    listeners: Listeners

    @staticmethod
    def load(directory: Path) -> "World":
        """Read a world.

        Raises `WorldError` for a missing file, a line that is not what it should be, an
        embedding that is not finite, or an interest that is no track.
        """
        catalogue, order = _load_catalogue(directory / TRACKS)
        embeddings = _load_embeddings(directory / EMBEDDINGS, catalogue.tracks, order)
        return World(catalogue, embeddings, _load_listeners(directory / USERS, catalogue))

    def save(self, directory: Path) -> None:
        """Write the three files; row `i` of the embeddings is line `i` of the tracks.

        Ids that are not 0..n-1 must not all be smaller than n; `generate` gives 0..n-1.
        """
        directory.mkdir(parents=True, exist_ok=True)
        _write_lines(directory / TRACKS, _track_lines(self.catalogue))
        np.save(directory / EMBEDDINGS, self.embeddings.astype(np.float32), allow_pickle=False)
        _write_lines(directory / USERS, _user_lines(self))


def _track_lines(catalogue: Catalogue) -> Iterator[dict[str, Any]]:
    rows = zip(catalogue.tracks.tolist(), catalogue.artist.tolist(), catalogue.titles, strict=True)
    for track, artist, title in rows:
        yield {"track": track, "artist": catalogue.artist_names[artist], "title": title}


def _user_lines(world: World) -> Iterator[dict[str, Any]]:
    listeners = world.listeners
    columns = {field: getattr(listeners, name[0]).tolist() for field, name in _TRAITS.items()}
    for row, user in enumerate(listeners.users.tolist()):
        interests = listeners.interests[row]
        yield {
            "user": user,
            "interests": world.catalogue.tracks[interests[interests >= 0]].tolist(),
            **{field: column[row] for field, column in columns.items()},
        }


def _load_catalogue(path: Path) -> tuple[Catalogue, Array]:
    """Return the catalogue and the line each of its tracks stands on."""
    ids, artists, titles = [], [], []
    for line, record in _lines(path):
        ids.append(_id(path, line, record, "track"))
        artists.append(str(record.get("artist", "")))
        titles.append(str(record.get("title", f"track {ids[-1]}")))
    tracks = np.array(ids, dtype=np.int64)
    order = np.argsort(tracks, kind="stable")
    _require(path, bool((np.diff(tracks[order]) > 0).all()), "a track is there twice")
    numbers: dict[str, int] = {}
    artist = np.array([numbers.setdefault(name, len(numbers)) for name in artists], dtype=np.int32)
    sorted_titles = tuple(titles[i] for i in order)
    return Catalogue(tracks[order], artist[order], tuple(numbers), sorted_titles), order


def _load_embeddings(path: Path, tracks: Array, order: Array) -> Array:
    try:
        embeddings = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise WorldError(f"{path}: {error}") from error
    _require(path, embeddings.ndim == 2 and embeddings.dtype.kind == "f", "not floats [rows, d]")
    if int(tracks[-1]) < len(embeddings):
        embeddings = embeddings[tracks]
    else:
        _require(
            path,
            len(embeddings) == len(tracks),
            f"{len(embeddings)} rows for {len(tracks)} tracks whose ids are not row numbers",
        )
        embeddings = embeddings[order]
    _require(path, bool(np.isfinite(embeddings).all()), "a value is not finite")
    return np.ascontiguousarray(embeddings, dtype=np.float32)


def _load_listeners(path: Path, catalogue: Catalogue) -> Listeners:
    users: list[int] = []
    interests: list[list[int]] = []
    traits: dict[str, list[float]] = {field: [] for field in _TRAITS}
    for line, record in _lines(path):
        users.append(_id(path, line, record, "user"))
        wanted = record.get("interests")
        if not isinstance(wanted, list) or not wanted or not all(map(_is_id, wanted)):
            raise WorldError(f"{path}, line {line}: interests are not a list of tracks")
        interests.append(wanted)
        for field, (_, default, low, high) in _TRAITS.items():
            value = record.get(field, default)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise WorldError(f"{path}, line {line}: {field} is not a number")
            if not low <= value <= high:
                raise WorldError(f"{path}, line {line}: {field} is not in {low}..{high}")
            traits[field].append(value)
    _require(path, len(set(users)) == len(users), "a listener is there twice")
    columns = {
        attribute: np.array(traits[field], dtype=np.int64 if type(default) is int else np.float64)
        for field, (attribute, default, _, _) in _TRAITS.items()
    }
    indices = _pad_interests(path, interests, catalogue)
    return Listeners(users=np.array(users, dtype=np.int64), interests=indices, **columns)


def _pad_interests(path: Path, interests: list[list[int]], catalogue: Catalogue) -> Array:
    lengths = np.array([len(row) for row in interests])
    found = catalogue.index(np.concatenate([np.array(row, dtype=np.int64) for row in interests]))
    if (found < 0).any():
        line = int(np.repeat(np.arange(len(lengths)), lengths)[found < 0][0]) + 1
        raise WorldError(f"{path}: listener {line} has an interest that is not in {TRACKS}")
    padded = np.full((len(lengths), int(lengths.max())), -1, dtype=np.int32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = found
    return padded


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each line's number and object, skipping blank ones; refuses an empty file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}") from error
    _require(path, bool(content.strip()), "it is empty")
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise WorldError(f"{path}, line {number}: {error}") from error
        if not isinstance(record, dict):
            raise WorldError(f"{path}, line {number}: not an object")
        yield number, record


def _write_lines(path: Path, records: Iterator[dict[str, Any]]) -> None:
    with path.open("wb") as file:
        file.writelines(orjson.dumps(record) + b"\n" for record in records)


def _id(path: Path, line: int, record: dict[str, Any], field: str) -> int:
    value = record.get(field)
    if not _is_id(value):
        raise WorldError(f"{path}, line {line}: {field} is not an id")
    return int(value)  # type: ignore[arg-type]


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_ID


def _require(path: Path, condition: bool, reason: str) -> None:
    if not condition:
        raise WorldError(f"{path}: {reason}")
