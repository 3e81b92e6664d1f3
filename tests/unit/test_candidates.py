"""Candidates as bytes: what claim.lua reads, and what rules most other tracks out."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.candidates import SEVERAL, SIEVE, Candidates
from recsvc.tracks import pack_tracks


def test_packed_by_hand() -> None:
    made = Candidates([258, 7], [0.25, 0.5])
    assert made.packed[:40] == struct.pack("<qqddd", 258, 7, 0.25, 0.5, 0.75)
    sieve = made.packed[40:]
    assert len(sieve) == SIEVE
    # 258 is 2 + 256: the lowest byte is 2, the lowest bit of the next 1; of 7 they are 7 and 0.
    assert {at: byte for at, byte in enumerate(sieve) if byte} == {2 * 2 + 1: 1, 2 * 7: 1}


def test_a_sieve_by_hand() -> None:
    tracks = [1, 2, 2 + 6 * 512, 3 + 5 * 512, 3 + 5 * 512 + 65_536]
    sieve = Candidates(tracks, [1.0] * 5).packed[-SIEVE:]
    found = {at: byte for at, byte in enumerate(sieve) if byte}
    assert found == {2: 1, 4: SEVERAL, 6: 1 + 5}  # the last two tracks look alike


@given(tracks=st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 4096), unique=True, max_size=100))
def test_no_candidate_is_ruled_out(tracks: list[int]) -> None:
    sieve = Candidates(tracks, [1.0] * len(tracks)).packed[-SIEVE:]
    for track in tracks:
        low, high = struct.pack("<q", track)[:2]
        assert sieve[2 * low + high % 2] in (1 + high // 2, SEVERAL)


def test_others_with_the_same_weights_have_no_sieve() -> None:
    made = Candidates([1, 2], [0.25, 0.5]).of(pack_tracks([3, 4]))
    assert made.packed == struct.pack("<qqddd", 3, 4, 0.25, 0.5, 0.75)
    assert (made.tracks, made.weights, made.total) == ([3, 4], [0.25, 0.5], 0.75)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_of_none_none_is_picked(chance: float) -> None:
    made = Candidates([], [])
    assert (made.pick(chance), len(made), made.total) == (-1, 0, 0.0)
    assert made.of(b"").packed == struct.pack("<d", 0.0)
