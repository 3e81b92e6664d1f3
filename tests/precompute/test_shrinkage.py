import numpy as np
import pytest

from precompute.shrinkage import group_effects, two_way


def test_effects_follow_the_formula_by_hand() -> None:
    # Group means 1 and -1, two rows each, +-0.5 around them.
    groups, values = np.array([0, 0, 1, 1]), np.array([1.5, 0.5, -0.5, -1.5])
    # within = 4 * 0.25 / (4 - 2) = 0.5; between = (4 - 1 * 0.5) / (4 - 8 / 4) = 1.75
    k = 0.5 / 1.75
    np.testing.assert_allclose(group_effects(groups, values, 3), [2 / (2 + k), -2 / (2 + k), 0])


def test_groups_that_differ_by_chance_only_have_no_effect() -> None:
    groups, values = np.array([0, 0, 1, 1]), np.array([1.0, -1.0, 1.0, -1.0])
    assert group_effects(groups, values, 2).tolist() == [0, 0]


def test_one_row_or_one_group_has_no_effect() -> None:
    assert group_effects(np.array([0]), np.array([1.0]), 1).tolist() == [0]
    assert group_effects(np.zeros(5, int), np.arange(5.0), 1).tolist() == [0]


def test_groups_that_agree_with_themselves_are_not_shrunk_and_an_empty_one_has_no_effect() -> None:
    groups, values = np.array([0, 0, 1, 1]), np.array([0.25, 0.25, -0.25, -0.25])
    assert group_effects(groups, values, 3).tolist() == [0.25, -0.25, 0]


def test_effects_come_back_from_noise() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 0.2, 300)
    members = rng.integers(0, 300, 6000)
    values = (0.5 + true[members] + rng.normal(0, 0.2, 6000)).astype(np.float32)
    left, alone = rng.integers(0, 50, 6000), np.arange(300)
    found = two_way(left, members, values, np.arange(50), alone)
    assert found.mean == pytest.approx(values.mean())
    assert np.corrcoef(found.right, true)[0, 1] > 0.95
    assert np.abs(found.left).max() < 0.03
    shrunk = np.mean((found.right - true) ** 2)
    plain = np.bincount(members, values - values.mean()) / np.bincount(members)
    assert shrunk < np.mean((plain - true) ** 2)


def test_an_unheard_member_has_its_groups_effect() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    members = rng.integers(0, 199, 4000)  # never 199
    values = np.where(groups[members] % 2 == 0, 0.9, 0.1) + rng.normal(0, 0.01, 4000)
    found = two_way(np.zeros(4000, int), members, values, np.zeros(1, int), groups)
    assert found.right[199] == pytest.approx(-0.4, abs=0.02)
