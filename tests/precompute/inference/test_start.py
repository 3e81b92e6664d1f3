"""Where a fit begins: eigenvectors against dense ones, and what repeats of an artist cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from precompute.inference.observations import Observations
from precompute.inference.parameters import Settings
from precompute.inference.start import find_discount, start, warm_start
from tests.precompute.inference.planted import Array, arrange, plant

WORLD = plant(800, 10, artists=12, tracks=60, seed=5)
SETTINGS = Settings(dimensions=3)


def dense(observed: Observations, artist: Array, artists: int, d: int) -> Array:
    """The leading eigenvectors of the damped co-moments, with nothing left out for speed."""
    mean = float(observed.time.mean())
    residuals = np.zeros((observed.count, artists))
    for s in range(observed.count):
        rows = np.flatnonzero(observed.session == s)
        level = (observed.time[rows].sum() + 2.0 * mean) / (len(rows) + 2.0)
        for i in rows.tolist():
            residuals[s, artist[observed.track[i]]] += observed.time[i] - level
        residuals[s, artist[observed.first[s]]] += observed.first_time[s] - mean
    heard = (residuals != 0).sum(0) + 5.0
    moments = residuals.T @ residuals
    np.fill_diagonal(moments, 0.0)
    values, vectors = np.linalg.eigh(moments / np.sqrt(np.outer(heard, heard)))
    scaled = vectors[:, -d:] * np.sqrt(values[-d:]) / np.sqrt(heard)[:, None]
    scaled *= np.where(scaled.sum(axis=0) < 0, -1.0, 1.0)
    return np.asarray(scaled / np.sqrt((scaled**2).sum(axis=1).mean()))


def test_it_starts_at_the_leading_eigenvectors() -> None:
    observed = WORLD.observe()
    found = start(observed, WORLD.artist, 12, SETTINGS, seed=0)
    expected = dense(observed, WORLD.artist, 12, 3)
    order = np.argsort((found.artists.numpy() ** 2).sum(axis=0))
    np.testing.assert_allclose(found.artists.numpy()[:, order], expected, atol=0.02)
    assert (found.artists**2).sum(1).mean() == pytest.approx(1.0, rel=1e-4)
    assert float(found.deviations.abs().max()) == float(found.offsets.abs().max()) == 0.0
    assert np.linalg.eigvalsh(found.spread.double().numpy())[0] > 0


def test_artists_that_go_together_start_together() -> None:
    found = start(WORLD.observe(), WORLD.artist, 12, SETTINGS, seed=0).artists.numpy()
    truth = WORLD.model.artists.numpy()
    upper = np.triu_indices(12, 1)
    assert np.corrcoef((found @ found.T)[upper], (truth @ truth.T)[upper])[0, 1] > 0.7


def test_the_same_seed_starts_at_the_same_place() -> None:
    one, same = (start(WORLD.observe(), WORLD.artist, 12, SETTINGS, seed=4) for _ in range(2))
    assert torch.equal(one.artists, same.artists)


@pytest.mark.parametrize("artists", [1, 2, 3, 4, 12])
def test_with_fewer_artists_than_dimensions_the_rest_is_empty(artists: int) -> None:
    artist = np.arange(60) % artists
    found = start(WORLD.observe(), artist, artists, Settings(dimensions=8), seed=0)
    assert found.artists.shape == (artists, 8)
    assert bool(torch.isfinite(found.artists).all())


def test_times_that_are_all_the_same_say_nothing_and_break_nothing() -> None:
    for time in (0.0, 0.3, 0.5):
        flat = replace(WORLD.sessions, time=np.full_like(WORLD.sessions.time, time))
        observed = replace(WORLD, sessions=flat).observe()
        found = start(observed, WORLD.artist, 12, SETTINGS, seed=0)
        assert bool(torch.isfinite(found.artists).all())


def test_sessions_of_one_artist_each_say_nothing_of_any_two() -> None:
    tracks = [[a, a + 12, a + 24] for a in range(12)] * 20
    times = np.random.default_rng(0).random((240, 3)).tolist()
    observed = replace(WORLD, sessions=arrange(tracks, times)).observe()
    found = start(observed, WORLD.artist, 12, SETTINGS, seed=0)
    assert bool(torch.isfinite(found.artists).all())


# --- the discount --------------------------------------------------------------------------------


def with_plays(discount: float, *, biased: bool = False) -> Observations:
    """30,000 rows of any logit, each row with up to three earlier plays of its artist.

    `biased`: an artist is repeated where it is liked, as a recommender does it.
    """
    rng = np.random.default_rng(8)
    liked = rng.normal(-1.0, 2.5, 30_000)
    plays = rng.integers(0, 4, 30_000)
    if biased:
        plays = np.where(liked + rng.normal(0.0, 1.0, 30_000) > 0.5, plays, 0)
    time = np.round(discount**plays / (1.0 + np.exp(-liked)), 2)
    rows = np.arange(30_000)
    ones = np.ones(30_000)
    return Observations(rows, rows * 0, time, plays, rows * 0, ones, ones > 2, rows)


@pytest.mark.parametrize("discount", [0.5, 0.8, 1.0])
def test_a_planted_discount_is_found(discount: float) -> None:
    assert find_discount(with_plays(discount)) == pytest.approx(discount, abs=0.01)


@pytest.mark.parametrize("discount", [0.5, 0.8, 1.0])
def test_a_planted_discount_is_found_where_only_the_liked_is_repeated(discount: float) -> None:
    rows = with_plays(discount, biased=True)
    assert rows.time[rows.plays == 1].mean() > rows.time[rows.plays == 0].mean()
    assert find_discount(rows) == pytest.approx(discount, abs=0.04)


def test_where_nothing_repeats_a_play_costs_nothing() -> None:
    rows = with_plays(0.8)
    assert find_discount(replace(rows, plays=rows.plays * 0)) == 1.0
    assert find_discount(replace(rows, plays=rows.plays * 0 + 1)) == 1.0
    assert find_discount(replace(rows, time=rows.time * 0)) == 1.0
    few = arrange([[0, 12, 24]] * 20, [[0.9, 0.9, 0.5]] * 20)
    assert find_discount(replace(WORLD, sessions=few).observe()) == 1.0


# --- warm ----------------------------------------------------------------------------------------


def test_a_warm_start_keeps_every_vector_and_new_tracks_borrow() -> None:
    model = WORLD.model
    vectors, offsets = model.vectors(torch.from_numpy(WORLD.artist)).numpy(), model.offsets.numpy()
    new = [7, 30]
    vectors[new], offsets = 0.0, np.where(np.isin(np.arange(60), new), 0.0, offsets)
    opening, spread = model.opening.numpy(), model.spread.numpy()
    found = warm_start(vectors, offsets, WORLD.artist, 12, opening, spread, (0.4, 0.7))
    kept = found.vectors(torch.from_numpy(WORLD.artist)).numpy()
    known = ~np.isin(np.arange(60), new)
    np.testing.assert_allclose(kept[known], vectors[known], atol=1e-6)
    for track in new:
        others = known & (WORLD.artist == WORLD.artist[track])
        np.testing.assert_allclose(kept[track], vectors[others].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(found.offsets.numpy(), offsets)
    np.testing.assert_array_equal(found.opening.numpy(), opening)
    assert (found.noise, found.discount, found.dimensions) == (0.4, 0.7, 3)


def test_a_new_artist_starts_at_nothing() -> None:
    vectors = np.array([[1.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    eye = np.eye(3)
    found = warm_start(vectors, np.zeros(2), np.array([0, 1]), 2, eye, eye, (0.4, 0.7))
    assert found.artists.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert float(found.deviations.abs().max()) == 0.0


def test_a_warm_start_draws_in_what_has_run_away_and_foresees_the_same() -> None:
    rng = np.random.default_rng(5)
    n, d, k = 30, 4, 5
    vectors, opening = rng.normal(size=(n, d)), rng.normal(size=(k, k))
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    spread = np.eye(k)
    spread[:d, :d] = turn @ np.diag([0.5, 2.0, 60.0, 1e6]) @ turn.T
    spread[:d, -1] = spread[-1, :d] = 0.1
    model = warm_start(
        vectors, np.zeros(n), np.zeros(n, dtype=np.int64), 1, opening, spread, (0.5, 0.8)
    )
    found = model.directions(torch.zeros(n, dtype=torch.int64)).double().numpy()
    x = np.column_stack([vectors, np.ones(n)])
    scale = np.abs(x @ spread @ x.T).max()
    np.testing.assert_allclose(
        found @ model.spread.double().numpy() @ found.T, x @ spread @ x.T, atol=1e-5 * scale
    )
    np.testing.assert_allclose(
        found @ model.opening.double().numpy() @ found.T, x @ opening @ x.T, atol=2e-3
    )
    drawn = np.linalg.eigvalsh(model.spread.numpy()[:d, :d])
    np.testing.assert_allclose(drawn, [0.5, 2.0, 60.0, 100.0], rtol=1e-3)
