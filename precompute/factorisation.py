"""Two embedding tables whose dot product is fitted to observed values by squared error."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor
from torch.nn.functional import embedding

__all__ = ["Fit", "Pairs", "Settings", "fit", "initial", "mean_squared_error"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a factorisation is trained."""

    dimensions: int = 32
    """Length of an embedding. More can tell more apart, and needs more rows to do so."""
    epochs: int = 30
    """At most so many passes over the rows; early stopping mostly ends sooner."""
    patience: int = 4
    """Stop after so many epochs in a row without a better validation error."""
    batch: int = 16384
    """Rows a step, at most. Each step updates the whole tables, so small batches are slow."""
    steps: int = 40
    """Steps an epoch, at least: with few rows the batches are smaller, down to 256 rows."""
    learning_rate: float = 0.003
    """Step size of Adam."""
    decays: tuple[float, ...] = (0.5, 0.02)
    """L2 penalties on the embeddings of each row, as multiples of the variance of the
    values. Each is tried, and the best on the validation rows counts: many rows for few
    members want a small one, few rows for many a large one, so that noise is not learnt."""
    spread: float = 0.03
    """Standard deviation of the initial embeddings; small, so that nothing is claimed at first."""

    def batch_size(self, rows: int) -> int:
        """Return the rows a step when there are `rows` in all."""
        return max(min(self.batch, rows // self.steps), min(self.batch, 256))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows to fit: `left`, `right` `[rows]` int64 indices and `value` `[rows]` float32."""

    left: Tensor
    right: Tensor
    value: Tensor

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, rows: Tensor | slice) -> "Pairs":
        return Pairs(self.left[rows], self.right[rows], self.value[rows])


@dataclass(frozen=True, slots=True)
class Fit:
    """The best tables seen, and how they came about."""

    left: Tensor
    """`[n_left, d]` float32."""
    right: Tensor
    """`[n_right, d]` float32."""
    errors: tuple[float, ...]
    """Mean squared error on the validation rows after 0, 1, 2, ... epochs."""
    rows: int
    """Rows trained on, over all epochs of all decays."""
    seconds: float
    """Spent in training with all decays, without validation."""


def initial(size: int, settings: Settings, generator: torch.Generator) -> Tensor:
    """Return small random embeddings, `[size, d]`."""
    return torch.randn(size, settings.dimensions, generator=generator) * settings.spread


def fit(
    train: Pairs,
    valid: Pairs,
    left: Tensor,
    right: Tensor,
    settings: Settings,
    *,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Fit:
    """Train from the tables given, with each decay, and return the best by validation error.

    `left` `[n_left, d]` and `right` `[n_right, d]` are where training starts and are
    not changed. They count as epoch 0: if no epoch beats them, they are the answer.
    Without validation rows it trains for all epochs with the first decay. `on_epoch` is
    told how many epochs are over. The same seed, on the same machine with the same number
    of threads, gives the same tables.
    """
    tries = [
        _fit(train, valid, left, right, settings, decay=decay, seed=seed, on_epoch=on_epoch)
        for decay in (settings.decays if len(valid) else settings.decays[:1])
    ]
    best = min(tries, key=lambda fitted: min(fitted.errors))
    rows, seconds = sum(t.rows for t in tries), sum(t.seconds for t in tries)
    return Fit(best.left, best.right, best.errors, rows, seconds)


def _fit(
    train: Pairs,
    valid: Pairs,
    left: Tensor,
    right: Tensor,
    settings: Settings,
    *,
    decay: float,
    seed: int,
    on_epoch: Callable[[int], None],
) -> Fit:
    generator = torch.Generator().manual_seed(seed)
    left, right = left.clone().requires_grad_(), right.clone().requires_grad_()
    optimizer = torch.optim.Adam([left, right], lr=settings.learning_rate, fused=True)
    penalty = decay * float(train.value.var(correction=0)) if len(train) else 0.0
    size = settings.batch_size(len(train))
    errors = [mean_squared_error(valid, left, right)]
    best_left, best_right = left.detach().clone(), right.detach().clone()
    waited, rows, seconds = 0, 0, 0.0
    while len(errors) <= settings.epochs and waited < settings.patience and len(train):
        started = perf_counter()
        shuffled = train[torch.randperm(len(train), generator=generator)]
        for start in range(0, len(train), size):
            _step(optimizer, left, right, shuffled[start : start + size], penalty)
        seconds += perf_counter() - started
        rows += len(train)
        error = mean_squared_error(valid, left, right)
        waited = 0 if error < min(errors) or not len(valid) else waited + 1
        errors.append(error)
        if not waited:
            best_left.copy_(left.detach())
            best_right.copy_(right.detach())
        on_epoch(len(errors) - 1)
    return Fit(best_left, best_right, tuple(errors), rows, seconds)


def _step(
    optimizer: torch.optim.Optimizer, left: Tensor, right: Tensor, rows: Pairs, decay: float
) -> None:
    a = embedding(rows.left, left)  # [b, d]
    b = embedding(rows.right, right)  # [b, d]
    error = (a * b).sum(1) - rows.value  # [b]
    loss = error.square().sum() + decay * (a.square().sum() + b.square().sum())
    optimizer.zero_grad()
    torch.autograd.backward(loss / len(rows))
    optimizer.step()


@torch.no_grad()
def mean_squared_error(rows: Pairs, left: Tensor, right: Tensor, block: int = 1 << 17) -> float:
    """Return the mean squared error of the tables on some rows, 0.0 on none."""
    total = 0.0
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        guess = (left[part.left] * right[part.right]).sum(1)  # [block]
        total += float((guess - part.value).square().sum(dtype=torch.float64))
    return total / max(len(rows), 1)
