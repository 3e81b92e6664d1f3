"""The M step: each of its solutions against numpy."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from precompute.inference.expectation import Moments, expect
from precompute.inference.maximisation import maximise
from precompute.inference.parameters import Parameters, Settings
from precompute.inference.rows import rows_of
from precompute.inference.sparse import Packed
from tests.precompute.inference.planted import Array, plant

WORLD = plant(60, 10, artists=6, tracks=24, seed=2)
ARTIST = torch.from_numpy(WORLD.artist)
SETTINGS = Settings(artist_scale=0.5, track_scale=0.2, offset_rows=3.0, least_noise=0.02)


@pytest.fixture(scope="module")
def moments() -> Moments:
    rows = rows_of(WORLD.observe())
    return expect(WORLD.model, ARTIST, rows, None, 1000, lambda _: None)[0]


@pytest.fixture
def found(moments: Moments) -> Parameters:
    model = deepcopy(WORLD.model)
    maximise(model, moments, ARTIST, 60, SETTINGS)
    return model


def double(tensor: torch.Tensor) -> Array:
    return tensor.double().numpy()


def test_vectors_are_ridges_of_artists_then_of_tracks(moments: Moments, found: Parameters) -> None:
    d, artist = 3, WORLD.artist
    gram = double(Packed(d + 1).full(moments.gram))
    offsets, plain = double(WORLD.model.offsets), double(moments.plain)
    wanted = (double(moments.times_logit) - offsets[:, None] * plain)[:, :d] - gram[:, :d, d]
    led = double(WORLD.model.opening)[:, :d]
    pull = led.T @ np.linalg.inv(double(WORLD.model.spread))
    gram = gram[:, :d, :d] + double(moments.firsts)[:, None, None] * (pull @ led)
    wanted += double(moments.aims) @ pull.T
    artists, own = double(WORLD.model.artists).copy(), double(WORLD.model.deviations).copy()
    for a in range(6):
        tracks = np.flatnonzero(artist == a)
        left = sum(wanted[t] - gram[t] @ own[t] for t in tracks)
        artists[a] = np.linalg.solve(gram[tracks].sum(0) + np.eye(d) / 0.5**2, left)
    for t in range(24):
        left = wanted[t] - gram[t] @ artists[artist[t]]
        own[t] = np.linalg.solve(gram[t] + np.eye(d) / 0.2**2, left)
    np.testing.assert_allclose(found.artists, artists, atol=1e-4)
    np.testing.assert_allclose(found.deviations, own, atol=1e-4)


def test_a_track_that_only_begins_sessions_is_told_of_by_what_was_liked_in_them() -> None:
    """Known by hand: one dimension, one session, nothing else to explain."""
    model = Parameters(
        artists=torch.zeros(1, 1),
        deviations=torch.zeros(1, 1),
        offsets=torch.zeros(1),
        opening=torch.tensor([[2.0, 0.0], [0.0, 0.0]]),
        spread=torch.eye(2) * 0.5,
        noise=1.0,
        discount=1.0,
    )
    moments = Moments.none(1, Packed(2))
    moments.firsts[0] = 1.0  # heard in full
    moments.aims[0] = torch.tensor([3.0, 0.0])  # after which a taste of 3 was found
    maximise(model, moments, torch.tensor([0]), 1, Settings(artist_scale=1e-3, track_scale=1.0))
    # Least (3 - 2 v)^2 / 0.5 + v^2, so (8 + 1) v = 12.
    assert float(model.vectors(torch.tensor([0]))) == pytest.approx(12 / 9, rel=1e-3)


def test_offsets_are_the_mean_of_what_is_left(moments: Moments, found: Parameters) -> None:
    x = double(found.directions(ARTIST))
    left = double(moments.logit) - (x * double(moments.plain)).sum(1)
    np.testing.assert_allclose(found.offsets, left / (double(moments.weight) + 3.0), atol=1e-4)


def test_the_opening_is_a_ridge_of_states_on_first_tracks(
    moments: Moments, found: Parameters
) -> None:
    f, fz = double(moments.openings), double(moments.answers)
    expected = np.linalg.solve(f + 10.0 * np.eye(4), fz).T
    np.testing.assert_allclose(found.opening, expected, atol=1e-4)


def test_spread_and_noise_are_means(moments: Moments, found: Parameters) -> None:
    expected = double(moments.spread) / 60 + 1e-3 * np.eye(4)
    np.testing.assert_allclose(found.spread, expected, atol=1e-5)
    assert np.linalg.eigvalsh(double(found.spread))[0] > 0
    assert found.noise == pytest.approx(moments.squares / float(moments.weight.sum()), rel=1e-5)
    assert found.discount == WORLD.model.discount


def test_of_tracks_never_heard_nothing_is_made_up(moments: Moments) -> None:
    model, silent = deepcopy(WORLD.model), deepcopy(moments)
    by_track = ("gram", "times_logit", "plain", "weight", "logit", "firsts", "aims")
    for name in by_track:
        getattr(silent, name)[5] = 0.0
    maximise(model, silent, ARTIST, 60, SETTINGS)
    assert model.deviations[5].abs().max() < 1e-6
    assert model.offsets[5] == 0.0
    assert torch.equal(model.vectors(ARTIST)[5], model.artists[5])


def test_a_log_without_any_noise_leaves_the_least(moments: Moments) -> None:
    model, exact = deepcopy(WORLD.model), deepcopy(moments)
    exact.squares = 0.0
    maximise(model, exact, ARTIST, 60, Settings(least_noise=0.25))
    assert model.noise == 0.25


def test_a_smaller_scale_holds_tracks_closer_to_their_artist(moments: Moments) -> None:
    lengths = []
    for scale in (0.02, 0.2, 2.0):
        model = deepcopy(WORLD.model)
        maximise(model, moments, ARTIST, 60, Settings(track_scale=scale))
        lengths.append(float(model.deviations.norm()))
    assert lengths == sorted(lengths)
    assert lengths[0] < 0.1 * lengths[2]
