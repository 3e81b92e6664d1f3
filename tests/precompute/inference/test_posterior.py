"""Posteriors against one dense solution at a time, of few rows and of many."""

import numpy as np
import pytest
import torch

from precompute.inference.posterior import Told, posteriors
from precompute.inference.sparse import Packed

K = 7


@pytest.mark.parametrize("most", [0, 1, 3, 4, 20])
def test_posteriors_are_those_of_dense_solutions(most: int) -> None:
    """Interests of up to so many rows; twice as many as `K` / 2 take another way."""
    rng = np.random.default_rng(most)
    counts = np.concatenate([[most], rng.integers(0, most + 1, 29)])
    interest = np.repeat(np.arange(30), counts)
    directions = rng.normal(size=(12, K))
    track = rng.integers(0, 12, len(interest))
    weight = rng.exponential(2.0, len(interest)) * (rng.random(len(interest)) < 0.7)
    y = rng.normal(size=len(interest))
    prior, root = rng.normal(size=(30, K)), rng.normal(size=(K, K))
    spread = root @ root.T + np.eye(K)
    told = Told(
        directions=torch.from_numpy(directions).float(),
        track=torch.from_numpy(track),
        interest=torch.from_numpy(interest),
        weight=torch.from_numpy(weight).float(),
        y=torch.from_numpy(y).float(),
    )
    mean, covariance = posteriors(
        told, torch.from_numpy(prior).float(), torch.from_numpy(spread).float(), Packed(K)
    )
    precision = np.linalg.inv(spread)
    for i in range(30):
        of = interest == i
        x, w = directions[track[of]], weight[of]
        expected = np.linalg.inv(precision + x.T @ (w[:, None] * x))
        np.testing.assert_allclose(covariance[i], expected, atol=1e-3)
        pull = precision @ prior[i] + x.T @ (w * y[of])
        np.testing.assert_allclose(mean[i], expected @ pull, atol=2e-3)


@pytest.mark.parametrize("seed", range(6))
def test_tastes_may_vary_far_more_in_one_direction_than_in_another(seed: int) -> None:
    """Of an interest that nothing is known of, next to one that much is known of."""
    rng, k, widest = np.random.default_rng(seed), 49, 1e5
    turn, _ = np.linalg.qr(rng.normal(size=(k, k)))
    spread = turn @ np.diag(np.append(rng.uniform(0.15, 2.0, k - 1), widest)) @ turn.T
    directions = rng.normal(0.0, 0.3, (50, k))
    told = Told(
        directions=torch.from_numpy(directions).float(),
        track=torch.arange(50),
        interest=torch.zeros(50, dtype=torch.int64),
        weight=torch.full((50,), 2.0),
        y=torch.zeros(50),
    )
    _, covariance = posteriors(told, torch.zeros(2, k), torch.from_numpy(spread).float(), Packed(k))
    for found, x in zip(covariance, (directions, directions[:0]), strict=True):
        expected = np.linalg.inv(np.linalg.inv(spread) + 2.0 * x.T @ x)
        np.testing.assert_allclose(found, expected, atol=0.02 * np.diag(expected).max())
        np.testing.assert_allclose(found, found.mT, atol=1e-6 * np.diag(expected).max())
        assert np.linalg.eigvalsh(found.double())[0] > 0
