"""The fit on sessions of a planted model: it finds it, and every pass explains them better."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from precompute.inference.fit import improve
from precompute.inference.parameters import Parameters, Settings
from precompute.inference.start import start
from recsvc.taste import logit_of, predict, prior, update
from tests.precompute.inference.planted import Array, World, plant, serving

SETTINGS = Settings(dimensions=3, least_noise=0.02)
WORLD = plant(1500, 12, seed=3)
HELD = np.arange(1500) >= 1350


def begin(world: World) -> Parameters:
    observed = world.observe()
    return start(observed.among(~HELD), world.artist, 20, SETTINGS, seed=0)


@pytest.fixture(scope="module")
def fitted() -> Parameters:
    model = begin(WORLD)
    improve(model, WORLD.observe().among(~HELD), WORLD.artist, 8, SETTINGS)
    return model


def foreseen(model: Parameters) -> tuple[Array, Array]:
    """Of held-out sessions: the logits foreseen of what comes after 8 tracks, and the true ones."""
    world = World(model, WORLD.catalogue, WORLD.sessions, WORLD.states)
    served, observed = serving(world), WORLD.observe()
    found, true = [], []
    for s in np.flatnonzero(HELD).tolist():
        rows = np.flatnonzero(observed.session == s)
        belief = prior(served, int(observed.first[s]), float(observed.first_time[s]))
        for i in rows[:8].tolist():
            report = (int(observed.track[i]), float(observed.time[i]), int(observed.plays[i]))
            belief = update(served, belief, *report)
        later = observed.track[rows[8:]]
        found.append(predict(served, belief, served.places[later])[1])
        true.append(WORLD.logits(np.full(len(later), s), later))
    return np.concatenate(found), np.concatenate(true)


def test_it_finds_the_planted_model(fitted: Parameters) -> None:
    found, true = foreseen(fitted)
    best, _ = foreseen(WORLD.model)
    share = np.corrcoef(found, true)[0, 1] / np.corrcoef(best, true)[0, 1]
    assert share > 0.95
    assert np.mean((found - true) ** 2) < 0.4 * true.var()
    assert fitted.noise == pytest.approx(WORLD.model.noise, rel=0.5)
    assert fitted.discount == pytest.approx(WORLD.model.discount, abs=0.05)


def test_the_start_alone_does_not(fitted: Parameters) -> None:
    found, true = foreseen(begin(WORLD))
    better, _ = foreseen(fitted)
    assert np.mean((better - true) ** 2) < 0.7 * np.mean((found - true) ** 2)


def likelihood(model: Parameters) -> float:
    """Log density of the held-out sessions' logits, mean over sessions; bounds left out."""
    observed = WORLD.observe()
    x = model.directions(torch.from_numpy(WORLD.artist)).double().numpy()
    opening, spread = model.opening.double().numpy(), model.spread.double().numpy()
    total = 0.0
    for s in np.flatnonzero(HELD).tolist():
        told = []
        for i in np.flatnonzero(observed.session == s).tolist():
            share = WORLD.model.discount ** int(observed.plays[i])
            logit, rounding, side = logit_of(float(observed.time[i]), share)
            if not side:
                told.append((int(observed.track[i]), logit, rounding))
        tracks = [t for t, _, _ in told]
        f = x[observed.first[s]] * float(observed.first_time[s])
        f[-1] = 1.0
        error = np.array([y for _, y, _ in told]) - x[tracks] @ opening @ f
        error -= model.offsets.double().numpy()[tracks]
        covariance = x[tracks] @ spread @ x[tracks].T + model.noise * np.eye(len(told))
        covariance += np.diag([r for _, _, r in told])
        _, size = np.linalg.slogdet(covariance)
        total -= 0.5 * (error @ np.linalg.solve(covariance, error) + size)
    return float(total / HELD.sum())


def test_every_pass_explains_held_out_sessions_better() -> None:
    model, observed = begin(WORLD), WORLD.observe().among(~HELD)
    found = [likelihood(model)]
    for _ in range(4):
        improve(model, observed, WORLD.artist, 1, SETTINGS)
        found.append(likelihood(model))
    assert found == sorted(found)
    assert found[-1] > found[0] + 1.0
    assert likelihood(WORLD.model) > found[-1]  # and none of them better than the truth


def test_momentum_spares_a_third_of_the_passes() -> None:
    found = {}
    for momentum, passes in ((0.0, 12), (0.9, 8)):
        model = begin(WORLD)
        settings = replace(SETTINGS, momentum=momentum)
        improve(model, WORLD.observe().among(~HELD), WORLD.artist, passes, settings)
        found[momentum] = likelihood(model)
    assert found[0.9] > found[0.0]


def test_momentum_does_not_carry_past_what_explains_them_best() -> None:
    """Many passes with and without it end at the same vectors, up to their last creeping."""
    few = plant(200, 10, artists=5, tracks=30, seed=5)
    found = []
    for momentum in (0.0, 0.9):
        model = start(few.observe(), few.artist, 5, SETTINGS, seed=0)
        improve(model, few.observe(), few.artist, 150, replace(SETTINGS, momentum=momentum))
        x = model.directions(torch.from_numpy(few.artist)).double().numpy()
        found.append(x @ model.spread.double().numpy() @ x.T)  # whatever way the axes turn
        assert np.isfinite(found[-1]).all()
    change = np.abs(found[1] - found[0]).max() / np.abs(found[0]).max()
    assert change < 0.1


def test_progress_is_told_in_sessions() -> None:
    told: list[int] = []
    few = plant(50, 6, seed=4)
    settings = Settings(dimensions=3, interests_at_once=20)
    model = start(few.observe(), few.artist, 20, settings, seed=0)
    improve(model, few.observe(), few.artist, 2, settings, told.append)
    assert told == [20, 20, 10, 20, 20, 10]
