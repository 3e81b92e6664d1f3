"""The E step: what sessions were after, given the model, and what that says of the tracks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from precompute.inference.parameters import Parameters
from precompute.inference.posterior import Told, posteriors
from precompute.inference.rows import Rows
from precompute.inference.sparse import Packed, csr
from recsvc.taste import LEAST, MOST

__all__ = ["Moments", "expect"]


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
    for start in range(0, rows.interests, at_once):
        end = min(start + at_once, rows.interests)
        before = None if means is None else means[start:end]
        found[start:end] = _block(model, directions, packed, rows, (start, end), before, moments)
        sessions = rows.within(start, end)[1]
        on_sessions(sessions.stop - sessions.start)
    return moments, found


def _block(
    model: Parameters,
    directions: Tensor,
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

    # 1. The posterior of every interest: [b, k] mean, [b, k, k] covariance.
    told = Told(x, local, interest, weight, y)
    mean, covariance = posteriors(told, prior, model.spread, packed)

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
    order, shape = torch.argsort(local, stable=True), (len(seen), end - start)
    by_track = csr(local[order], interest[order], weight[order], shape)
    second = by_track @ packed.pack(covariance + mean[:, :, None] * mean[:, None, :])
    full_y = y + model.offsets[track]
    weighted = csr(local[order], interest[order], (weight * full_y)[order], shape)
    moments.gram.index_add_(0, seen, second)
    moments.times_logit.index_add_(0, seen, weighted @ mean)
    moments.plain.index_add_(0, seen, by_track @ mean)
    moments.weight.index_add_(0, track, weight)
    moments.logit.index_add_(0, track, weight * full_y)
    fitted = (mean[interest] * x[local]).sum(1)
    moments.squares += float((weight * (y**2 - 2.0 * y * fitted)).sum())
    moments.squares += float(packed.inner(packed.outer(x), second).sum())
    return mean
