import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from precompute import neighbours
from precompute.neighbours import Neighbours, Settings
from precompute.popular import Statistics

Rows = list[list[tuple[int, float]]]


def build(
    scores: npt.ArrayLike,
    artist: list[int] | None = None,
    *,
    plays: list[int] | None = None,
    time: list[float] | None = None,
    options: Settings | None = None,
    seed: int = 0,
) -> Neighbours:
    """Build from a matrix of predicted times: `scores @ identity` is the matrix itself."""
    context = torch.tensor(np.asarray(scores), dtype=torch.float32)
    n = len(context)
    return neighbours.build(
        context,
        torch.eye(n),
        np.array(artist if artist is not None else range(n)),
        Statistics(
            np.array(plays or [1] * n), np.array(time or [0.5] * n, np.float32), np.zeros(n)
        ),
        options or Settings(),
        seed=seed,
    )


def rows(found: Neighbours) -> Rows:
    cut = found.offsets.tolist()
    return [
        list(zip(found.indices[a:b].tolist(), found.weights[a:b].tolist(), strict=True))
        for a, b in pairwise(cut)
    ]


def about(tracks: Iterable[int], weights: Iterable[float]) -> list[Any]:
    """Return a row to compare with, whose weights are right to a millionth."""
    return [(t, pytest.approx(w)) for t, w in zip(tracks, weights, strict=True)]


def check_rule(found: Neighbours, n: int) -> None:
    for track, row in enumerate(rows(found)):
        tracks = [t for t, _ in row]
        assert min(30, n - 1) <= len(row) <= 70
        assert track not in tracks
        assert len(set(tracks)) == len(tracks)
        assert all(w > 0 for _, w in row)
        assert row == sorted(row, key=lambda entry: (-entry[1], entry[0]))


def test_step_1_takes_the_70_best_others_by_predicted_time() -> None:
    n = 100
    falling = np.tile(1 - np.arange(n) / 1000, (n, 1))  # all at least 0.9
    found = rows(build(falling))
    assert [t for t, _ in found[99]] == list(range(70))
    assert [t for t, _ in found[0]] == list(range(1, 71))


def test_step_1_breaks_ties_by_the_lower_index() -> None:
    found = rows(build(np.full((80, 80), 0.75)))
    assert [t for t, _ in found[3]] == [0, 1, 2, *range(4, 71)]


def test_the_top_is_kept_as_step_1_found_it_when_asked() -> None:
    scores = np.tile(0.1 - np.arange(80) / 1000, (80, 1))  # none would stay
    found = build(scores)
    assert found.top.reshape(80, 70)[79].tolist() == list(range(70))
    weights = found.top_weights.reshape(80, 70)[79]
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert weights[0] / weights[69] == pytest.approx(math.exp(0.069), rel=1e-4)
    assert build(scores, options=Settings(keep_top=False)).top.size == 0
    assert build([[0.5]]).top.size == 0


def test_step_2_keeps_what_is_exactly_at_the_threshold() -> None:
    scores = np.full((80, 80), 0.25)
    scores[0, 1:41] = 0.5
    scores[0, 41] = np.nextafter(np.float32(0.5), np.float32(0))
    assert [t for t, _ in rows(build(scores))[0]] == list(range(1, 41))


def test_step_3_weighs_by_the_softmax_of_predicted_times() -> None:
    scores = np.full((80, 80), 0.25)
    scores[0, 1], scores[0, 2:32] = 1.0, 0.5
    found = rows(build(scores))[0]
    total = math.exp(1.0) + 30 * math.exp(0.5)
    assert found[:2] == about([1, 2], [math.exp(1.0) / total, math.exp(0.5) / total])
    assert sum(w for _, w in found) == pytest.approx(1)


def test_step_3_a_low_temperature_sharpens_and_never_gives_zero() -> None:
    scores = np.full((80, 80), 0.25)
    scores[0, 1], scores[0, 2:32] = 1.0, 0.5
    found = rows(build(scores, options=Settings(temperature=0.1)))[0]
    assert found[0][1] / found[1][1] == pytest.approx(math.exp(5), rel=1e-4)
    found = rows(build(scores, options=Settings(temperature=0.001)))[0]
    assert all(w > 0 for _, w in found)


