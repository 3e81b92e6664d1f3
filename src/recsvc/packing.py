"""A table as bytes: written in place, read in place, trusted never.

The form is a safetensors file: eight bytes of header length, a JSON header, then raw
little-endian arrays. It is read where it lies, from a memory map, so that all workers
of a machine share one copy. Bytes may come from anywhere, so `unpack` has all of it
checked (`checks`) before anybody gets a table.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from recsvc.checks import check, require
from recsvc.errors import TableError
from recsvc.table import Table

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
    check(table)
    return table


def _arrays(data: memoryview) -> dict[str, Array]:
    """Cut the arrays of a safetensors file, checking every bound before use."""
    require(len(data) >= 8, "it is shorter than its own header")
    size = int.from_bytes(data[:8], "little")
    require(size <= min(len(data) - 8, 1 << 20), "its header is cut or too long")
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
    except ValueError as error:
        raise TableError("not a valid table: its header is not JSON") from error
    require(isinstance(header, dict), "its header is not an object")
    metadata = header.pop("__metadata__", None)
    found = metadata.get("schema_version") if isinstance(metadata, dict) else None
    require(found == str(SCHEMA_VERSION), f"schema version {found!r}, not {str(SCHEMA_VERSION)!r}")
    require(header.keys() == _SCHEMA.keys(), "its arrays are not those of the schema")
    body = data[8 + size :]
    arrays, position = {}, 0
    for name, kind in _SCHEMA.items():
        entry = header[name]
        dtype = np.dtype(_DTYPES[kind])
        require(isinstance(entry, dict) and entry.get("dtype") == kind, f"{name} is not {kind}")
        shape = entry.get("shape")
        require(
            isinstance(shape, list) and len(shape) == 1 and _is_size(shape[0]),
            f"{name} is not one-dimensional",
        )
        end = position + shape[0] * dtype.itemsize
        require(entry.get("data_offsets") == [position, end], f"{name} is not where it should be")
        require(end <= len(body), f"{name} is cut")
        arrays[name] = np.frombuffer(body[position:end], dtype=dtype)
        position = end
    require(position == len(body), "bytes are left over behind the arrays")
    return arrays


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 40
