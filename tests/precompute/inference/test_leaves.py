"""Tracks sorted into leaves: each once, all of one size, the similar ones together."""

import numpy as np
import pytest

from precompute.inference.leaves import arrange


@pytest.mark.parametrize("size", [1, 4, 64])
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 200, 256])
def test_every_track_has_one_place(n: int, size: int) -> None:
    rows = arrange(np.random.default_rng(n).normal(size=(n, 5)), size)
    assert rows.dtype == np.int32
    assert len(rows) % size == 0
    assert len(rows) - n < size
    assert sorted(rows[rows >= 0].tolist()) == list(range(n))
    assert (rows[:n] >= 0).all()  # what is left over is at the end
    assert (rows[n:] == -1).all()


def test_similar_tracks_are_together() -> None:
    rng = np.random.default_rng(3)
    camp = rng.permutation(np.repeat(np.arange(8), 32))
    vectors = rng.normal(0.0, 5.0, (8, 6))[camp] + rng.normal(0.0, 0.1, (256, 6))
    leaves = arrange(vectors, 32).reshape(-1, 32)
    assert all(len(set(camp[leaf].tolist())) == 1 for leaf in leaves)
    within = np.mean([vectors[leaf].var(axis=0).sum() for leaf in leaves])
    assert within < 0.01 * vectors.var(axis=0).sum()


def test_without_camps_leaves_are_still_closer_than_chance() -> None:
    vectors = np.random.default_rng(4).normal(size=(1024, 4))
    leaves = arrange(vectors, 16).reshape(-1, 16)
    within = np.mean([vectors[leaf].var(axis=0).sum() for leaf in leaves])
    assert within < 0.3 * vectors.var(axis=0).sum()


def test_it_depends_on_nothing_but_the_vectors() -> None:
    vectors = np.random.default_rng(5).normal(size=(300, 7)).astype(np.float32)
    before = vectors.copy()
    assert (arrange(vectors, 8) == arrange(vectors, 8)).all()
    assert (vectors == before).all()


def test_tracks_all_alike_are_no_trouble() -> None:
    assert sorted(arrange(np.zeros((100, 3)), 8).tolist())[-100:] == list(range(100))
