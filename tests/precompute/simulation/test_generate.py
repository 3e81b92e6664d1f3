"""Generated worlds are calibrated, structured, and the same for the same seed."""

import numpy as np
import pytest

from precompute.simulation.batch import simulate
from precompute.simulation.generate import FAMILIES, expected_random_time, generate
from precompute.simulation.policies import RandomTracks
from precompute.simulation.world import World, WorldError


@pytest.fixture(scope="module", params=FAMILIES)
def world(request: pytest.FixtureRequest) -> World:
    return generate(3000, 4000, family=request.param, seed=1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tracks", [300, 3000, 20_000])
def test_random_session_is_as_long_as_it_should_be(family: str, tracks: int) -> None:
    world = generate(tracks, 3000, family=family, seed=4)
    plays = simulate(world, RandomTracks(world, 0), seed=0)
    assert 1.3 <= plays.session_times.mean() <= 2.6


def test_calibration_goes_where_it_is_told() -> None:
    for wanted in (1.6, 2.4):
        world = generate(2000, 6000, seed=4, random_time=wanted)
        plays = simulate(world, RandomTracks(world, 0), seed=0)
        assert plays.session_times.mean() == pytest.approx(wanted, abs=0.15)


def test_interests_are_liked_and_most_tracks_are_not(world: World) -> None:
    people = world.listeners
    tastes = world.embeddings[people.interests[:, 0]]
    own = np.vecdot(tastes, tastes)
    others = tastes[:500] @ world.embeddings.T
    assert (own > people.bias).mean() > 0.75
    assert (others > people.bias[:500, None]).mean() < 0.12


def test_traits_have_the_real_ranges(world: World) -> None:
    people = world.listeners
    assert people.interests.shape == (4000, 3)
    assert people.bias.min() >= 0.0
    assert people.bias.max() <= 10.0
    assert people.bias.mean() == pytest.approx(5.0, abs=0.2)
    assert people.sharpness.min() >= 0.5
    assert people.sharpness.max() <= 2.0
    assert people.sharpness.mean() == pytest.approx(1.25, abs=0.03)
    assert set(people.budget) == {5}
    assert set(people.gamma) == {0.8}


def test_artists_have_several_tracks_that_are_alike(world: World) -> None:
    catalogue = world.catalogue
    assert len(set(catalogue.artist_names)) == len(catalogue.artist_names)
    assert 5 < len(catalogue) / len(catalogue.artist_names) < 20
    rng = np.random.default_rng(0)
    a = rng.integers(len(catalogue), size=200_000)
    b = rng.integers(len(catalogue), size=200_000)
    liking = np.vecdot(world.embeddings[a], world.embeddings[b])
    same = (catalogue.artist[a] == catalogue.artist[b]) & (a != b)
    assert liking[same].mean() > liking[~same].mean() + 3.0


def test_few_tracks_are_the_interest_of_many(world: World) -> None:
    counts = np.sort(np.bincount(world.listeners.interests.ravel(), minlength=3000))[::-1]
    assert counts[:300].sum() > 0.3 * counts.sum()


def test_families_differ_in_shape() -> None:
    clustered, smooth = (generate(2000, 10, family=f, seed=0) for f in ("genres", "smooth"))
    assert clustered.embeddings.shape[1] != smooth.embeddings.shape[1]

    def gap(world: World) -> float:
        """How empty the middle is between like and unlike: few pairs are half alike."""
        unit = world.embeddings / np.linalg.norm(world.embeddings, axis=1, keepdims=True)
        likeness = (unit[:500] @ unit.T).ravel()
        return float(((likeness > 0.3) & (likeness < 0.45)).mean() / (likeness > 0.45).mean())

    assert gap(clustered) < 0.5 < gap(smooth)


def test_same_seed_same_world() -> None:
    few, many = generate(400, 3, seed=6), generate(400, 500, seed=6)
    np.testing.assert_array_equal(few.embeddings, many.embeddings)
    first, again, other = (generate(400, 30, seed=seed) for seed in (6, 6, 7))
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    np.testing.assert_array_equal(first.listeners.interests, again.listeners.interests)
    assert first.catalogue.titles == again.catalogue.titles
    assert first.catalogue.titles != other.catalogue.titles


def test_nonsense_is_refused() -> None:
    with pytest.raises(WorldError, match="unknown family 'jazz'"):
        generate(1000, 10, family="jazz")
    with pytest.raises(WorldError, match="at least 100"):
        generate(10, 10)
    with pytest.raises(WorldError, match="no scale gives"):
        generate(1000, 10, random_time=1.0)


def test_expected_time_by_hand() -> None:
    # Half a track each time spends 5 in 10 tracks: 1 + 10 * 0.5. A sure liking meets the cap.
    half, sure = np.full((1, 4), 2.0), np.full((1, 4), 50.0)
    bias, sharpness, budget = np.array([2.0]), np.array([1.0]), np.array([5])
    assert expected_random_time(half, bias, sharpness, budget) == pytest.approx(6.0)
    assert expected_random_time(sure, bias, sharpness, budget) == pytest.approx(301.0)
