"""The compiled lists of candidates against the Python they stand for."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsvc.recommenders.compiled import library
from recsvc.recommenders.rows import compiled_rows, rows

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")

WEIGHTS = st.floats(2.0**-126, 2.0**100, width=32)
ROWS = st.lists(st.lists(st.tuples(st.integers(0, 4), WEIGHTS), max_size=80), max_size=8)


@settings(max_examples=200, deadline=None)
@given(lists=ROWS, first=st.sampled_from([0, 1, 2**62]))
def test_they_are_the_same_to_the_last_bit(
    lists: list[list[tuple[int, float]]], first: int
) -> None:
    ids = np.arange(5, dtype=np.int64) * 3 + first
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    pairs = [pair for found in lists for pair in found]
    indices = np.array([index for index, _ in pairs], dtype=np.int32)
    weights = np.array([weight for _, weight in pairs], dtype=np.float32)
    fast = compiled_rows(library(), ids, offsets, indices, weights)
    slow = rows(ids, offsets, indices, weights)
    made = [(fast(row), slow(row)) for row in range(len(lists))]
    for found, expected in made:  # looked at when all are made: none is overwritten by the next
        assert found.packed == expected.packed
        assert found.cumulative == expected.cumulative
        assert (found.tracks, found.weights) == (expected.tracks, expected.weights)
        assert (len(found), found.total) == (len(expected), expected.total)


def test_by_hand() -> None:
    ids, offsets = np.array([7, 9, 12]), np.array([0, 2, 2, 3])
    indices = np.array([2, 0, 1], dtype=np.int32)
    weights = np.array([0.5, 0.25, 4.0], dtype=np.float32)
    first, second, third = map(compiled_rows(library(), ids, offsets, indices, weights), range(3))
    assert (first.tracks, first.weights, first.total) == ([12, 7], [0.5, 0.25], 0.75)
    assert [first.pick(chance) for chance in (0.0, 0.66, 0.67, 0.999)] == [0, 0, 1, 1]
    assert (len(second), second.total, second.pick(0.5)) == (0, 0.0, -1)
    assert (third.tracks, third.cumulative.tolist()) == ([9], [4.0])
