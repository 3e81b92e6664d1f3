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
