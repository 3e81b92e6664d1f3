"""What was heard, as bytes: round trip, every kind of damage, and its size."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmh3 import mmh3_x64_128_digest

from recsvc.evidence import MOST_HEARD, NO_EVIDENCE, Evidence, pack, unpack
from recsvc.recommenders.inference import forecast, learn
from recsvc.recommenders.reasons import reasons
from recsvc.recommenders.source import Source
from recsvc.shortlist import Shortlist
from recsvc.table import MAX_ID
from recsvc.taste import Belief, prior, update
from tests.inferring import inferring_table, random_model

SOURCE = Source(inferring_table(), "0123456789ab")


def some_evidence(seed: int, heard: int, k: int, listed: int = 128) -> Evidence:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(k, k))
    return Evidence(
        rng.integers(0, MAX_ID, heard),
        rng.integers(0, 101, heard) / 100.0,
        SOURCE.version,
        Belief(rng.normal(size=k), root @ root.T + 0.1 * np.eye(k)),
        Shortlist(
            np.sort(rng.choice(2**20, listed, replace=False)).astype(np.uint32),
            rng.integers(0, 2**16, listed, dtype=np.uint16),
            heard,
        ),
    )


def session(heard: int) -> Evidence:
    """Evidence as the policy makes it."""
    found = NO_EVIDENCE
    for step in range(heard):
        found = learn(SOURCE, found, (step * 7) % 40, step % 5 / 4)
        found = found.with_shortlist(forecast(SOURCE, found, (), 8)[1])
    return found


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    heard=st.integers(0, MOST_HEARD),
    k=st.integers(2, 40),
    listed=st.integers(0, 300),
)
def test_round_trip(seed: int, heard: int, k: int, listed: int) -> None:
    evidence = some_evidence(seed, heard, k, listed)
    found = unpack(pack(evidence))
    assert found.belief is not None
    assert evidence.belief is not None
    assert found.version == evidence.version
    assert found.tracks.tolist() == evidence.tracks.tolist()
    assert found.times.tolist() == evidence.times.tolist()
    np.testing.assert_allclose(found.belief.mean, evidence.belief.mean, rtol=1e-6)
    np.testing.assert_allclose(found.belief.covariance, evidence.belief.covariance, rtol=1e-6)
    assert found.shortlist.places.tolist() == evidence.shortlist.places.tolist()
    assert found.shortlist.plays.tolist() == evidence.shortlist.plays.tolist()
    assert found.shortlist.age == heard
    assert pack(found) == pack(evidence)


def test_without_a_belief_there_is_nothing_to_keep() -> None:
    with pytest.raises(ValueError, match="without a belief"):
        pack(NO_EVIDENCE)


@pytest.mark.parametrize("data", [None, b"", b"\0", bytes(31), bytes(32), bytes(5000)])
def test_what_is_no_evidence_is_none(data: bytes | None) -> None:
    assert unpack(data) is NO_EVIDENCE


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_no_evidence(data: bytes) -> None:
    assert unpack(data) is NO_EVIDENCE


@settings(max_examples=300, deadline=None)
@given(heard=st.integers(1, 20), position=st.integers(0, 10_000), other=st.integers(1, 255))
def test_one_changed_byte_is_enough_to_be_no_evidence(
    heard: int, position: int, other: int
) -> None:
    data = bytearray(pack(session(heard)))
    data[position % len(data)] ^= other
    assert unpack(bytes(data)) is NO_EVIDENCE


@settings(max_examples=200, deadline=None)
@given(
    heard=st.integers(1, 20),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=40),
)
def test_evidence_that_another_program_wrote_breaks_nothing(
    heard: int, flips: list[tuple[int, int]]
) -> None:
    """Its checksum holds, but what it says may make no sense."""
    data = bytearray(pack(session(heard)))
    for position, value in flips:
        data[8 + position % (len(data) - 8)] = value
    data[:8] = mmh3_x64_128_digest(bytes(data[8:]))[:8]
    found = unpack(bytes(data))
    assert ((found.times >= 0.0) & (found.times <= 1.0)).all()
    assert len(found.times) == len(found.tracks)
    if found.belief is not None:
        assert np.isfinite(found.belief.mean).all()
        assert np.isfinite(found.belief.covariance).all()
        assert (np.diag(found.belief.covariance) > 0).all()
    for time in (0.0, 0.5, 1.0):
        kept = learn(SOURCE, replace(found, version=SOURCE.version), 3, time)
        foreseen, listed = forecast(SOURCE, kept, (), 8)
        assert len({*foreseen.tracks.tolist()}) == len(foreseen)
        assert set(foreseen.tracks.tolist()) <= set(range(40))
        assert ((foreseen.times >= 0.0) & (foreseen.times <= 1.0)).all()
        assert reasons(SOURCE, kept, foreseen) is not None
        pack(kept.with_shortlist(listed))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30])
@pytest.mark.parametrize("place", ["mean", "covariance"])
def test_numbers_that_no_belief_has_are_refused(value: float, place: str) -> None:
    evidence = session(5)
    assert evidence.belief is not None
    mean, covariance = evidence.belief.mean.copy(), evidence.belief.covariance.copy()
    (mean if place == "mean" else covariance.reshape(-1))[:] = value
    data = pack(replace(evidence, belief=Belief(mean, covariance)))
    assert unpack(data) is NO_EVIDENCE


@pytest.mark.parametrize("pattern", [b"\x01\x00\x80\x7f", b"\x01\x00\x80\xff", b"\xff" * 4])
@pytest.mark.parametrize("place", [0, 1, 4, 5, 9, 19])
def test_every_pattern_that_is_no_number_is_refused(pattern: bytes, place: int) -> None:
    """Some of them signal as soon as they are calculated with."""
    evidence = session(5)
    assert evidence.belief is not None
    upper = np.triu_indices(5)
    state = np.concatenate((evidence.belief.mean, evidence.belief.covariance[upper]))
    state = state.astype(np.float32)
    state.view("V4")[place] = np.void(pattern)
    covariance = np.zeros((5, 5), dtype=np.float32)
    covariance[upper] = state[5:]
    data = pack(replace(evidence, belief=Belief(state[:5], covariance)))
    assert pattern in data
    assert unpack(data) is NO_EVIDENCE


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000))
def test_cut_evidence_is_none(size: int) -> None:
    data = pack(session(30))
    assert unpack(data[: min(size, len(data) - 1)]) is NO_EVIDENCE


def test_of_a_long_session_the_first_and_the_latest_stay() -> None:
    evidence = NO_EVIDENCE
    for track in range(350):
        evidence = evidence.with_heard(track, track % 100 / 100)
        assert len(evidence) == min(track + 1, MOST_HEARD)
    assert evidence.tracks.tolist() == [0, *range(51, 350)]
    assert evidence.times.tolist() == [0.0, *(track % 100 / 100 for track in range(51, 350))]


def test_a_session_of_300_tracks_takes_less_than_9_kilobytes() -> None:
    assert 2700 < len(pack(some_evidence(1, 300, 49))) < 9 * 1024


def test_a_belief_survives_hundreds_of_times_in_the_store() -> None:
    """Single precision at every step: still a covariance, and close to that of no rounding."""
    rng = np.random.default_rng(2)
    model = random_model(400, 32, noise=0.02)
    exact = prior(model, 0, 1.0)
    stored = Evidence(np.zeros(0, dtype=np.int64), np.zeros(0), "v1", exact)
    for row in range(1, 350):
        time, plays = round(rng.random(), 2), row % 3
        exact = update(model, exact, row, time, plays)
        stored = unpack(pack(stored))
        assert stored.belief is not None
        stored = replace(stored, belief=update(model, stored.belief, row, time, plays))
    assert stored.belief is not None
    assert np.linalg.eigvalsh(stored.belief.covariance)[0] > 0
    deviations = np.sqrt(np.diag(exact.covariance))
    assert (np.abs(stored.belief.mean - exact.mean) / deviations).max() < 0.05
