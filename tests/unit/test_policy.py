"""The rules, against tables worked out by hand and laws that must hold for all input."""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from recsvc.candidates import Candidates
from recsvc.policy import (
    CATALOGUE,
    CONTEXTUAL,
    OLDEST,
    PERSONAL,
    POPULAR,
    Plan,
    Pool,
    Routes,
    Sample,
    backfill_weights,
    draw,
    keep,
    probabilities,
    settle,
    softmax_weights,
    switch,
)
from tests.support import pool, three_pools


def heard(*tracks: int) -> Callable[[Sequence[int]], list[bool]]:
    return lambda asked: [track in tracks for track in asked]


@pytest.mark.parametrize(
    ("last", "time", "expected"),
    [
        (None, 0.0, CONTEXTUAL),
        (None, 1.0, CONTEXTUAL),
        (CONTEXTUAL, 0.0, PERSONAL),
        (CONTEXTUAL, 0.69, PERSONAL),
        (CONTEXTUAL, 0.7, CONTEXTUAL),
        (CONTEXTUAL, 1.0, CONTEXTUAL),
        (PERSONAL, 0.0, CONTEXTUAL),
        (PERSONAL, 0.69, CONTEXTUAL),
        (PERSONAL, 0.7, PERSONAL),
        (PERSONAL, 1.0, PERSONAL),
        (POPULAR, 0.1, CONTEXTUAL),
        (POPULAR, 0.9, CONTEXTUAL),
        (CATALOGUE, 0.1, CONTEXTUAL),
        (OLDEST, 0.9, CONTEXTUAL),
    ],
)
def test_switch_in_full(last: str | None, time: float, expected: str) -> None:
    assert switch(last, time) == expected


def test_switch_at_another_threshold() -> None:
    assert switch(CONTEXTUAL, 0.5, threshold=0.4) == CONTEXTUAL
    assert switch(PERSONAL, 0.3, threshold=0.4) == CONTEXTUAL


def test_keep_includes_the_threshold_and_never_a_nan() -> None:
    assert keep(np.array([0.49, 0.5, 0.9, np.nan])).tolist() == [False, True, True, False]


def test_softmax_of_those_that_stay() -> None:
    weights = softmax_weights(np.array([0.0, np.log(3.0), 5.0]), np.array([True, True, False]))
    assert weights == pytest.approx([0.25, 0.75, 0.0])


def test_softmax_rows_are_independent_and_one_may_keep_nothing() -> None:
    scores = np.array([[0.6, 0.6], [0.1, 0.2]])
    weights = softmax_weights(scores, keep(scores))
    assert weights.tolist() == [[0.5, 0.5], [0.0, 0.0]]


def test_a_low_temperature_sharpens() -> None:
    scores, kept = np.array([0.6, 0.9]), np.array([True, True])
    flat, sharp = softmax_weights(scores, kept), softmax_weights(scores, kept, 0.1)
    assert flat[1] / flat[0] == pytest.approx(np.exp(0.3))
    assert sharp[1] / sharp[0] == pytest.approx(np.exp(3.0))
    with pytest.raises(ValueError, match="temperature"):
        softmax_weights(scores, kept, 0.0)


def test_softmax_survives_scores_of_any_size() -> None:
    weights = softmax_weights(np.array([1e6, 1e6 - 1.0]), np.array([True, True]), 0.5)
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1.0)


def test_fillers_weigh_a_third_of_the_smallest_or_their_own_mean_time() -> None:
    times = np.array([0.4, 0.0])
    assert backfill_weights(np.array([0.6, 0.3]), times).tolist() == pytest.approx([0.1, 0.1])
    assert backfill_weights(np.array([]), times).tolist() == pytest.approx([0.4, 1e-3])


def test_the_planned_draw_is_taken_when_it_is_unheard() -> None:
    decision = settle(three_pools(pick=1), None, heard(), 0)
    assert decision is not None
    assert (decision.track, decision.recommender, decision.propensity) == (11, CONTEXTUAL, 0.75)
    assert not decision.fallback


def test_a_heard_draw_is_replaced_among_the_unheard() -> None:
    offered = pool(CONTEXTUAL, {1: 1.0, 2: 2.0, 3: 3.0, 4: 2.0}, pick=0, spare=0.5)
    decision = settle(Plan((offered,), Routes({None: (0,)})), None, heard(1), 0)
    # Unheard are 2, 3, 4 with weights 2, 3, 2: half of 7 falls into track 3.
    assert decision is not None
    assert (decision.track, decision.propensity) == (3, 3 / 7)


