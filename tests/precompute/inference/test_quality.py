"""What is foreseen of sessions that a model was not fitted to."""

from dataclasses import replace

import numpy as np
import pytest

from precompute.inference.quality import assess, sample
from recsvc.taste import SessionModel, predict, prior, update
from tests.precompute.inference.planted import arrange, plant, serving

WORLD = plant(300, 12, seed=6)
PERFECT = serving(WORLD)


def blind(model: SessionModel) -> SessionModel:
    """The same model, to which all tracks are alike and nothing is news."""
    return replace(
        model,
        vectors=np.zeros_like(model.vectors),
        opening=np.zeros_like(model.opening),
        spread=np.eye(len(model.spread)) * 1e-6,
        discount=1.0,
    )


def test_the_true_model_foresees_better_than_a_constant() -> None:
    found = assess(PERFECT, WORLD.observe())
    assert found is not None
    assert found.rows == len(WORLD.observe())
    assert found.mse < 0.6 * found.constant_mse
    assert found.log_loss < found.constant_log_loss - 0.05
    assert found.metrics()["calibration_error"] < 0.06


def test_a_model_that_knows_nothing_does_not() -> None:
    found = assess(blind(PERFECT), WORLD.observe())
    assert found is not None
    assert found.mse >= found.constant_mse
    assert found.log_loss >= found.constant_log_loss
    foreseen = [one for one, _ in found.calibration]
    assert foreseen == pytest.approx([0.5] * 10, abs=0.01)


def test_by_hand() -> None:
    tracks, times = [[0, 5, 9], [3, 23]], [[0.9, 0.2, 0.6], [0.4, 1.0]]
    observed = replace(WORLD, sessions=arrange(tracks, times)).observe()
    foreseen = []
    for session, heard in zip(tracks, times, strict=True):
        belief = prior(PERFECT, session[0], heard[0])
        for track, time in zip(session[1:], heard[1:], strict=True):
            # Track 23 is of the artist of track 3.
            plays = int(track == 23)
            expected, _, _ = predict(PERFECT, belief, PERFECT.places[[track]])
            foreseen.append(float(expected[0]) * 0.8**plays)
            belief = update(PERFECT, belief, track, time, plays)
    came = np.array([0.2, 0.6, 1.0])
    found = assess(PERFECT, observed)
    assert found is not None
    assert (found.rows, len(found.calibration)) == (3, 3)
    assert found.mse == pytest.approx(np.mean((came - foreseen) ** 2), abs=1e-5)
    assert found.constant_mse == pytest.approx(came.var())
    losses = -(came * np.log(foreseen) + (1 - came) * np.log1p(-np.array(foreseen)))
    assert found.log_loss == pytest.approx(losses.mean(), abs=1e-4)
    told = sorted(zip(foreseen, came.tolist(), strict=True))
    np.testing.assert_allclose(found.calibration, told, atol=1e-5)


def test_a_thousand_of_the_valid_sessions_are_kept_by_seed() -> None:
    valid = np.arange(3000) >= 1500
    one, same, other = (sample(valid, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert one.sum() == other.sum() == 1000
    assert not one[~valid].any()
    few = np.arange(3000) % 100 == 0
    assert (sample(few, seed=0) == few).all()


def test_of_no_session_nothing_can_be_said() -> None:
    observed = WORLD.observe()
    assert assess(PERFECT, observed.among(np.zeros(300, dtype=bool))) is None


def test_very_long_sessions_do_not_outweigh_the_others() -> None:
    tracks = [list(range(100))]
    long = replace(WORLD, sessions=arrange(tracks, [[0.5] * 100])).observe()
    found = assess(PERFECT, long)
    assert found is not None
    assert found.rows == 60
