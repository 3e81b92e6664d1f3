"""What a session is after: the posterior against integrals, sums in batch, and its own law."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, ndtr
from scipy.stats import chi2, truncnorm

from recsvc.taste import LEAST, MOST, Belief, SessionModel, logit_of, predict, prior, update
from tests.inferring import Array, hear, random_model

ROUNDING = 0.01**2 / 12.0
NARROW = random_model(6, 1, spread=np.array([[1.5, 0.3], [0.3, 2.0]]))
MODEL = random_model(40, 4, noise=0.3)

# --- exact times: a Gaussian posterior -----------------------------------------------------------


def observed(model: SessionModel, row: int, time: float, plays: int) -> tuple[Array, float, float]:
    """The direction, the logit less the offset, and its variance, written out by hand."""
    share = model.discount**plays
    fraction = time / share
    variance = model.noise + ROUNDING / (share * fraction * (1.0 - fraction)) ** 2
    return model.direction(row), math.log(fraction / (1.0 - fraction)) - model.offset(row), variance


def moments_on_grid(belief: Belief, likelihood: list[tuple[Array, float, float, int]]) -> Belief:
    """Mean and covariance of (taste, mood) by summing the density over a fine grid.

    Of each observation: the direction, the logit, its variance, and the side as `logit_of` has it.
    """
    axis = np.linspace(-14.0, 14.0, 701)
    states = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    apart = states - belief.mean
    log = -0.5 * np.einsum("si,ij,sj->s", apart, np.linalg.inv(belief.covariance), apart)
    for direction, logit, variance, side in likelihood:
        z = (logit - states @ direction) / math.sqrt(variance)
        log += np.log(np.maximum(ndtr(-side * z), 1e-300)) if side else -0.5 * z * z
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = weight @ states
    return Belief(mean, np.cov(states.T, aweights=weight, bias=True))


def assert_same(one: Belief, other: Belief, tolerance: float) -> None:
    np.testing.assert_allclose(one.mean, other.mean, atol=tolerance)
    np.testing.assert_allclose(one.covariance, other.covariance, atol=tolerance)


def test_the_posterior_of_exact_times_is_that_of_a_grid() -> None:
    belief = start = prior(NARROW, 0, 0.8)
    heard = [(1, 0.55, 0), (2, 0.12, 0), (3, 0.3, 2)]
    for row, time, plays in heard:
        belief = update(NARROW, belief, row, time, plays)
    told = [(*observed(NARROW, *one), 0) for one in heard]
    assert_same(belief, moments_on_grid(start, told), 1e-6)


@pytest.mark.parametrize(("time", "plays", "side"), [(0.0, 0, -1), (1.0, 0, 1), (0.8, 1, 1)])
@pytest.mark.parametrize("row", range(1, 6))
def test_the_posterior_of_a_bound_is_that_of_a_grid(
    row: int, time: float, plays: int, side: int
) -> None:
    start = update(NARROW, prior(NARROW, 0, 0.8), 2, 0.4, 0)
    bound = LEAST if side < 0 else MOST
    share = NARROW.discount**plays
    variance = NARROW.noise + ROUNDING / (share * bound * (1.0 - bound)) ** 2
    logit = math.log(bound / (1.0 - bound)) - NARROW.offset(row)
    told = [(NARROW.direction(row), logit, variance, side)]
    assert_same(update(NARROW, start, row, time, plays), moments_on_grid(start, told), 1e-4)


@pytest.mark.parametrize("mood", [-12.0, -6.0, -5.3, 0.0, 5.0, 9.0])
@pytest.mark.parametrize(("time", "side"), [(0.0, -1), (1.0, 1)])
def test_what_a_bound_says_of_the_logit_is_a_truncated_gaussian(
    mood: float, time: float, side: int
) -> None:
    """Compared for the logit with its noise, whose law has a closed form."""
    start = Belief(np.array([0.0, mood]), np.diag([0.7, 1.3]))
    x = NARROW.direction(1)
    bound, rounding, found = logit_of(time, 1.0)
    assert found == side
    variance = x @ start.covariance @ x + NARROW.noise + rounding
    middle, deviation = start.mean @ x + NARROW.offset(1), math.sqrt(variance)
    edges = (-np.inf, bound) if side < 0 else (bound, np.inf)
    law = truncnorm(*((np.array(edges) - middle) / deviation), middle, deviation)
    after = update(NARROW, start, 1, time, 0)
    gain = start.covariance @ x / variance  # of the state on the logit
    np.testing.assert_allclose(after.mean, start.mean + gain * (law.mean() - middle), atol=1e-5)
    expected = start.covariance - np.outer(gain, gain) * (variance - law.var())
    np.testing.assert_allclose(after.covariance, expected, atol=1e-5)


def test_what_was_expected_to_fail_and_failed_teaches_nothing() -> None:
    start = Belief(np.array([0.0, -25.0]), np.eye(2))
    assert_same(update(NARROW, start, 1, 0.0, 0), start, 1e-9)
    liked = update(NARROW, Belief(np.array([0.0, 6.0]), np.eye(2)), 1, 0.0, 0)
    assert liked.mean[1] < 5.0


EXACT = st.tuples(
    st.integers(0, 39), st.floats(0.02, 0.6).map(lambda time: round(time, 2)), st.integers(0, 2)
)


@settings(max_examples=60, deadline=None)
@given(heard=st.lists(EXACT, min_size=1, max_size=30), seed=st.integers(0, 1000))
def test_exact_times_say_the_same_in_any_order_and_all_at_once(
    heard: list[tuple[int, float, int]], seed: int
) -> None:
    start = prior(MODEL, 0, 0.9)
    precision, pull = np.linalg.inv(start.covariance), np.linalg.solve(start.covariance, start.mean)
    for one in heard:
        x, logit, variance = observed(MODEL, *one)
        precision = precision + np.outer(x, x) / variance
        pull = pull + x * logit / variance
    ridge = Belief(np.linalg.solve(precision, pull), np.linalg.inv(precision))
    shuffled = np.random.default_rng(seed).permutation(len(heard))
    for order in (range(len(heard)), shuffled.tolist()):
        belief = start
        for i in order:
            belief = update(MODEL, belief, *heard[i])
        assert_same(belief, ridge, 1e-8)


# --- it never breaks -----------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    heard=st.lists(
        st.tuples(
            st.integers(0, 39),
            st.one_of(st.sampled_from([0.0, 0.004, 0.005, 0.995, 1.0]), st.floats(0.0, 1.0)),
            st.one_of(st.integers(0, 3), st.sampled_from([20, 300, 100_000])),
        ),
        max_size=60,
    ),
    discount=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    first=st.one_of(st.none(), st.integers(0, 39)),
    time=st.floats(0.0, 1.0),
)
def test_nothing_heard_makes_it_anything_but_a_gaussian(
    heard: list[tuple[int, float, int]], discount: float, first: int | None, time: float
) -> None:
    model = random_model(40, 4, noise=0.02, discount=discount)
    belief = prior(model, first, time)
    for one in heard:
        belief = update(model, belief, *one)
    assert np.isfinite(belief.mean).all()
    assert np.linalg.eigvalsh(belief.covariance)[0] > 0
    for found in predict(model, belief, model.places):
        assert np.isfinite(found).all()


def test_the_covariance_stays_one_over_hundreds_of_tracks() -> None:
    rng = np.random.default_rng(5)
    model = random_model(400, 16, noise=0.02)
    belief = prior(model, 0, 1.0)
    before = np.linalg.eigvalsh(belief.covariance)
    for row in range(1, 400):
        belief = update(model, belief, row, round(rng.random(), 2), row % 3)
        np.testing.assert_allclose(belief.covariance, belief.covariance.T, atol=1e-12)
        now = np.linalg.eigvalsh(belief.covariance)
        assert now[0] > 0
        assert (now <= before + 1e-9).all()  # a track heard never makes it less sure
        before = now


def test_without_a_share_left_a_further_play_says_nothing() -> None:
    model = random_model(discount=0.0)
    start = prior(model, 0, 0.5)
    assert update(model, start, 1, 0.3, 1) is start
    assert update(model, start, 1, 0.3, 0) is not start


# --- what it promises ----------------------------------------------------------------------------


def test_its_ellipsoids_hold_what_they_promise() -> None:
    """Sessions drawn from the model itself: 50%, 80% and 95% of the states lie inside."""
    rng, inside = np.random.default_rng(3), []
    for _ in range(500):
        first, time = int(rng.integers(40)), round(rng.random(), 2)
        belief = prior(MODEL, first, time)
        state = rng.multivariate_normal(belief.mean, belief.covariance)
        for row in rng.permutation(40)[:20].tolist():
            plays = int(rng.integers(3))
            belief = update(MODEL, belief, row, hear(MODEL, state, row, plays, rng), plays)
        apart = state - belief.mean
        inside.append(chi2.cdf(apart @ np.linalg.solve(belief.covariance, apart), len(apart)))
    for share in (0.5, 0.8, 0.95):
        held = np.mean(np.array(inside) <= share)
        assert abs(held - share) < 3.5 * math.sqrt(share * (1 - share) / len(inside)), share


def test_predictions_are_those_of_many_draws() -> None:
    rng = np.random.default_rng(7)
    belief = update(MODEL, prior(MODEL, 3, 0.9), 5, 0.6, 0)
    places = MODEL.places[[0, 11, 25, 39]]
    times, logits, deviations = predict(MODEL, belief, places)
    states = rng.multivariate_normal(belief.mean, belief.covariance, 100_000)
    for i, row in enumerate((0, 11, 25, 39)):
        drawn = states @ MODEL.direction(row) + MODEL.offset(row)
        drawn += rng.normal(0.0, math.sqrt(MODEL.noise), len(drawn))
        assert drawn.mean() == pytest.approx(logits[i], abs=0.03)
        assert drawn.std() == pytest.approx(deviations[i], abs=0.03)
        assert expit(drawn).mean() == pytest.approx(times[i], abs=0.015)


def test_the_first_track_sets_the_mean_and_nothing_else() -> None:
    one, none = prior(MODEL, 7, 0.6), prior(MODEL, None, 0.6)
    expected = MODEL.opening @ np.append(0.6 * MODEL.direction(7)[:-1], 1.0)
    np.testing.assert_allclose(one.mean, expected)
    np.testing.assert_allclose(none.mean, MODEL.opening[:, -1])
    assert (one.covariance == none.covariance).all()


# --- a belief that is none -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_belief_of_no_sense_is_computed_with_in_silence(kind: type) -> None:
    k = len(MODEL.opening)
    for mean, covariance in ((np.inf, 1.0), (1.0, np.inf), (-np.inf, -np.inf)):
        nonsense = Belief(np.full(k, mean, kind), np.full((k, k), covariance, kind))
        times, _, _ = predict(MODEL, nonsense, np.arange(40))  # a warning would be an error here
        update(MODEL, nonsense, 3, 0.4, 1)
        assert not np.isfinite(times).all()
