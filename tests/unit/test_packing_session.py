"""The session model as bytes: round trip, and every kind of damage."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsvc.errors import TableError
from recsvc.halves import halve
from recsvc.packing import pack, unpack
from recsvc.recommenders.session import SessionPolicy
from recsvc.recommenders.source import Source
from recsvc.table import SESSION_ARRAYS, Table
from tests.inferring import Array, inferring_table
from tests.support import small_table

TABLE = inferring_table(13, 3, leaf=4)  # 4 leaves, the last with 3 places left over; k = 4
PACKED = pack(TABLE)
HUGE = int(halve(np.array(-1e20)))
START = PACKED.index(TABLE.session["session_rows"].tobytes())


def test_round_trip() -> None:
    found = unpack(PACKED)
    assert set(found.session) == set(SESSION_ARRAYS)
    for name, array in TABLE.session.items():
        assert np.array_equal(found.session[name], array)
    assert found.counts()["session_dimensions"] == 3
    model = Source(found, "v1").session_model
    assert model is not None
    assert model.vectors.shape == (4, 4, 4)
    assert model.noise == 0.5
    assert model.discount == pytest.approx(0.8)
    for row in range(13):
        assert model.rows[model.places[row]] == row


def test_a_table_may_come_without_one() -> None:
    found = unpack(pack(small_table()))
    assert found.session == {}
    assert found.counts()["session_dimensions"] == 0
    assert Source(found, "v1").session_model is None


def with_value(name: str, place: int, value: float) -> Table:
    array = getattr(TABLE, name).copy()
    array[place] = value
    changed: dict[str, Any] = {name: array}
    return replace(TABLE, **changed)


def with_array(name: str, change: Callable[[Array], Array]) -> Table:
    changed: dict[str, Any] = {name: change(getattr(TABLE, name))}
    return replace(TABLE, **changed)


def moved_places() -> Table:
    places = TABLE.session_places.copy()
    places[[0, 1]] = places[[1, 0]]
    return replace(TABLE, session_places=places)


def twice() -> Table:
    rows = TABLE.session_rows.copy()
    rows[np.flatnonzero(rows < 0)[0]] = 5
    return replace(TABLE, session_rows=rows)


def lopsided() -> Array:
    spread = np.eye(4, dtype=np.float32)
    spread[0, 1] = 0.5
    return spread.ravel()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        *((with_array(name, lambda a: a[:0]), "session") for name in SESSION_ARRAYS),
        *((with_array(name, lambda a: a[:-1]), "session") for name in SESSION_ARRAYS),
        *((with_array(name, lambda a: np.append(a, a[:1])), "session") for name in SESSION_ARRAYS),
        (with_array("session_opening", lambda a: a[:9]), "no shape"),
        (with_array("session_spread", lambda a: a[:9]), "session_spread has not"),
        (with_array("session_opening", lambda a: a[:1]), "no shape"),
        (with_array("session_rows", lambda a: a[:-2]), "no shape"),
        (with_array("session_constants", lambda a: np.append(a, a)), "session_constants has not"),
        (with_array("session_vectors", lambda a: a[:-4]), "session_vectors has not"),
        (with_array("session_places", lambda a: a[:12]), "session_places has not"),
        (with_value("session_vectors", 3, 0x7FC0), "session_vectors is out of range"),
        (with_value("session_vectors", 3, HUGE), "session_vectors is out of range"),
        (with_value("session_centres", 3, 0xFF80), "session_centres is out of range"),
        (with_value("session_opening", 3, -np.inf), "session_opening is out of range"),
        (with_value("session_spread", 3, np.nan), "session_spread is out of range"),
        (with_value("session_constants", 0, np.nan), "session_constants is out of range"),
        (with_value("session_rows", 3, 13), "session_rows is out of range"),
        (with_value("session_rows", 3, -2), "session_rows is out of range"),
        (with_value("session_places", 3, 16), "session_places is out of range"),
        (with_value("session_places", 3, -1), "session_places is out of range"),
        (moved_places(), "not at its place"),
        (with_value("session_places", 0, int(TABLE.session_places[1])), "not at its place"),
        (twice(), "twice"),
        (with_value("session_constants", 0, 0.0), "constants are out of range"),
        (with_value("session_constants", 0, -1.0), "constants are out of range"),
        (with_value("session_constants", 1, 1.01), "constants are out of range"),
        (with_value("session_constants", 1, -0.1), "constants are out of range"),
        (replace(TABLE, session_spread=lopsided()), "not a covariance"),
        (with_array("session_spread", lambda a: -a), "not a covariance"),
        (with_array("session_spread", np.zeros_like), "not a covariance"),
        (with_array("session_spread", np.ones_like), "not a covariance"),
    ],
)
def test_every_check(table: Table, reason: str) -> None:
    with pytest.raises(TableError, match=reason):
        unpack(pack(table))


def test_a_session_model_of_no_track_is_refused() -> None:
    nothing = replace(
        small_table(0, users=()),
        session_rows=np.full(4, -1, dtype=np.int32),
        session_vectors=np.zeros(16, dtype=np.uint16),
        session_centres=np.zeros(4, dtype=np.uint16),
        **{n: getattr(TABLE, n) for n in SESSION_ARRAYS[4:]},
    )
    with pytest.raises(TableError, match="no shape"):
        unpack(pack(nothing))


@settings(max_examples=300, deadline=None)
@given(st.integers(START, len(PACKED) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_still_serves(position: int, mask: int) -> None:
    damaged = bytearray(PACKED)
    damaged[position] ^= mask
    try:
        table = unpack(bytes(damaged))
    except TableError:
        return
    source, policy, evidence = Source(table, "v1"), SessionPolicy(0.1, 4), b""
    for track in (0, 5, 9):
        plan, evidence = policy.recall(source, 1, track, 0.5, Random(1), evidence, b"")
        assert plan.pools
