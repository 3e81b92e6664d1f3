"""A table as bytes: round trip, other readers, and every kind of damage."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsvc.errors import TableError
from recsvc.halves import widen
from recsvc.packing import pack, unpack
from recsvc.table import Table, empty
from tests.inferring import inferring_table
from tests.support import small_table

NAMES = [field.name for field in fields(Table) if field.init]
PACKED = pack(small_table())


def same(one: Table, other: Table) -> bool:
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in NAMES)


@pytest.mark.parametrize(
    "table", [empty(), small_table(1), small_table(12), small_table(3, users=())]
)
def test_round_trip(table: Table) -> None:
    assert same(unpack(pack(table)), table)


def test_packing_is_deterministic_and_aligned() -> None:
    assert pack(small_table()) == PACKED
    assert (8 + int.from_bytes(PACKED[:8], "little")) % 8 == 0


def test_the_safetensors_library_reads_it() -> None:
    table = inferring_table(13, 3)
    read = safetensors.torch.load(pack(table))
    assert set(read) == set(NAMES)
    for name, tensor in read.items():
        array = getattr(table, name)
        if tensor.dtype == torch.bfloat16:
            assert np.array_equal(tensor.float().numpy(), widen(array))
        else:
            assert np.array_equal(tensor.numpy(), array)
    assert {n for n, t in read.items() if t.dtype == torch.bfloat16} == {
        "session_vectors",
        "session_centres",
    }


def test_reading_copies_nothing() -> None:
    view = memoryview(bytearray(PACKED))
    table = unpack(view)
    assert np.shares_memory(table.tracks, np.frombuffer(view, dtype=np.uint8))


@settings(max_examples=500)
@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_still_a_table(position: int, mask: int) -> None:
    damaged = bytearray(PACKED)
    damaged[position] ^= mask
    try:
        table = unpack(bytes(damaged))
    except TableError:
        return
    # Some bytes make another valid table: a weight, a title, a count of plays.
    assert same(table, unpack(bytes(damaged)))
    assert not same(table, small_table()) or position < 8 + int.from_bytes(PACKED[:8], "little")


@settings(max_examples=200)
@given(st.integers(0, len(PACKED) - 1))
def test_a_cut_file_is_refused(size: int) -> None:
    with pytest.raises(TableError):
        unpack(PACKED[:size])


def test_bytes_left_over_are_refused() -> None:
    with pytest.raises(TableError, match="left over"):
        unpack(PACKED + b"\0")


def changed(name: str, position: int, value: float) -> dict[str, Any]:
    array = getattr(small_table(), name).copy()
    array[position] = value
    return {name: array}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed("tracks", 0, -1), "negative"),
        (changed("tracks", 1, 0), "ascending"),
        (changed("users", 1, 1), "ascending"),
        (changed("artist", 0, 3), "out of range"),
        (changed("neighbours", 0, 12), "out of range"),
        (changed("neighbours", 0, -1), "out of range"),
        (changed("neighbours", 0, 0), "own neighbour"),
        (changed("neighbours", 1, 1), "twice"),
        (changed("neighbour_weights", 3, 0.0), "not > 0"),
        (changed("neighbour_weights", 3, np.nan), "not > 0"),
        (changed("neighbour_weights", 3, np.inf), "not > 0"),
        (changed("neighbour_offsets", 1, 99), "backwards"),
        (changed("neighbour_offsets", 0, 1), "miss the data"),
        (changed("personal", 0, 77), "out of range"),
        (changed("personal", 1, 1), "twice"),
        (changed("personal_offsets", 2, 7), "miss the data"),
        (changed("popular", 1, 0), "twice"),
        (changed("popular_weights", 0, -1.0), "not > 0"),
        (changed("top", 1, 1), "twice"),
        (changed("plays", 0, -1), "negative"),
        (changed("mean_time", 0, 1.5), "0..1"),
        (changed("mean_time", 0, np.nan), "0..1"),
        (changed("titles", 0, 0xFF), "UTF-8"),
        ({"artist": np.zeros(3, dtype=np.int32)}, "one entry a track"),
        ({"top": np.array([1], dtype=np.int32)}, "differ in number"),
    ],
)
def test_every_check(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(TableError, match=reason):
        unpack(pack(replace(small_table(), **change)))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (b'"schema_version":"3"', b'"schema_version":"9"', "schema version '9'"),
        (b'"tracks"', b'"trakcs"', "not those of the schema"),
        (b'"dtype":"I64"', b'"dtype":"I32"', "not I64"),
        (b'"shape":[12]', b'"shape":[13]', "not where it should be"),
        (b'"shape":[12]', b'"shape":[-2]', "one-dimensional"),
        (b'{"__meta', b'["__meta', "not JSON"),
    ],
)
def test_every_check_of_the_header(before: bytes, after: bytes, reason: str) -> None:
    assert PACKED.count(before)
    with pytest.raises(TableError, match=reason):
        unpack(PACKED.replace(before, after, 1))
