"""The listener model against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from precompute.simulation.generate import generate
from precompute.simulation.listener import (
    begin,
    budget_draws,
    heard_time,
    nearest,
    session_keys,
    uniform,
)


@pytest.mark.parametrize(
    ("liking", "bias", "sharpness", "plays", "repeat", "expected"),
    [
        (5.0, 5.0, 1.0, 0, False, 0.5),
        (5.0, 5.0, 1.0, 2, False, 0.32),  # 0.5 * 0.8 ** 2
        (6.0, 5.0, 2.0, 0, False, 0.88),  # 1 / (1 + e ** -2) = 0.8808
        (6.0, 5.0, 2.0, 1, False, 0.7),  # 0.7046
        (6.0, 5.0, 2.0, 1, True, 0.0),
        (-1e9, 5.0, 2.0, 0, False, 0.0),
        (1e9, 5.0, 2.0, 0, False, 1.0),
    ],
)
def test_time_heard_by_hand(
    liking: float, bias: float, sharpness: float, plays: int, repeat: bool, expected: float
) -> None:
    time = heard_time(liking, bias, sharpness, 0.8, plays=plays, repeat=repeat)
    assert float(time) == pytest.approx(expected, abs=1e-12)


@given(
    st.floats(-50, 50),
    st.floats(0, 10),
    st.floats(0.5, 2),
    st.floats(0, 1),
    st.integers(0, 20),
)
def test_time_is_the_formula_in_steps_of_a_hundredth(
    liking: float, bias: float, sharpness: float, gamma: float, plays: int
) -> None:
    time = float(heard_time(liking, bias, sharpness, gamma, plays=plays, repeat=False))
    exact = gamma**plays / (1.0 + math.exp(-(liking - bias) * sharpness))
    assert 0.0 <= time <= 1.0
    assert abs(time - exact) <= 0.005 + 1e-9
    assert time * 100 == pytest.approx(round(time * 100), abs=1e-9)


def test_one_number_and_an_array_give_the_same() -> None:
    rng = np.random.default_rng(0)
    liking, bias = rng.normal(5, 4, 500), rng.uniform(0, 10, 500)
    plays, repeat = rng.integers(0, 4, 500), rng.random(500) < 0.2
    many = heard_time(liking, bias, 1.3, 0.8, plays=plays, repeat=repeat)
    for row in range(500):
        one = heard_time(
            float(liking[row]),
            float(bias[row]),
            1.3,
            0.8,
            plays=int(plays[row]),
            repeat=bool(repeat[row]),
        )
        assert float(one) == many[row]


def test_nearest_is_exact() -> None:
    rng = np.random.default_rng(1)
    for n in (7, 64, 65, 1000):
        embeddings = rng.standard_normal((n, 5)).astype(np.float32)
        queries = rng.integers(n, size=20)
        count = min(10, n)
        found = np.sort(nearest(embeddings, queries, count), axis=1)
        scores = embeddings[queries] @ embeddings.T
        expected = np.sort(np.argsort(-scores, axis=1)[:, :count], axis=1)
        np.testing.assert_array_equal(found, expected)


def test_sessions_begin_near_an_interest_of_the_listener() -> None:
    world = generate(500, 200, seed=3)
    listeners = np.repeat(np.arange(200), 5)
    plan = begin(world, listeners, np.tile(np.arange(5), 200), seed=9)
    assert (world.listeners.interests[listeners] == plan.interests[:, None]).any(axis=1).all()
    scores = world.embeddings[plan.interests] @ world.embeddings.T
    tenth = np.sort(scores, axis=1)[:, -10]
    assert (scores[np.arange(len(plan)), plan.first] >= tenth - 1e-4).all()
    # All three interests, and more than the nearest track alone, get their turn.
    assert len(np.unique(plan.interests[:5])) > 1 or len(np.unique(plan.interests)) > 300
    assert len(np.unique(plan.first)) > 200


def test_chance_depends_on_seed_listener_and_session_alone() -> None:
    world = generate(300, 50, seed=3)
    both = begin(world, np.array([4, 17]), np.array([0, 2]), seed=5)
    alone = begin(world, np.array([17]), np.array([2]), seed=5)
    assert alone.keys[0] == both.keys[1]
    assert (alone.interests[0], alone.first[0]) == (both.interests[1], both.first[1])
    keys = {
        int(session_keys(seed, np.array([user]), np.array([number]))[0])
        for seed in (0, 1)
        for user in (0, 1, 2**62)
        for number in (0, 1)
    }
    assert len(keys) == 12


def test_draws_are_uniform_and_independent() -> None:
    keys = session_keys(7, np.arange(4000), np.zeros(4000, dtype=np.int64))
    draws = np.stack([budget_draws(keys, step) for step in range(10)])
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert draws.mean() == pytest.approx(0.5, abs=0.006)  # 4 standard errors
    assert np.abs(np.corrcoef(draws) - np.eye(10)).max() < 0.07
    np.testing.assert_array_equal(uniform(keys[3], np.arange(10) + 2), draws[:, 3])
