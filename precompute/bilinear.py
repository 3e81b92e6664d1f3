"""The model behind both recommenders: mean, two effects, and a dot product of embeddings.

Most tracks of a log were heard a few times, and most pairs once or never. So the model
learns in three steps, each from what the one before left over: how good a track is
(shrunk means), what the artists have to do with one another, and then each track's own
difference from its artist. Each step that does not help on the validation rows is
undone, so that noise is not taken for taste.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from precompute.factorisation import Fit, Pairs, Settings, fit, initial
from precompute.shrinkage import Effects, two_way

__all__ = ["Model", "Rows", "train"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What to learn from; all arrays are `[rows]`."""

    left: Array
    right: Array
    value: Array
    valid: Array

    def pairs(self, rest: Array, mask: Array, left: Array, right: Array) -> Pairs:
        """Return the marked rows as tensors, their members replaced by their groups."""
        return Pairs(
            torch.from_numpy(left[self.left[mask]].astype(np.int64)),
            torch.from_numpy(right[self.right[mask]].astype(np.int64)),
            torch.from_numpy(rest[mask].astype(np.float32)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Predicts the value of a (left, right) pair as `left_table[l] · right_table[r]`."""

    left: Tensor
    """`[n_left, d + 2]` float32: the embedding, one, and the left effect with the mean."""
    right: Tensor
    """`[n_right, d + 2]` float32: the embedding, the right effect, and one."""
    metrics: dict[str, float]
    """Mean squared errors and sizes, finite; see `train`."""
    rows: int
    """Rows trained on, over all epochs of all steps."""
    seconds: float
    """Spent in training, without validation."""

    def predict(self, left: Array, right: Array) -> Array:
        """Return the predicted values of some pairs, `[rows]` float32."""
        a = self.left[torch.from_numpy(left.astype(np.int64))]
        b = self.right[torch.from_numpy(right.astype(np.int64))]
        return np.asarray((a * b).sum(1).numpy())


def train(
    rows: Rows,
    left_groups: Array,
    right_groups: Array,
    settings: Settings,
    *,
    seed: int,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Model:
    """Fit the model to `rows`.

    `left_groups` `[n_left]` and `right_groups` `[n_right]` name the group (the artist)
    of each member; members that are groups of their own are fine. `on_epoch` is told
    how many epochs of the step at hand are over.

    The metrics are `rows_train`, `rows_valid`, `epochs`, and on the validation rows
    `mse` and what it is to be held against: `mse_constant` (the mean of the training
    rows for all), `mse_right_mean` (the plain mean of each right member) and
    `mse_effects` (the shrunk effects alone).
    """
    training = ~rows.valid
    effects = _effects(rows, training, left_groups, right_groups)
    rest = rows.value - effects.of(rows.left, rows.right)
    fits = _stages(rows, rest, left_groups, right_groups, settings, seed=seed, on_epoch=on_epoch)
    last = fits[-1]
    left = torch.from_numpy((effects.left + effects.mean).astype(np.float32))
    right = torch.from_numpy(effects.right.astype(np.float32))
    metrics = {
        "rows_train": float(training.sum()),
        "rows_valid": float(rows.valid.sum()),
        "epochs": float(sum(len(f.errors) - 1 for f in fits)),
    }
    if training.any() and rows.valid.any():
        metrics |= _baselines(rows, training, len(right_groups))
        metrics["mse_effects"] = float((rest[rows.valid] ** 2).mean())
        metrics["mse"] = min(last.errors)
    return Model(
        left=torch.cat([last.left, torch.ones(len(left), 1), left[:, None]], 1),
        right=torch.cat([last.right, right[:, None], torch.ones(len(right), 1)], 1),
        metrics=metrics,
        rows=sum(f.rows for f in fits),
        seconds=sum(f.seconds for f in fits),
    )


def _effects(rows: Rows, training: Array, left_groups: Array, right_groups: Array) -> Effects:
    if not training.any():
        return Effects(0.0, np.zeros(len(left_groups)), np.zeros(len(right_groups)))
    left, right = rows.left[training], rows.right[training]
    return two_way(left, right, rows.value[training], left_groups, right_groups)


def _stages(
    rows: Rows,
    rest: Array,
    left_groups: Array,
    right_groups: Array,
    settings: Settings,
    *,
    seed: int,
    on_epoch: Callable[[int], None],
) -> list[Fit]:
    """Train the groups' embeddings from nothing, then the members' from their groups'."""
    left_size = int(left_groups.max(initial=-1)) + 1
    right_size = int(right_groups.max(initial=-1)) + 1
    generator = torch.Generator().manual_seed(seed)
    start = initial(left_size, settings, generator), initial(right_size, settings, generator)
    nothing = torch.zeros_like(start[0]), torch.zeros_like(start[1])
    train, valid = (
        rows.pairs(rest, mask, left_groups, right_groups) for mask in (~rows.valid, rows.valid)
    )
    groups = fit(train, valid, *start, settings, seed=seed, on_epoch=on_epoch)
    without = float(valid.value.square().mean())
    if len(valid) and min(groups.errors) >= without:
        # What is reported is the error of what is kept, so it takes the place of the start's.
        groups = Fit(*nothing, (without, *groups.errors[1:]), groups.rows, groups.seconds)
    if left_size == len(left_groups) and right_size == len(right_groups):
        return [groups]
    left_members, right_members = np.arange(len(left_groups)), np.arange(len(right_groups))
    train, valid = (
        rows.pairs(rest, mask, left_members, right_members) for mask in (~rows.valid, rows.valid)
    )
    left = groups.left[torch.from_numpy(left_groups.astype(np.int64))]
    right = groups.right[torch.from_numpy(right_groups.astype(np.int64))]
    return [groups, fit(train, valid, left, right, settings, seed=seed, on_epoch=on_epoch)]


def _baselines(rows: Rows, training: Array, right_size: int) -> dict[str, float]:
    """Return the errors of the two predictors that know nothing of the left side."""
    right, value = rows.right[training], rows.value[training].astype(np.float64)
    counts = np.bincount(right, minlength=right_size)
    sums = np.bincount(right, weights=value, minlength=right_size)
    means = np.divide(sums, counts, out=np.full(right_size, value.mean()), where=counts > 0)
    held = rows.value[rows.valid]
    return {
        "mse_constant": float(((held - value.mean()) ** 2).mean()),
        "mse_right_mean": float(((held - means[rows.right[rows.valid]]) ** 2).mean()),
    }
