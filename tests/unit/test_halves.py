"""Halves are what torch calls bfloat16."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsvc.halves import halve, widen

NUMBERS = st.lists(st.floats(-(2.0**120), 2.0**120, width=32), max_size=40)


def test_by_hand() -> None:
    assert halve(np.array([1.0, -2.0, 0.0])).tolist() == [0x3F80, 0xC000, 0]
    assert widen(np.array([[0x3F80, 0xC000]], dtype=np.uint16)).tolist() == [[1.0, -2.0]]
    assert widen(halve(np.array([1.0 + 2**-9, 1.0 + 2**-8]))).tolist() == [1.0, 1.0078125]


@given(NUMBERS)
def test_a_half_is_the_nearest_that_there_is(numbers: list[float]) -> None:
    given = np.array(numbers, dtype=np.float32)
    found = widen(halve(given))
    nearest = torch.from_numpy(given).bfloat16().float().numpy()
    # Of two that are as near torch takes the even one.
    np.testing.assert_array_equal(np.abs(found - given), np.abs(nearest - given))
    assert found.dtype == np.float32


@given(st.lists(st.integers(0, 0xFFFF), max_size=40))
def test_to_widen_is_exact(bits: list[int]) -> None:
    halves = np.array(bits, dtype=np.uint16)
    halves = halves[(halves & 0x7F80) != 0x7F80]  # the finite ones
    assert np.array_equal(halve(widen(halves)), halves)
    expected = torch.from_numpy(halves.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(widen(halves), expected)
