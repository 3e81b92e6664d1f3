"""The exact top k of all dot products of two tables, a block of rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["top"]

_GROUP = 32


def top(
    left: Tensor, right: Tensor, k: int, *, skip_self: bool = False, block: int = 128
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the scores and columns of the `k` best of each row, `block` rows at a time.

    `left` `[rows, d]` and `right` `[columns, d]` are float32; each answer is
    (`[b, k]` float32, `[b, k]` int64), the best first, of equal scores the lower column
    first, also at the edge of the top k. With `skip_self` row i never gets column i.
    `k` is cut to the number of columns there are to choose from.
    """
    k = max(min(k, len(right) - int(skip_self)), 0)
    turned = right.T.contiguous()
    for start in range(0, len(left), block):
        part = left[start : start + block]
        scores = part @ turned  # [b, columns]
        if skip_self:
            own = torch.arange(len(part))
            scores[own, own + start] = -torch.inf
        yield _top(scores, k)


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of each row; one more is looked at to see a tie at the edge."""
    more = min(k + 1, scores.shape[1])
    values, columns = _select(scores, more)
    if more > k > 0:
        tied = torch.nonzero(values[:, k - 1] == values[:, k]).flatten()
        if len(tied):
            columns[tied, :k] = _lowest_of_tied(scores[tied], values[tied, k - 1], k)
            values[tied, :k] = scores[tied].gather(1, columns[tied, :k])
    values, columns = values[:, :k], columns[:, :k]
    # Two stable sorts: by column, then by score.
    columns, order = columns.sort(1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def _select(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of each row in any order.

    In a wide row, the k groups of columns with the largest maxima hold the k best: a
    score among the k best is outdone by fewer than k groups. Finding the maxima is one
    pass at the speed of memory; the selection itself then runs on a small part.
    """
    rows, width = scores.shape
    groups = width // _GROUP
    if groups < 4 * k:
        values, columns = scores.topk(k, dim=1, sorted=True)
        return values, columns
    grouped = scores[:, : groups * _GROUP].view(rows, _GROUP, groups)
    chosen = grouped.amax(1).topk(k, dim=1, sorted=False).indices  # [rows, k]
    # Group g holds the columns g, g + groups, g + 2 groups, ...
    steps = torch.arange(_GROUP) * groups
    inside = (chosen[:, :, None] + steps).view(rows, -1)  # [rows, k * _GROUP]
    rest = torch.arange(groups * _GROUP, width).expand(rows, -1)
    candidates = torch.cat([inside, rest], 1)
    values, order = scores.gather(1, candidates).topk(k, dim=1, sorted=True)
    return values, candidates.gather(1, order)


def _lowest_of_tied(scores: Tensor, edge: Tensor, k: int) -> Tensor:
    """Return, `[b, k]`, all columns above the edge and the lowest of those on it."""
    above, on = scores > edge[:, None], scores == edge[:, None]
    needed = k - above.sum(1, keepdim=True)
    chosen = above | (on & (on.cumsum(1) <= needed))
    return chosen.nonzero()[:, 1].view(-1, k)
