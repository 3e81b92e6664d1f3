"""A table as bytes: written in place, read in place, trusted never.

The form is a safetensors file: eight bytes of header length, a JSON header, then raw
little-endian arrays. It is read where it lies, from a memory map, so that all workers
of a machine share one copy. Bytes may come from anywhere, so `unpack` checks every
offset, index and weight before a table exists; the serving code then never has to.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.errors import TableError
from recsvc.halves import halve
from recsvc.table import SESSION_ARRAYS, Table

__all__ = ["SCHEMA_VERSION", "pack", "unpack"]

SCHEMA_VERSION = 3

# Array name -> dtype as safetensors spells it. The order is that of the file: the widest first.
_SCHEMA: Mapping[str, str] = {
    "tracks": "I64",
    "users": "I64",
    "artist_name_offsets": "I64",
    "title_offsets": "I64",
    "neighbour_offsets": "I64",
    "personal_offsets": "I64",
    "artist": "I32",
    "neighbours": "I32",
    "personal": "I32",
    "popular": "I32",
    "top": "I32",
    "plays": "I32",
    "mean_time": "F32",
    "neighbour_weights": "F32",
    "personal_weights": "F32",
    "popular_weights": "F32",
    "top_weights": "F32",
    "session_rows": "I32",
    "session_places": "I32",
    "session_opening": "F32",
    "session_spread": "F32",
    "session_constants": "F32",
    "session_vectors": "BF16",
    "session_centres": "BF16",
    "artist_names": "U8",
    "titles": "U8",
}
_LARGEST = 1e6  # no trained model comes near, and products of three stay far from overflow
_LARGEST_HALF = int(halve(np.array(_LARGEST)))
_DTYPES = {"I64": "<i8", "I32": "<i4", "F32": "<f4", "BF16": "<u2", "U8": "|u1"}

Array = npt.NDArray[Any]


def pack(table: Table) -> bytes:
    """Write a table as the bytes of a safetensors file; `unpack` is the inverse."""
    header: dict[str, Any] = {"__metadata__": {"schema_version": str(SCHEMA_VERSION)}}
    blocks, offset = [], 0
    for name, kind in _SCHEMA.items():
        array = np.ascontiguousarray(getattr(table, name), dtype=_DTYPES[kind])
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        blocks.append(array.tobytes())
        offset += array.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # arrays start on 8 bytes, so they map in place
    return b"".join([len(head).to_bytes(8, "little"), head, *blocks])


def unpack(data: bytes | memoryview) -> Table:
    """Read a table in place (no copy of the arrays) and check all of it.

    Raises `TableError` with the reason for anything that is not a valid table.
    """
    table = Table(**_arrays(memoryview(data)))
    _check(table)
    return table


def _arrays(data: memoryview) -> dict[str, Array]:
    """Cut the arrays of a safetensors file, checking every bound before use."""
    _require(len(data) >= 8, "it is shorter than its own header")
    size = int.from_bytes(data[:8], "little")
    _require(size <= min(len(data) - 8, 1 << 20), "its header is cut or too long")
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
    except ValueError as error:
        raise TableError("not a valid table: its header is not JSON") from error
    _require(isinstance(header, dict), "its header is not an object")
    metadata = header.pop("__metadata__", None)
    found = metadata.get("schema_version") if isinstance(metadata, dict) else None
    _require(found == str(SCHEMA_VERSION), f"schema version {found!r}, not {str(SCHEMA_VERSION)!r}")
    _require(header.keys() == _SCHEMA.keys(), "its arrays are not those of the schema")
    body = data[8 + size :]
    arrays, position = {}, 0
    for name, kind in _SCHEMA.items():
        entry = header[name]
        dtype = np.dtype(_DTYPES[kind])
        _require(isinstance(entry, dict) and entry.get("dtype") == kind, f"{name} is not {kind}")
        shape = entry.get("shape")
        _require(
            isinstance(shape, list) and len(shape) == 1 and _is_size(shape[0]),
            f"{name} is not one-dimensional",
        )
        end = position + shape[0] * dtype.itemsize
        _require(entry.get("data_offsets") == [position, end], f"{name} is not where it should be")
        _require(end <= len(body), f"{name} is cut")
        arrays[name] = np.frombuffer(body[position:end], dtype=dtype)
        position = end
    _require(position == len(body), "bytes are left over behind the arrays")
    return arrays


def _check(table: Table) -> None:
    """Check what the serving code relies on, so that it never has to."""
    n, users = len(table.tracks), len(table.users)
    artists = len(table.artist_name_offsets) - 1
    _require_ids("tracks", table.tracks)
    _require_ids("users", table.users)
    _require_offsets("artist_name", table.artist_name_offsets, artists, len(table.artist_names))
    _require_offsets("title", table.title_offsets, n, len(table.titles))
    _require_offsets("neighbour", table.neighbour_offsets, n, len(table.neighbours))
    _require_offsets("personal", table.personal_offsets, users, len(table.personal))
    for name in ("artist", "plays", "mean_time"):
        _require(len(getattr(table, name)) == n, f"{name} has not one entry a track")
    _require_range("artist", table.artist, artists)
    for name in ("neighbours", "personal", "popular", "top"):
        _require_range(name, getattr(table, name), n)
    for name in ("neighbour", "personal", "popular", "top"):
        weights = getattr(table, f"{name}_weights")
        targets = getattr(table, "neighbours" if name == "neighbour" else name)
        _require(len(weights) == len(targets), f"{name} weights and tracks differ in number")
        _require(bool((np.isfinite(weights) & (weights > 0)).all()), f"a {name} weight is not > 0")
    _require(bool((table.plays >= 0).all()), "a count of plays is negative")
    times = table.mean_time
    _require(bool(((times >= 0) & (times <= 1)).all()), "a mean time is not in 0..1")
    _require_distinct("neighbour", table.neighbour_offsets, table.neighbours)
    _require_distinct("personal", table.personal_offsets, table.personal)
    _require(len(table.top) % max(n, 1) == 0, "top has not as many entries for every track")
    _require_distinct("top", np.arange(n + 1) * (len(table.top) // max(n, 1)), table.top)
    _require(len(np.unique(table.popular)) == len(table.popular), "a popular track is there twice")
    owners = np.repeat(np.arange(n), np.diff(table.neighbour_offsets))
    _require(not (owners == table.neighbours).any(), "a track is its own neighbour")
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
    _require(shaped, "the session model has no shape")
    for name, size in sizes.items():
        _require(len(arrays[name]) == size, f"{name} has not the size of the session model")
    for name, array in arrays.items():
        if array.dtype.kind == "u":  # as integers, for those compare as the numbers do
            within = (array & 0x7FFF).max() < _LARGEST_HALF
        else:  # a NaN compares as false
            within = array.dtype.kind == "i" or -_LARGEST < array.min() <= array.max() < _LARGEST
        _require(bool(within), f"a value in {name} is out of range")
    _require(bool(((rows >= -1) & (rows < n)).all()), "an index in session_rows is out of range")
    _require_range("session_places", table.session_places, len(rows))
    placed = rows[table.session_places]
    _require(bool((placed == np.arange(n)).all()), "a track is not at its place in session_rows")
    _require(int((rows >= 0).sum()) == n, "a track is in session_rows twice")
    noise, discount = table.session_constants.tolist()
    _require(noise > 0 and 0 <= discount <= 1, "the session model's constants are out of range")
    spread = table.session_spread.reshape(k, k).astype(np.float64)
    positive = np.allclose(spread, spread.T) and np.linalg.eigvalsh(spread)[0] > 0
    _require(bool(positive), "session_spread is not a covariance")


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise TableError(f"not a valid table: {reason}")


def _require_ids(name: str, ids: Array) -> None:
    _require(not len(ids) or int(ids[0]) >= 0, f"an id in {name} is negative")
    _require(bool((ids[1:] > ids[:-1]).all()), f"{name} are not ascending")


def _require_offsets(name: str, offsets: Array, rows: int, size: int) -> None:
    _require(len(offsets) == rows + 1 and rows >= 0, f"{name} offsets do not fit the row count")
    _require(int(offsets[0]) == 0 and int(offsets[-1]) == size, f"{name} offsets miss the data")
    _require(bool((offsets[1:] >= offsets[:-1]).all()), f"{name} offsets go backwards")


def _require_range(name: str, values: Array, end: int) -> None:
    _require(bool(((values >= 0) & (values < end)).all()), f"an index in {name} is out of range")


def _require_distinct(name: str, offsets: Array, indices: Array) -> None:
    """Check that no row holds a track twice, with one sort of all rows at once."""
    owners = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    keys = np.sort((owners << 32) | indices.astype(np.int64))
    _require(bool((keys[1:] != keys[:-1]).all()), f"a {name} row holds a track twice")


def _require_text(name: str, block: Array) -> None:
    try:
        str(block.data, "utf-8")
    except UnicodeDecodeError as error:
        raise TableError(f"not a valid table: {name} are not UTF-8") from error


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 40
