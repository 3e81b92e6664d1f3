import numpy as np
import pytest
import torch

from precompute.topk import top


def expected(left: torch.Tensor, right: torch.Tensor, k: int, skip_self: bool) -> np.ndarray:
    scores = (left @ right.T).numpy().copy()
    if skip_self:
        np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def columns(
    left: torch.Tensor, right: torch.Tensor, k: int, *, skip_self: bool = False, block: int = 128
) -> np.ndarray:
    found = [c.numpy() for _, c in top(left, right, k, skip_self=skip_self, block=block)]
    return np.concatenate(found)


@pytest.mark.parametrize("width", [1, 2, 5, 71, 700, 3001])
@pytest.mark.parametrize("levels", [2, 1000])
def test_it_is_a_stable_sort_whatever_the_block(width: int, levels: int) -> None:
    # Whole numbers multiply exactly, so ties are ties in any order of summation.
    generator = torch.Generator().manual_seed(width)
    table = torch.randint(0, levels, (width, 3), generator=generator).float()
    wanted = expected(table, table, min(7, width - 1), skip_self=True)
    for block in (3, 128):
        assert (columns(table, table, 7, skip_self=True, block=block) == wanted).all()


def test_with_itself_a_row_may_be_its_own_best() -> None:
    table = torch.eye(4)
    assert columns(table, table, 2).tolist() == [[0, 1], [1, 0], [2, 0], [3, 0]]


def test_scores_come_sorted_and_belong_to_their_columns() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 4, generator=generator) for n in (9, 2000))
    [(scores, found)] = top(left, right, 10)
    assert (scores.diff(dim=1) <= 0).all()
    torch.testing.assert_close(scores, (left @ right.T).gather(1, found))


def test_all_equal_scores_give_the_lowest_columns() -> None:
    table = torch.ones(4000, 2)
    found = columns(table[:3], table, 5, skip_self=True)
    assert found.tolist() == [[1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 3, 4, 5]]
