"""The E step against one session at a time, and sums over rows one by one."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from precompute.inference.expectation import Moments, expect, logits
from precompute.inference.rows import rows_of
from precompute.inference.sparse import Packed
from recsvc.taste import logit_of, prior, update
from tests.precompute.inference.planted import Array, World, arrange, plant, serving

WORLD = plant(40, 8, seed=1)


def run(world: World, before: Array | None = None, at_once: int = 7) -> tuple[Moments, Array]:
    told: list[int] = []
    means = None if before is None else torch.from_numpy(before.astype(np.float32))
    observed, artist = world.observe(), torch.from_numpy(world.artist)
    moments, found = expect(world.model, artist, rows_of(observed), means, at_once, told.append)
    assert sum(told) == observed.count
    return moments, found.numpy()


class ByHand:
    """The same in double precision with dense matrices, an interest and a row at a time."""

    def __init__(self, world: World, before: Array | None = None) -> None:
        model, observed = world.model, world.observe()
        x = model.directions(torch.from_numpy(world.artist)).double().numpy()
        n, k = x.shape
        opening, spread = model.opening.double().numpy(), model.spread.double().numpy()
        precision = np.linalg.inv(spread)
        self.gram, self.times_logit, self.plain = np.zeros((n, k, k)), *np.zeros((2, n, k))
        self.weight, self.logit = np.zeros((2, n))
        self.openings, self.answers, self.spread = np.zeros((3, k, k))
        self.firsts, self.aims = np.zeros(n), np.zeros((n, k))
        self.squares, self.means = 0.0, []
        interests, of_session = np.unique(observed.interest, return_inverse=True)
        rows = np.bincount(of_session[observed.session], minlength=len(interests))
        for number, interest in enumerate(np.argsort(rows, kind="stable").tolist()):
            sessions = np.flatnonzero(of_session == interest)
            begun = [
                (t, float(heard) / len(sessions))
                for t, heard in zip(
                    observed.first[sessions].tolist(), observed.first_time[sessions], strict=True
                )
                if t >= 0
            ]
            f = sum((x[t] * share for t, share in begun), np.zeros(k))
            f[-1] = 1.0
            m0 = opening @ f
            told = []
            for i in np.flatnonzero(np.isin(observed.session, sessions)).tolist():
                t, time = int(observed.track[i]), float(observed.time[i])
                y, rounding, side = logit_of(time, model.discount ** int(observed.plays[i]))
                y -= float(model.offsets[t])
                seen = (m0 if before is None else before[number]) @ x[t]
                kept = (side < 0 and seen <= y) or (side > 0 and seen >= y)
                told.append((t, y, 0.0 if kept else 1.0 / (model.noise + rounding)))
            informed = precision + sum(w * np.outer(x[t], x[t]) for t, _, w in told)
            covariance = np.linalg.inv(informed)
            mean = covariance @ (precision @ m0 + sum(w * y * x[t] for t, y, w in told))
            self.means.append(mean)
            second = covariance + np.outer(mean, mean)
            for t, y, w in told:
                full = y + float(model.offsets[t])
                self.gram[t] += w * second
                self.times_logit[t] += w * full * mean
                self.plain[t] += w * mean
                self.weight[t] += w
                self.logit[t] += w * full
                self.squares += w * ((y - mean @ x[t]) ** 2 + x[t] @ covariance @ x[t])
            for t, share in begun:
                without = m0 - share * opening[:, :-1] @ x[t, :-1]
                self.firsts[t] += share**2
                self.aims[t] += share * (mean - without)
            self.openings += np.outer(f, f)
            self.answers += np.outer(f, mean)
            self.spread += covariance + np.outer(mean - m0, mean - m0)


def assert_same(moments: Moments, means: Array, hand: ByHand) -> None:
    np.testing.assert_allclose(means, hand.means, atol=2e-4)
    packed = Packed(hand.gram.shape[1])
    np.testing.assert_allclose(packed.full(moments.gram), hand.gram, atol=5e-3, rtol=1e-4)
    for field in fields(Moments):
        if field.name not in ("gram", "squares"):
            expected = getattr(hand, field.name)
            found = getattr(moments, field.name)
            np.testing.assert_allclose(found, expected, atol=5e-3, rtol=2e-4, err_msg=field.name)
    assert moments.squares == pytest.approx(hand.squares, rel=1e-4)


def test_posteriors_and_sums_are_those_of_one_row_at_a_time() -> None:
    assert_same(*run(WORLD), ByHand(WORLD))


def test_a_bound_counts_where_the_pass_before_violates_it() -> None:
    rng = np.random.default_rng(0)
    time = WORLD.sessions.time.copy()
    time[rng.random(len(time)) < 0.4] = 0.0
    time[rng.random(len(time)) < 0.2] = 1.0
    bounded = replace(WORLD, sessions=replace(WORLD.sessions, time=time))
    before = rng.normal(0.0, 5.0, WORLD.states.shape)
    first, second = ByHand(bounded), ByHand(bounded, before)
    assert abs(first.squares - second.squares) > 1.0  # it makes a difference here
    assert_same(*run(bounded), first)
    assert_same(*run(bounded, before), second)


@pytest.mark.parametrize("at_once", [1, 13, 10_000])
def test_blocks_make_no_difference(at_once: int) -> None:
    (one, means), (other, same) = run(WORLD), run(WORLD, at_once=at_once)
    np.testing.assert_allclose(means, same, atol=1e-4)
    np.testing.assert_allclose(one.gram, other.gram, atol=5e-3, rtol=1e-4)
    np.testing.assert_allclose(one.spread, other.spread, atol=5e-3, rtol=1e-4)


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_sessions_of_one_track_and_unknown_first_tracks(at_once: int) -> None:
    tracks = [[3], [-1, 5, 8], [7], [-1], [9, 2, 4]]
    times = [[0.5], [0.9, 0.2, 0.4], [1.0], [0.0], [0.3, 0.6, 0.1]]
    world = World(WORLD.model, WORLD.catalogue, arrange(tracks, times), np.zeros((5, 4)))
    assert_same(*run(world, at_once=at_once), ByHand(world))


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_what_sessions_of_one_interest_say_is_taken_together(at_once: int) -> None:
    # Tracks 3 and 23 are of one artist. The last session began with what was not liked.
    tracks = [[3, 8], [5, 1, 9], [23, 8, 2], [3, 4], [3, 6], [-1, 7]]
    times = [[0.9, 0.3], [1.0, 0.2, 0.4], [0.6, 0.5, 0.1], [0.8, 0.7], [0.4, 0.2], [1.0, 0.3]]
    told = arrange(tracks, times, user=[0, 0, 0, 0, 0, 1])
    world = World(WORLD.model, WORLD.catalogue, told, np.zeros((6, 4)))
    hand = ByHand(world)
    assert len(hand.means) == 4
    assert_same(*run(world, at_once=at_once), hand)


def test_a_session_is_inferred_as_the_service_does() -> None:
    """Of times that are no bounds both are exact, but for what the service has as halves."""
    sessions = WORLD.sessions
    clipped = np.clip(sessions.time, 0.02, 0.35)
    told = arrange(sessions.track.reshape(40, 8).tolist(), clipped.reshape(40, 8).tolist())
    world = World(WORLD.model, WORLD.catalogue, told, WORLD.states)
    _, means = run(world)
    observed, model = world.observe(), serving(world)
    for s in range(observed.count):
        belief = prior(model, int(observed.first[s]), float(observed.first_time[s]))
        for i in np.flatnonzero(observed.session == s).tolist():
            report = (int(observed.track[i]), float(observed.time[i]), int(observed.plays[i]))
            belief = update(model, belief, *report)
        np.testing.assert_allclose(means[s], belief.mean, atol=5e-3)


def test_logits_are_those_of_the_service() -> None:
    times = torch.tensor([0.0, 0.004, 0.01, 0.3, 0.51, 0.79, 0.8, 0.98, 0.99, 1.0])
    for plays in (0, 1, 4):
        share = 0.8**plays
        found = [c.tolist() for c in logits(times, torch.full((10,), share))]
        for i, time in enumerate(times.tolist()):
            logit, rounding, side = logit_of(time, share)
            assert found[0][i] == pytest.approx(logit, abs=1e-4)
            assert found[1][i] == pytest.approx(rounding, rel=1e-3)
            assert (found[2][i], found[3][i]) == (side < 0, side > 0)


def test_packed_matrices() -> None:
    rng = np.random.default_rng(1)
    root = torch.from_numpy(rng.normal(size=(6, 4, 4)).astype(np.float32))
    symmetric, x, packed = root + root.transpose(1, 2), root[:, 0], Packed(4)
    assert len(packed) == 10
    assert torch.equal(packed.full(packed.pack(symmetric)), symmetric)
    np.testing.assert_allclose(packed.full(packed.outer(x)), x[:, :, None] * x[:, None, :])
    inner = packed.inner(packed.pack(symmetric), packed.outer(x))
    np.testing.assert_allclose(inner, torch.einsum("mij,mi,mj->m", symmetric, x, x), atol=1e-4)
    own = packed.inner(packed.pack(symmetric), packed.pack(symmetric))
    np.testing.assert_allclose(own, (symmetric**2).sum((1, 2)), rtol=1e-5)
