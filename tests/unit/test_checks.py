"""Long arrays are looked at block by block, and nothing slips through between two blocks.

That each check is made, and what it says, is shown by `test_packing`.
"""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from recsvc.checks import _BLOCK as BLOCK
from recsvc.checks import check
from recsvc.errors import TableError
from recsvc.table import Array, Table
from tests.load.synthetic import make_table

WIDE = 70
TRACKS = 3 * BLOCK // WIDE


@pytest.fixture(scope="module")
def table() -> Table:
    return make_table(TRACKS, neighbours=WIDE, users=3)


def with_neighbour(table: Table, place: int, track: int) -> Table:
    neighbours = table.neighbours.copy()
    neighbours[place] = track
    return replace(table, neighbours=neighbours)


# The first and the last row, and those on both sides of where blocks are cut: behind as many
# whole rows as fit into one.
ROWS = [0, BLOCK // WIDE - 1, BLOCK // WIDE, 2 * (BLOCK // WIDE), TRACKS - 1]


def test_a_sound_table_of_many_blocks_is_one(table: Table) -> None:
    assert len(table.neighbours) > 2 * BLOCK
    check(table)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("place", [1, WIDE - 1])
def test_a_track_that_is_twice_in_a_row_is_found(table: Table, row: int, place: int) -> None:
    first = int(table.neighbours[row * WIDE])
    with pytest.raises(TableError, match="a neighbour row holds a track twice"):
        check(with_neighbour(table, row * WIDE + place, first))


@pytest.mark.parametrize("row", ROWS)
def test_a_track_among_its_own_neighbours_is_found(table: Table, row: int) -> None:
    with pytest.raises(TableError, match="its own neighbour"):
        check(with_neighbour(table, row * WIDE + 5, row))


def with_personal(table: Table, lists: list[Array]) -> Table:
    offsets = np.cumsum([0, *map(len, lists)])
    personal = np.concatenate(lists).astype(np.int32)
    weights = np.ones(len(personal), dtype=np.float32)
    return replace(table, personal_offsets=offsets, personal=personal, personal_weights=weights)


def test_a_row_may_be_empty_or_longer_than_a_block() -> None:
    table = make_table(BLOCK + 10, neighbours=1, users=3)
    nothing, everything = np.arange(0), np.arange(len(table.tracks))
    for lists in ([nothing, everything, nothing], [everything, nothing, everything]):
        check(with_personal(table, lists))
    last = everything.copy()
    last[-1] = 0
    with pytest.raises(TableError, match="a personal row holds a track twice"):
        check(with_personal(table, [nothing, nothing, last]))


def test_a_check_makes_nothing_as_long_as_the_longest_arrays() -> None:
    table = make_table(50_000, neighbours=WIDE, dimensions=48)
    tracemalloc.start()
    try:
        check(table)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used < min(table.neighbours.nbytes, table.session_vectors.nbytes) / 2
