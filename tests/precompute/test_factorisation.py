import numpy as np
import pytest
import torch

from precompute import factorisation
from precompute.factorisation import Pairs, Settings, fit, initial, mean_squared_error


def planted(rows: int, seed: int, size: int = 40) -> Pairs:
    """Rows of a rank-2 matrix with a little noise."""
    truth = torch.Generator().manual_seed(99)
    a, b = torch.randn(size, 2, generator=truth), torch.randn(size, 2, generator=truth)
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randint(0, size, (rows,), generator=generator) for _ in range(2))
    noise = 0.05 * torch.randn(rows, generator=generator)
    return Pairs(left, right, 0.3 * (a[left] * b[right]).sum(1) + noise)


def start(settings: Settings, size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return initial(size, settings, generator), initial(size, settings, generator)


SETTINGS = Settings(dimensions=4, learning_rate=0.02)


def test_it_finds_a_planted_structure() -> None:
    train, valid = planted(8000, 1), planted(1000, 2)
    found = fit(train, valid, *start(SETTINGS), SETTINGS, seed=0)
    assert min(found.errors) < 0.1 * float(valid.value.var())
    assert mean_squared_error(valid, found.left, found.right) == pytest.approx(min(found.errors))


def test_the_best_epoch_wins_and_noise_is_not_learnt() -> None:
    generator = torch.Generator().manual_seed(0)
    train, valid = planted(3000, 1), planted(500, 2)
    train, valid = (
        Pairs(p.left, p.right, torch.randn(len(p), generator=generator)) for p in (train, valid)
    )
    zeros = torch.zeros(40, 4)
    found = fit(train, valid, *start(SETTINGS), SETTINGS, seed=0)
    assert min(found.errors) < 1.02 * mean_squared_error(valid, zeros, zeros)
    assert len(found.errors) - 1 <= SETTINGS.epochs


def test_the_same_seed_gives_the_same_tables() -> None:
    train, valid = planted(2000, 1), planted(300, 2)
    one, same, other = (
        fit(train, valid, *start(SETTINGS), SETTINGS, seed=seed) for seed in (3, 3, 4)
    )
    assert torch.equal(one.left, same.left)
    assert torch.equal(one.right, same.right)
    assert not torch.equal(one.left, other.left)


def test_the_tables_it_starts_from_are_not_changed() -> None:
    left, right = start(SETTINGS)
    before = left.clone()
    fit(planted(500, 1), planted(100, 2), left, right, SETTINGS, seed=0)
    assert torch.equal(left, before)


def test_without_validation_rows_it_trains_all_epochs_once() -> None:
    train, epochs = planted(500, 1), list[int]()
    found = fit(train, train[:0], *start(SETTINGS), SETTINGS, seed=0, on_epoch=epochs.append)
    assert epochs == list(range(1, SETTINGS.epochs + 1))
    assert found.rows == SETTINGS.epochs * 500


def test_without_rows_the_start_is_the_answer() -> None:
    nothing, (left, right) = planted(1, 1)[:0], start(SETTINGS)
    found = fit(nothing, nothing, left, right, SETTINGS, seed=0)
    assert torch.equal(found.left, left)
    assert torch.equal(found.right, right)


def test_error_by_hand() -> None:
    rows = Pairs(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1.0, 0.0]))
    left, right = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [3.0]])
    assert mean_squared_error(rows, left, right, block=1) == pytest.approx((2**2 + 1) / 2)
    assert mean_squared_error(rows[:0], left, right) == 0


def test_batches_shrink_with_the_rows() -> None:
    settings = factorisation.Settings(batch=1000, steps=10)
    assert [settings.batch_size(rows) for rows in (0, 2000, 5000, 10**6)] == [256, 256, 500, 1000]
    assert np.isclose(initial(1000, settings, torch.Generator().manual_seed(0)).std(), 0.03, 0.05)