def test_step_4_takes_the_artists_tracks_by_mean_time_when_none_stays() -> None:
    n = 80
    artist, time = [0] * 40 + [1] * 40, [0.01 * (i + 1) for i in range(n)]
    found = build(np.zeros((n, n)), artist, time=time)
    assert (found.by_model, found.by_artist, found.filled) == (0, 80, 0)
    others = [i for i in range(39, -1, -1) if i != 5]
    assert rows(found)[5] == about(others, (time[i] for i in others))


def test_step_4_takes_at_most_70_and_weighs_the_unheard_of_too() -> None:
    time = [0.0] * 100
    found = rows(build(np.zeros((100, 100)), [0] * 100, time=time))
    assert found[0] == about(range(1, 71), [1e-3] * 70)
    assert found[99] == about(range(70), [1e-3] * 70)


def test_step_4_is_skipped_when_one_candidate_stays() -> None:
    scores = np.zeros((80, 80))
    scores[0, 7] = 0.9
    found = rows(build(scores, [0] * 80, time=[0.6] * 80))[0]
    # Its softmax weight is one; the 29 fillers get a third of it.
    assert found[:1] == about([7], [1.0])
    assert [w for _, w in found[1:]] == [pytest.approx(1 / 3)] * 29


def test_step_5_fills_a_single_track_artist_with_mean_times() -> None:
    n = 80
    time = [0.01 * (i + 1) for i in range(n)]
    found = build(np.zeros((n, n)), time=time)
    assert (found.by_model, found.by_artist, found.filled) == (0, 0, 80)
    for row in rows(found):
        assert len(row) == 30
        assert all(w == pytest.approx(time[t]) for t, w in row)
    check_rule(found, n)


def test_step_5_fills_after_the_artist_with_a_third_of_the_smallest() -> None:
    artist, time = [0, 0, 0, *range(1, 78)], [0.9, 0.6, 0.3] + [0.5] * 77
    found = rows(build(np.zeros((80, 80)), artist, time=time))[0]
    assert found[:2] == about([1, 2], [0.6, 0.3])
    assert [w for _, w in found[2:]] == [pytest.approx(0.1)] * 28


def test_step_5_draws_from_the_most_played_in_proportion_to_plays() -> None:
    n = 3000
    plays = [0] * n
    plays[1000:1200] = [1] * 100 + [9] * 100
    options = Settings(pool=200)
    context, statistics = (
        torch.zeros(n, 1),
        Statistics(np.array(plays), np.full(n, 0.5, np.float32), np.zeros(n)),
    )
    found = neighbours.build(context, context, np.arange(n), statistics, options, seed=1)
    drawn = np.bincount(found.indices, minlength=n)
    assert drawn[:1000].sum() == drawn[1200:].sum() == 0
    # Solved by hand for exponential clocks: 100(1 - e^-t) + 100(1 - e^-9t) = 30 gives
    # t = 0.0344, so 3.38 of the 30 are rare ones.
    assert drawn[1000:1100].sum() / n == pytest.approx(3.38, abs=0.1)


def test_step_5_depends_on_the_seed_and_not_on_the_block() -> None:
    scores = np.zeros((1500, 1500), np.float32)
    one = build(scores, options=Settings(block=7))
    same = build(scores, options=Settings(block=512))
    other = build(scores, seed=1)
    assert (one.indices == same.indices).all()
    assert (one.indices != other.indices).any()


@pytest.mark.parametrize("n", [1, 2, 5, 30, 31, 32])
@pytest.mark.parametrize("score", [0.0, 0.75])
@pytest.mark.parametrize("together", [True, False])
def test_a_tiny_catalogue_gives_all_others(n: int, score: float, together: bool) -> None:
    artist = [0] * n if together else list(range(n))
    found = build(np.full((n, n), score), artist, plays=[0] * n)
    check_rule(found, n)
    if n <= 31:
        assert [len(row) for row in rows(found)] == [n - 1] * n


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 120), low=st.floats(0, 1), artists=st.integers(1, 50), seed=st.integers(0, 99)
)
def test_every_table_keeps_the_promises(n: int, low: float, artists: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(low - 0.5, low, (n, n)).round(2)
    artist = rng.integers(0, artists, n)
    plays, time = rng.integers(0, 5, n), rng.random(n)
    found = build(scores, artist.tolist(), plays=plays.tolist(), time=time.tolist())
    check_rule(found, n)
