"""The made-up tables are tables: the checks of the service's own reader hold."""

import numpy as np
import pytest

from recsvc.packing import pack, unpack
from recsvc.recommenders.inference import infer
from recsvc.recommenders.source import Source
from tests.load.synthetic import make_table


@pytest.mark.parametrize("tracks", [2, 31, 1_000])
def test_a_table_is_valid_and_has_rows_as_long_as_can_be(tracks: int) -> None:
    table = unpack(pack(make_table(tracks, users=7)))
    assert len(table) == tracks
    assert set(np.diff(table.neighbour_offsets)) == {min(70, tracks - 1)}
    assert set(np.diff(table.personal_offsets)) == {min(100, tracks - 1)}
    assert len(table.users) == 7


@pytest.mark.parametrize("tracks", [2, 31, 1_000])
def test_a_session_model_foresees_every_track(tracks: int) -> None:
    source = Source(unpack(pack(make_table(tracks, dimensions=5))), "v1")
    found, _ = infer(source, None, 0, 1.0, b"", tracks)
    assert sorted(found.tracks.tolist()) == list(range(1, tracks))
    assert ((found.times > 0.0) & (found.times < 1.0)).all()


def test_neighbours_come_from_all_over() -> None:
    table = make_table(10_000, neighbours=50)
    assert len(np.unique(table.neighbours)) > 9_900


def test_the_same_seed_gives_the_same_table() -> None:
    one, other = make_table(100, users=3, seed=4), make_table(100, users=3, seed=4)
    assert pack(one) == pack(other) != pack(make_table(100, users=3, seed=5))
