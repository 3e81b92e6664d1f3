"""From sessions to the arrays of a table."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from precompute.catalogue import Catalogue
from precompute.errors import TrainingError
from precompute.inference.parameters import Settings
from precompute.inference.train import Trained, is_warm, train
from recsvc.halves import widen
from recsvc.packing import pack, unpack
from recsvc.recommenders.source import session_model
from recsvc.table import SESSION_ARRAYS, Table, Text
from tests.inferring import as_artists
from tests.precompute.inference.planted import Array, arrange, plant
from tests.support import small_table

SETTINGS = Settings(dimensions=3, iterations=5, finishing=1, leaf=8)
WORLD = plant(900, 10, seed=9)
SESSIONS = replace(WORLD.sessions, valid=WORLD.sessions.session >= 800)


def table_of(trained: Trained, catalogue: Catalogue) -> Table:
    """A table as it is published."""
    bare = replace(small_table(len(catalogue)), tracks=catalogue.tracks)
    arrays: dict[str, Any] = trained.arrays
    return unpack(pack(replace(as_artists(bare, catalogue.artist), **arrays)))


def vectors_of(table: Table) -> dict[int, Array]:
    """Vector and offset of each track, by id."""
    model = session_model(table.session)
    return dict(zip(table.tracks.tolist(), model.at(model.places), strict=True))


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(SESSIONS, WORLD.catalogue, SETTINGS, seed=0)


def test_the_arrays_are_those_of_a_valid_table(trained: Trained) -> None:
    assert tuple(sorted(trained.arrays)) == tuple(sorted(SESSION_ARRAYS))
    table = table_of(trained, WORLD.catalogue)
    assert table.counts()["session_dimensions"] == 3
    model = session_model(table.session)
    assert model.vectors.shape == (13, 8, 4)  # 100 tracks, 8 a leaf
    assert model.discount == pytest.approx(0.8, abs=0.05)
    leaves, inside = widen(model.vectors), model.rows.reshape(13, 8)
    for leaf, centre, rows in zip(leaves, model.centres, inside, strict=True):
        np.testing.assert_allclose(leaf[rows >= 0].mean(axis=0), centre, atol=0.02)
        assert (leaf[rows < 0] == 0.0).all()


def test_its_quality_is_that_of_sessions_it_had_not_seen(trained: Trained) -> None:
    assert trained.quality is not None
    metrics = trained.quality.metrics()
    assert metrics["validation_rows"] == 900  # 100 sessions, the first track of each apart
    assert metrics["log_loss"] < metrics["log_loss_constant"]
    assert metrics["mse"] < 0.7 * metrics["mse_constant"]
    assert trained.rows == 5 * 7200 + 8100


def test_sessions_for_validation_teach_nothing_but_in_the_end(trained: Trained) -> None:
    unfinished = replace(SETTINGS, finishing=0)
    time = np.where(SESSIONS.valid, np.float32(0.5), SESSIONS.time)
    one = train(SESSIONS, WORLD.catalogue, unfinished, seed=0)
    other = train(replace(SESSIONS, time=time), WORLD.catalogue, unfinished, seed=0)
    assert one.quality == trained.quality != other.quality
    for name, array in one.arrays.items():
        assert np.array_equal(array, other.arrays[name])
    assert not np.array_equal(one.arrays["session_vectors"], trained.arrays["session_vectors"])


def test_the_same_seed_gives_the_same_bytes(trained: Trained) -> None:
    again = train(SESSIONS, WORLD.catalogue, SETTINGS, seed=0)
    assert pack(table_of(again, WORLD.catalogue)) == pack(table_of(trained, WORLD.catalogue))
    assert again.quality == trained.quality


def test_without_sessions_for_validation_there_is_no_quality() -> None:
    nothing_kept = replace(SESSIONS, valid=np.zeros_like(SESSIONS.valid))
    found = train(nothing_kept, WORLD.catalogue, replace(SETTINGS, iterations=1), seed=0)
    assert found.quality is None


def test_where_all_is_for_validation_it_learns_from_that() -> None:
    all_kept = replace(SESSIONS, valid=np.ones_like(SESSIONS.valid))
    found = train(all_kept, WORLD.catalogue, replace(SETTINGS, iterations=1), seed=0)
    assert len(found.arrays["session_places"]) == len(WORLD.catalogue)
    assert found.quality is None  # of what it has seen it is no judge


# --- warm ----------------------------------------------------------------------------------------


def other_catalogue() -> Catalogue:
    """That of the world, without its first three tracks and with two new ones of artist 4."""
    was = WORLD.catalogue
    tracks = np.append(was.tracks[3:], [5000, 5010])
    artist = np.append(was.artist[3:], [4, 4]).astype(np.int32)
    return Catalogue(tracks, artist, was.artists, Text.of(["t"] * len(tracks)))


def test_vectors_of_another_length_are_no_start(trained: Trained) -> None:
    live, other = table_of(trained, WORLD.catalogue), replace(SETTINGS, dimensions=4)
    assert is_warm(live, SETTINGS)
    assert not is_warm(live, other)
    found = train(SESSIONS, WORLD.catalogue, other, seed=0, live=live)
    cold = train(SESSIONS, WORLD.catalogue, other, seed=0)
    assert np.array_equal(found.arrays["session_vectors"], cold.arrays["session_vectors"])


def test_a_warm_start_keeps_the_model(trained: Trained) -> None:
    live, catalogue = table_of(trained, WORLD.catalogue), other_catalogue()
    known = WORLD.sessions.track >= 3
    moved = replace(SESSIONS, track=np.where(known, SESSIONS.track - 3, -1).astype(np.int32))
    settings = replace(SETTINGS, iterations=2, finishing=0)  # one pass
    warm = train(moved, catalogue, settings, seed=0, live=live)
    before, after = vectors_of(live), vectors_of(table_of(warm, catalogue))
    shared = sorted(set(before) & set(after))
    assert len(shared) == 97
    one, other = (np.array([found[track] for track in shared]) for found in (before, after))
    assert all(np.corrcoef(one[:, i], other[:, i])[0, 1] > 0.95 for i in range(4))
    # A new track is where its artist is.
    own = [after[t] for t in catalogue.tracks[catalogue.artist == 4].tolist() if t < 5000]
    near = np.linalg.norm(after[5000][:3] - np.mean(own, axis=0)[:3])
    assert near < 0.3 * np.linalg.norm(np.mean(own, axis=0)[:3])
    cold = train(moved, catalogue, replace(settings, iterations=1), seed=0)
    assert warm.quality is not None
    assert cold.quality is not None
    assert warm.quality.log_loss < cold.quality.log_loss


def test_a_live_table_without_a_model_is_a_cold_start(trained: Trained) -> None:
    found = train(SESSIONS, WORLD.catalogue, SETTINGS, seed=0, live=small_table())
    for name, array in found.arrays.items():
        assert np.array_equal(array, trained.arrays[name])


# --- little to learn from ------------------------------------------------------------------------


def test_sessions_of_one_track_are_refused() -> None:
    with pytest.raises(TrainingError, match="more than one track"):
        train(arrange([[0], [1]], [[0.5], [0.5]]), WORLD.catalogue, SETTINGS, seed=0)


@pytest.mark.parametrize("artists", [1, 2])
def test_a_handful_of_tracks_is_enough(artists: int) -> None:
    few = plant(30, 3, artists=artists, tracks=4, seed=1)
    found = train(few.sessions, few.catalogue, SETTINGS, seed=0)
    table_of(found, few.catalogue)


def test_one_session_is_enough() -> None:
    one = arrange([[0, 1, 2]], [[0.5, 0.0, 1.0]], valid=1)
    table_of(train(one, WORLD.catalogue, SETTINGS, seed=0), WORLD.catalogue)
