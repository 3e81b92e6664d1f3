"""The E step: what sessions were after, given the model, and what that says of the tracks."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from precompute.inference.parameters import Parameters
from recsvc.taste import LEAST, MOST

__all__ = ["Moments", "Packed", "Rows", "expect"]


class Packed:
    """Symmetric `[k, k]` matrices as their upper triangles, end to end: half the work."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.upper = torch.triu_indices(k, k)
        self._flat = self.upper[0] * k + self.upper[1]
        position = torch.zeros(k, k, dtype=torch.int64)
        position[self.upper[0], self.upper[1]] = torch.arange(self.upper.shape[1])
        self._places = torch.maximum(position, position.T).reshape(-1)

    def __len__(self) -> int:
        return self.upper.shape[1]

    def outer(self, x: Tensor) -> Tensor:
        """Return `x x^T` of each row of `x` `[m, k]`, packed."""
        return x.index_select(1, self.upper[0]) * x.index_select(1, self.upper[1])

    def pack(self, matrices: Tensor) -> Tensor:
        """Pack `[m, k, k]`."""
        return matrices.reshape(len(matrices), -1).index_select(1, self._flat)

    def full(self, packed: Tensor) -> Tensor:
        """Unpack to `[m, k, k]`."""
        return packed.index_select(1, self._places).reshape(-1, self.k, self.k)

    def inner(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the sum of the products of all elements of two matrices, row by row, `[m]`."""
        doubled = torch.where(self.upper[0] == self.upper[1], 1.0, 2.0)
        return (left * right) @ doubled


@dataclass(frozen=True, slots=True)
class Rows:
    """Observations as tensors, ordered by interest: what one or more sessions are after."""

    interest: Tensor
    """`[rows]` int64, ascending, of `i` interests; so is `started`, `[s]`, of the sessions."""
    track: Tensor
    time: Tensor
    plays: Tensor
    ends: Tensor
    """`[i]` int64: behind the last row of each interest."""
    started: Tensor
    first: Tensor
    """`[s]` int64: the first track of each session, 0 where it is unknown."""
    share: Tensor
    """`[s]`: how much of it was heard, over the interest's sessions; 0 where it is unknown."""
    session_ends: Tensor
    """`[i]` int64: behind the last session of each interest."""

    @property
    def interests(self) -> int:
        """How many interests there are."""
        return len(self.ends)

    def within(self, start: int, end: int) -> tuple[slice, slice]:
        """Return where the rows and the sessions of some interests are."""
        return _span(self.ends, start, end), _span(self.session_ends, start, end)


@dataclass(slots=True)
class Moments:
    """Sums over all rows that the M step needs; `w` is a row's weight, `z` (taste, mood)."""

    gram: Tensor
    """`[n, packed]`: sum of w E[z z^T] of each track."""
    times_logit: Tensor
    """`[n, k]`: sum of w y E[z]."""
    plain: Tensor
    """`[n, k]`: sum of w E[z]."""
    weight: Tensor
    """`[n]`: sum of w."""
    logit: Tensor
    """`[n]`: sum of w y."""
    openings: Tensor
    """`[k, k]`: sum of f f^T, where f is what a prior's mean is made of."""
    answers: Tensor
    """`[k, k]`: sum of f E[z]^T."""
    spread: Tensor
    """`[k, k]`: sum of the covariance of z around the prior's mean."""
    firsts: Tensor
    """`[n]`: sum of the squared shares of the sessions that began with each track."""
    aims: Tensor
    """`[n, k]`: sum of share times E[z - m], where m is the prior's mean without that track."""
    squares: float = 0.0
    """Sum of w E[(y - z · x)^2]."""

    @staticmethod
    def none(tracks: int, packed: Packed) -> "Moments":
        """Return sums over nothing."""
        k = packed.k
        return Moments(
            torch.zeros(tracks, len(packed)),
            torch.zeros(tracks, k),
            torch.zeros(tracks, k),
            torch.zeros(tracks),
            torch.zeros(tracks),
            torch.zeros(k, k),
            torch.zeros(k, k),
            torch.zeros(k, k),
            torch.zeros(tracks),
            torch.zeros(tracks, k),
        )


def logits(time: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `recsvc.taste.logit_of` returns, for many: logit, variance, at most, at least."""
    fraction = time / share
    most = time < LEAST
    least = ~most & (fraction > MOST - 0.001)
    fraction = fraction.clamp(LEAST, MOST)
    slope = share * fraction * (1.0 - fraction)
    return torch.logit(fraction), 0.01**2 / 12.0 / slope**2, most, least


def expect(
    model: Parameters,
    artist: Tensor,
    rows: Rows,
    means: Tensor | None,
    at_once: int,
    on_sessions: Callable[[int], None],
) -> tuple[Moments, Tensor]:
    """Infer (taste, mood) of all interests; return the sums, and the means `[i, k]`.

    At most `at_once` at a time; `on_sessions` hears how many sessions have been used since.

    A bound (a time of 0.00, or in full) counts as a logit where `means`, of the pass before,
    violate it, and not at all where they keep it.
    """
    packed = Packed(model.dimensions + 1)
    directions = model.directions(artist)
    moments = Moments.none(len(artist), packed)
    found = torch.empty(rows.interests, packed.k)
    precision = torch.linalg.inv(model.spread)
    for start in range(0, rows.interests, at_once):
        end = min(start + at_once, rows.interests)
        before = None if means is None else means[start:end]
        found[start:end] = _block(
            model, directions, precision, packed, rows, (start, end), before, moments
        )
        sessions = rows.within(start, end)[1]
        on_sessions(sessions.stop - sessions.start)
    return moments, found


def _block(
    model: Parameters,
    directions: Tensor,
    precision: Tensor,
    packed: Packed,
    rows: Rows,
    block: tuple[int, int],
    before: Tensor | None,
    moments: Moments,
) -> Tensor:
    """Infer the interests of one block, add to the sums, and return the means `[b, k]`."""
    start, end = block
    span, sessions = rows.within(start, end)
    interest, track = rows.interest[span] - start, rows.track[span]
    seen, local = torch.unique(track, return_inverse=True)
    x = directions[seen]  # [u, k]
    y, rounding, most, least = logits(rows.time[span], model.discount ** rows.plays[span])
    y = y - model.offsets[track]
    started, first = rows.started[sessions] - start, rows.first[sessions]
    share = rows.share[sessions][:, None]
    features = x.new_zeros(end - start, packed.k).index_add_(0, started, directions[first] * share)
    features[:, -1] = 1.0
    prior = features @ model.opening.T  # [b, k]
    predicted = ((prior if before is None else before)[interest] * x[local]).sum(1)
    weight = 1.0 / (model.noise + rounding)
    weight[(most & (predicted < y)) | (least & (predicted > y))] = 0.0

    # 1. The posterior of every interest: [b, k, k] precision, [b, k] mean.
    shape = (end - start, len(seen))
    by_interest = _csr(interest, local, weight, shape)
    informed = packed.full(by_interest @ packed.outer(x)) + precision
    factor = torch.linalg.cholesky(informed)
    pull = prior @ precision + _csr(interest, local, weight * y, shape) @ x
    mean = torch.cholesky_solve(pull[:, :, None], factor)[:, :, 0]
    covariance = torch.cholesky_inverse(factor)

    # 2. What the interests say together of how they show in first tracks.
    error = mean - prior
    moments.openings += features.T @ features
    moments.answers += features.T @ mean
    moments.spread += covariance.sum(0) + error.T @ error

    # 3. What they say of the tracks that their sessions began with.
    led = directions[first][:, :-1] @ model.opening[:, :-1].T * share  # into the prior's mean
    moments.firsts.index_add_(0, first, share[:, 0] ** 2)
    moments.aims.index_add_(0, first, share * (error[started] + led))

    # 4. What they say of each track heard later.
    order = torch.argsort(local, stable=True)
    by_track = _csr(local[order], interest[order], weight[order], (shape[1], shape[0]))
    second = by_track @ packed.pack(covariance + mean[:, :, None] * mean[:, None, :])
    full_y = y + model.offsets[track]
    weighted = _csr(local[order], interest[order], (weight * full_y)[order], (shape[1], shape[0]))
    moments.gram.index_add_(0, seen, second)
    moments.times_logit.index_add_(0, seen, weighted @ mean)
    moments.plain.index_add_(0, seen, by_track @ mean)
    moments.weight.index_add_(0, track, weight)
    moments.logit.index_add_(0, track, weight * full_y)
    fitted = (mean[interest] * x[local]).sum(1)
    moments.squares += float((weight * (y**2 - 2.0 * y * fitted)).sum())
    moments.squares += float(packed.inner(packed.outer(x), second).sum())
    return mean


def _span(ends: Tensor, start: int, end: int) -> slice:
    return slice(int(ends[start - 1]) if start else 0, int(ends[end - 1]))


def _csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Make a sparse matrix of entries sorted by row."""
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows, minlength=shape[0]), 0, out=starts[1:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, size=shape, check_invariants=False)
