"""The driver in process, against sessions played by hand."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from precompute.simulation.batch import PolicyError, play, simulate
from precompute.simulation.generate import generate
from precompute.simulation.listener import begin, budget_draws
from precompute.simulation.policies import Oracle, RandomTracks, TasteMix
from precompute.simulation.world import World

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def world() -> World:
    return generate(600, 300, seed=8)


class Stride:
    """The track a fixed distance on: deterministic, and never the same twice in a row."""

    def __init__(self, size: int) -> None:
        self.size = size

    def start(self, users: Array, tracks: Array) -> None: ...

    def next(self, sessions: Array, tracks: Array, times: Array) -> Array:
        return (tracks + 7) % self.size


class Same:
    """Whatever was just heard, again."""

    def start(self, users: Array, tracks: Array) -> None: ...

    def next(self, sessions: Array, tracks: Array, times: Array) -> Array:
        return tracks


def by_hand(world: World, row: int, seed: int, cap: int) -> list[tuple[int, float]]:
    """One session of `Stride`, as issue 3 words it."""
    plan = begin(world, np.array([row]), np.array([0]), seed)
    people, catalogue = world.listeners, world.catalogue
    taste = world.embeddings[plan.interests[0]].astype(np.float64)
    heard = [(int(plan.first[0]), 1.0)]
    budget = 5
    for step in range(cap):
        track = (heard[-1][0] + 7) % len(catalogue)
        plays = sum(catalogue.artist[t] == catalogue.artist[track] for t, _ in heard)
        margin = float(world.embeddings[track].astype(np.float64) @ taste) - people.bias[row]
        time = round(0.8**plays / (1.0 + np.exp(-margin * people.sharpness[row])), 2)
        if track in [t for t, _ in heard]:
            time = 0.0
        heard.append((track, time))
        budget -= float(budget_draws(plan.keys, step)[0]) >= time
        if budget == 0:
            break
    return heard


def test_sessions_are_those_of_the_model(world: World) -> None:
    plays = simulate(world, Stride(600), seed=3, max_steps=40)
    for row in range(60):
        expected = by_hand(world, row, seed=3, cap=40)
        length = int(plays.lengths[row])
        assert plays.tracks[row, :length].tolist() == [track for track, _ in expected]
        np.testing.assert_allclose(
            plays.times[row, :length], [time for _, time in expected], atol=0.0101
        )
        assert plays.session_times[row] == pytest.approx(sum(t for _, t in expected), abs=0.02)


def test_hearing_the_same_again_costs_the_whole_budget(world: World) -> None:
    plays = simulate(world, Same(), seed=3)
    assert set(plays.lengths) == {6}  # the first track, and five times nothing
    assert set(plays.session_times) == {1.0}


def test_the_cap_ends_endless_sessions(world: World) -> None:
    plays = simulate(world, Oracle(world, 4), seed=3, max_steps=4)
    assert plays.tracks.shape[1] == 5
    assert (plays.lengths == 5).mean() > 0.5


def test_blocks_and_company_change_nothing(world: World) -> None:
    together = simulate(world, Stride(600), seed=1, sessions=2)
    apart = simulate(world, Stride(600), seed=1, sessions=2, block=37)
    np.testing.assert_array_equal(together.tracks, apart.tracks)
    np.testing.assert_array_equal(together.times, apart.times)
    few = simulate(world, Stride(600), seed=1, listeners=np.array([5, 200]))
    width = few.tracks.shape[1]
    np.testing.assert_array_equal(few.tracks, together.tracks[[5, 200], :width])


def test_progress_is_told(world: World) -> None:
    told: list[int] = []
    simulate(world, Same(), seed=1, block=100, progress=told.append)
    assert told == [100, 200, 300]


class Wrong(Same):
    def __init__(self, answer: Array) -> None:
        self.answer = answer

    def next(self, sessions: Array, tracks: Array, times: Array) -> Array:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        np.full(300, 600),
        np.full(300, -1),
        np.zeros(299, dtype=np.int64),
        np.zeros(300),
    ],
)
def test_policies_that_answer_nonsense_are_refused(world: World, answer: Array) -> None:
    with pytest.raises(PolicyError):
        simulate(world, Wrong(answer), seed=1)


def greedy_by_hand(world: World, row: int, seed: int, steps: int) -> list[int]:
    """The first picks of the greedy oracle, from the whole matrix of scores."""
    plan = begin(world, np.array([row]), np.array([0]), seed)
    artist = world.catalogue.artist
    margin = world.embeddings @ world.embeddings[plan.interests[0]] - world.listeners.bias[row]
    worth = 1.0 / (1.0 + np.exp(-margin.astype(np.float64) * world.listeners.sharpness[row]))
    heard = [int(plan.first[0])]
    for _ in range(steps):
        plays = np.bincount(artist[heard], minlength=len(world.catalogue.artist_names))[artist]
        value = worth * 0.8**plays
        value[heard] = -1.0
        heard.append(int(value.argmax()))
    return heard


def test_oracle_is_greedy_on_the_truth(world: World) -> None:
    plays = simulate(world, Oracle(world, 300), seed=2)
    for row in range(0, 300, 10):
        length = int(plays.lengths[row])
        expected = greedy_by_hand(world, row, seed=2, steps=length - 1)
        assert plays.tracks[row, :length].tolist() == expected


def test_oracle_never_repeats_and_beats_the_others(world: World) -> None:
    best = simulate(world, Oracle(world, 300), seed=2)
    for row in range(300):
        heard = best.tracks[row, : best.lengths[row]]
        assert len(set(heard.tolist())) == len(heard)
    middle = simulate(world, TasteMix(world, 1, near=30), seed=2)
    floor = simulate(world, RandomTracks(world, 1), seed=2)
    means = [plays.session_times.mean() for plays in (floor, middle, best)]
    assert means[0] * 1.15 < means[1] < means[2] / 1.5


def test_oracle_survives_hearing_everything() -> None:
    world = generate(100, 50, seed=1, random_time=2.5)
    plan = begin(world, np.arange(50), np.zeros(50, dtype=np.int64), 0)
    plays = play(world, Oracle(world, 300), plan)
    assert plays.lengths.max() <= 301
