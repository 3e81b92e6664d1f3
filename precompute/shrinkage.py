"""Group means that a few observations cannot fool: empirical Bayes in closed form."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Effects", "group_effects", "two_way"]

Array = npt.NDArray[Any]


def group_effects(groups: Array, values: Array, size: int) -> Array:
    """Return how far each group lies from zero, shrunk by how little is known of it.

    `groups` and `values` are `[rows]`, group numbers `0..size-1`; the answer is
    `[size]` float64. A group's effect is `sum / (count + k)`, where `k` is the variance
    within the groups over the variance between them, both estimated from the rows
    (one-way random effects, the ANOVA estimator; Searle, Casella and McCulloch 1992,
    section 3.6). Where the groups differ by no more than chance, all effects are zero.
    """
    counts = np.bincount(groups, minlength=size).astype(np.float64)
    sums = np.bincount(groups, weights=values, minlength=size)
    seen = int((counts > 0).sum())
    rows = len(values)
    if rows <= seen or seen < 2:
        return np.zeros(size)
    means = np.divide(sums, counts, out=np.zeros(size), where=counts > 0)
    centre = sums.sum() / rows
    around = float((counts * (means - centre) ** 2).sum())
    inside = float((values.astype(np.float64) ** 2).sum() - (counts * means**2).sum())
    within = max(inside, 0.0) / (rows - seen)
    between = (around - (seen - 1) * within) / (rows - (counts**2).sum() / rows)
    if between <= 0:
        return np.zeros(size)
    # Members that always agree leave no variance within, and 0 / 0 for one without rows.
    shrunk = counts + within / between
    return np.asarray(np.divide(sums, shrunk, out=np.zeros(size), where=counts > 0))


@dataclass(frozen=True, slots=True)
class Effects:
    """A mean and what each left and right side adds to it."""

    mean: float
    left: Array  # [n_left] float64
    right: Array  # [n_right] float64

    def of(self, left: Array, right: Array) -> Array:
        """Return the predicted values of some (left, right) pairs, `[rows]` float64."""
        return np.asarray(self.mean + self.left[left] + self.right[right])


def two_way(
    left: Array, right: Array, values: Array, left_groups: Array, right_groups: Array
) -> Effects:
    """Fit mean, right effects and left effects, one after the other, to what is left over.

    `left_groups` `[n_left]` and `right_groups` `[n_right]` name the group (artist) of
    each side's members: a member's effect is its group's plus its own, so a track that
    was heard twice leans on its artist.
    """
    mean = float(values.mean(dtype=np.float64))
    rest = values.astype(np.float64) - mean
    right_effects, rest = _nested(right, rest, right_groups)
    left_effects, _ = _nested(left, rest, left_groups)
    return Effects(mean, left_effects, right_effects)


def _nested(members: Array, rest: Array, groups: Array) -> tuple[Array, Array]:
    of_group = group_effects(groups[members], rest, int(groups.max(initial=-1)) + 1)[groups]
    rest = rest - of_group[members]
    own = group_effects(members, rest, len(groups))
    return of_group + own, rest - own[members]