@pytest.mark.parametrize(
    ("last", "gone", "track", "recommender", "fallback"),
    [
        (None, (), 10, CONTEXTUAL, False),
        (PERSONAL, (), 20, PERSONAL, False),
        (PERSONAL, (20, 21), 10, CONTEXTUAL, True),
        (CONTEXTUAL, (10, 11), 20, PERSONAL, True),
        (CONTEXTUAL, (10, 11, 20, 21), 30, POPULAR, True),
        (POPULAR, (10,), 11, CONTEXTUAL, False),
    ],
)
def test_the_order_of_fallbacks(
    last: str | None, gone: tuple[int, ...], track: int, recommender: str, fallback: bool
) -> None:
    decision = settle(three_pools(), last, heard(*gone), 0)
    assert decision is not None
    assert (decision.track, decision.recommender) == (track, recommender)
    assert decision.fallback == fallback


def test_nothing_left_is_nothing() -> None:
    assert settle(three_pools(), None, heard(10, 11, 20, 21, 30, 31), 0) is None
    assert (
        settle(Plan((pool(POPULAR, {}, pick=-1),), Routes({None: (0,)})), None, heard(), 0) is None
    )


def test_without_memory_the_heard_stay() -> None:
    plan = Plan((pool(CONTEXTUAL, {1: 1.0, 2: 1.0}, memory=False),), Routes({None: (0,)}))
    decision = settle(plan, None, heard(1, 2), 2)
    assert decision is not None
    assert (decision.track, decision.propensity) == (1, 0.5)


def test_a_sample_gives_its_first_unheard_proposal() -> None:
    plan = Plan((Sample(CATALOGUE, [7, 8, 9], 10),), Routes({None: (0,)}))
    decision = settle(plan, None, heard(7), 4)
    assert decision is not None
    assert (decision.track, decision.propensity) == (8, 1 / 6)
    assert settle(plan, None, heard(7, 8, 9), 4) is None


weighted = st.dictionaries(st.integers(0, 50), st.floats(1e-3, 1e3), min_size=1, max_size=20)


@given(weighted, st.sets(st.integers(0, 50)), st.integers(0, 2**32))
def test_propensity_is_the_share_of_the_unheard_weight(
    weights: dict[int, float], gone: set[int], seed: int
) -> None:
    candidates = Candidates(list(weights), list(weights.values()))
    plan = Plan((Pool(POPULAR, candidates, draw(Random(seed))),), Routes({None: (0,)}))
    flags = [track in gone for track in weights]
    decision = settle(plan, None, heard(*gone), 0)
    if all(flags):
        assert decision is None
        return
    assert decision is not None
    assert decision.track not in gone
    chances = dict(zip(weights, probabilities(candidates, flags), strict=True))
    assert sum(chances.values()) == pytest.approx(1.0)
    assert decision.propensity == pytest.approx(chances[decision.track])


@given(weighted, st.integers(0, 2**32))
def test_the_same_seed_makes_the_same_draw(weights: dict[int, float], seed: int) -> None:
    candidates = Candidates(list(weights), list(weights.values()))
    assert draw(Random(seed)) == draw(Random(seed))
    assert 0 <= candidates.pick(draw(Random(seed)).chance) < len(candidates)


def test_the_ends_of_the_draw() -> None:
    candidates = Candidates([7, 8], [0.1, 0.2])
    assert candidates.pick(0.0) == 0
    assert candidates.pick(1.0 - 2**-53) == 1
    assert Candidates([], []).pick(0.5) == -1


@pytest.mark.parametrize("gone", [(), (3,), (1, 3), (0, 1, 2)])
def test_draws_are_as_frequent_as_their_propensities_say(gone: tuple[int, ...]) -> None:
    candidates = Candidates([0, 1, 2, 3, 4], [1.0, 2.0, 3.0, 10.0, 0.5])
    rng, rounds = Random(7), 20_000
    served: Counter[int] = Counter()
    for _ in range(rounds):
        plan = Plan((Pool(POPULAR, candidates, draw(rng)),), Routes({None: (0,)}))
        decision = settle(plan, None, heard(*gone), 0)
        assert decision is not None
        served[decision.track] += 1
    chances = probabilities(candidates, [track in gone for track in candidates.tracks])
    possible = [track for track, chance in enumerate(chances) if chance]
    assert set(served) == set(possible)
    observed = [served[track] for track in possible]
    assert chisquare(observed, [chances[track] * rounds for track in possible]).pvalue > 1e-4
