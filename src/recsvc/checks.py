"""What the serving code relies on in a table, checked before it serves, so that it never has to.

Tables come from elsewhere, and are large: one of a million tracks has a hundred million numbers.
So the longest arrays are looked at block by block; nothing of their length is made.
"""

import math
from collections.abc import Iterator

import numpy as np

from recsvc.errors import TableError
from recsvc.halves import halve
from recsvc.table import SESSION_ARRAYS, Array, Table

__all__ = ["check", "require"]

_LARGEST = 1e6  # no trained model comes near, and products of three stay far from overflow
_LARGEST_HALF = int(halve(np.array(_LARGEST)))
_LEAST = float(np.nextafter(np.float32(0), np.float32(1)))  # above zero
_GREATEST = float(np.finfo(np.float32).max)
_BLOCK = 1 << 16  # entries: what is worked on stays in the processor's cache


def check(table: Table) -> None:
    """Check every offset, index and weight; raises `TableError` with the reason."""
    n, users = len(table.tracks), len(table.users)
    artists = len(table.artist_name_offsets) - 1
    _require_ids("tracks", table.tracks)
    _require_ids("users", table.users)
    _require_offsets("artist_name", table.artist_name_offsets, artists, len(table.artist_names))
    _require_offsets("title", table.title_offsets, n, len(table.titles))
    _require_offsets("neighbour", table.neighbour_offsets, n, len(table.neighbours))
    _require_offsets("personal", table.personal_offsets, users, len(table.personal))
    for name in ("artist", "plays", "mean_time"):
        require(len(getattr(table, name)) == n, f"{name} has not one entry a track")
    _require_range("artist", table.artist, artists)
    for name in ("neighbours", "personal", "popular", "top"):
        _require_range(name, getattr(table, name), n)
    for name in ("neighbour", "personal", "popular", "top"):
        weights = getattr(table, f"{name}_weights")
        targets = getattr(table, "neighbours" if name == "neighbour" else name)
        require(len(weights) == len(targets), f"{name} weights and tracks differ in number")
        require(_within(weights, _LEAST, _GREATEST), f"a {name} weight is not > 0")
    require(_within(table.plays, 0), "a count of plays is negative")
    require(_within(table.mean_time, 0, 1), "a mean time is not in 0..1")
    _require_distinct("neighbour", table.neighbour_offsets, table.neighbours)
    _require_distinct("personal", table.personal_offsets, table.personal)
    require(len(table.top) % max(n, 1) == 0, "top has not as many entries for every track")
    _require_distinct("top", np.arange(n + 1) * (len(table.top) // max(n, 1)), table.top)
    require(len(np.unique(table.popular)) == len(table.popular), "a popular track is there twice")
    for entries, rows in _blocks(table.neighbour_offsets):
        require(not (table.neighbours[entries] == rows).any(), "a track is its own neighbour")
    _check_session_model(table)
    for name in ("artist_names", "titles"):
        _require_text(name, getattr(table, name))


def _check_session_model(table: Table) -> None:
    """Check the arrays of the session model, if there is one."""
    arrays = {name: getattr(table, name) for name in SESSION_ARRAYS}
    if not any(map(len, arrays.values())):
        return
    k, rows, n = math.isqrt(len(table.session_opening)), table.session_rows, len(table.tracks)
    leaves = len(table.session_centres) // max(k, 1)
    sizes = {
        "session_opening": k * k,
        "session_spread": k * k,
        "session_constants": 2,
        "session_centres": leaves * k,
        "session_vectors": len(rows) * k,
        "session_places": n,
    }
    shaped = k > 1 and n > 0 and leaves > 0 and len(rows) % leaves == 0
    require(shaped, "the session model has no shape")
    for name, size in sizes.items():
        require(len(arrays[name]) == size, f"{name} has not the size of the session model")
    for name, array in arrays.items():
        if array.dtype.kind == "u":  # as integers, for those compare as the numbers do
            starts = range(0, len(array), _BLOCK)
            within = all((array[i : i + _BLOCK] & 0x7FFF).max() < _LARGEST_HALF for i in starts)
        else:  # a NaN compares as false
            within = array.dtype.kind == "i" or -_LARGEST < array.min() <= array.max() < _LARGEST
        require(bool(within), f"a value in {name} is out of range")
    require(_within(rows, -1, n - 1), "an index in session_rows is out of range")
    _require_range("session_places", table.session_places, len(rows))
    placed = rows[table.session_places]
    require(bool((placed == np.arange(n)).all()), "a track is not at its place in session_rows")
    require(int((rows >= 0).sum()) == n, "a track is in session_rows twice")
    noise, discount = table.session_constants.tolist()
    require(noise > 0 and 0 <= discount <= 1, "the session model's constants are out of range")
    spread = table.session_spread.reshape(k, k).astype(np.float64)
    positive = np.allclose(spread, spread.T) and np.linalg.eigvalsh(spread)[0] > 0
    require(bool(positive), "session_spread is not a covariance")


def require(condition: bool, reason: str) -> None:
    """Raise `TableError` with the reason unless a condition holds."""
    if not condition:
        raise TableError(f"not a valid table: {reason}")


def _require_ids(name: str, ids: Array) -> None:
    require(not len(ids) or int(ids[0]) >= 0, f"an id in {name} is negative")
    require(bool((ids[1:] > ids[:-1]).all()), f"{name} are not ascending")


def _require_offsets(name: str, offsets: Array, rows: int, size: int) -> None:
    require(len(offsets) == rows + 1 and rows >= 0, f"{name} offsets do not fit the row count")
    require(int(offsets[0]) == 0 and int(offsets[-1]) == size, f"{name} offsets miss the data")
    require(bool((offsets[1:] >= offsets[:-1]).all()), f"{name} offsets go backwards")


def _require_range(name: str, values: Array, end: int) -> None:
    require(_within(values, 0, end - 1), f"an index in {name} is out of range")


def _require_distinct(name: str, offsets: Array, indices: Array) -> None:
    """Check that no row holds a track twice, with one sort of all rows of a block."""
    for entries, rows in _blocks(offsets):
        keys = (rows << 32) | indices[entries]
        keys.sort()
        require(bool((keys[1:] != keys[:-1]).all()), f"a {name} row holds a track twice")


def _blocks(offsets: Array) -> Iterator[tuple[slice, Array]]:
    """Cut rows into blocks; yield where the entries of each are, and of each entry the row.

    A table's entries are many, and work on all at once takes several times their memory.
    """
    start, last = 0, len(offsets) - 1
    while start < last:
        fits = int(np.searchsorted(offsets, offsets[start] + _BLOCK, side="right")) - 1
        end = min(max(fits, start + 1), last)  # one row at least
        rows = np.repeat(np.arange(start, end), np.diff(offsets[start : end + 1]))
        yield slice(int(offsets[start]), int(offsets[end])), rows
        start = end


def _within(values: Array, least: float, most: float = math.inf) -> bool:
    """Tell whether all are in that range; a NaN is not."""
    return not len(values) or bool(values.min() >= least and values.max() <= most)


def _require_text(name: str, block: Array) -> None:
    try:
        str(block.data, "utf-8")
    except UnicodeDecodeError as error:
        raise TableError(f"not a valid table: {name} are not UTF-8") from error
