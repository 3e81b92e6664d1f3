"""What is known of interests after what was heard in their sessions: Gaussians, many at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from precompute.inference.sparse import Packed, csr

__all__ = ["Told", "inverse", "posteriors"]


@dataclass(frozen=True, slots=True)
class Told:
    """Rows of some interests: each tells `y = z · x + noise` of its interest's (taste, mood) `z`.

    All but `directions` are `[r]`.
    """

    directions: Tensor
    """`[u, k]`: the `x` of each track that occurs."""
    track: Tensor
    """Index into `directions`."""
    interest: Tensor
    """Ascending from 0."""
    weight: Tensor
    """One over the variance of the noise; 0 where the row says nothing."""
    y: Tensor


def posteriors(told: Told, prior: Tensor, spread: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    """Return mean `[b, k]` and covariance `[b, k, k]` of each interest.

    `prior` `[b, k]` are the means beforehand, `spread` `[k, k]` is the covariance of all.
    """
    longest = int(torch.bincount(told.interest, minlength=1).max())
    by_interest = csr(
        told.interest,
        told.track,
        told.weight * told.y,
        (len(prior), len(told.directions)),
    )
    precision = inverse(spread)
    pull = prior @ precision + by_interest @ told.directions
    if 2 * longest <= packed.k:
        covariance = _of_few(told, longest, len(prior), spread)
    else:
        covariance = _of_many(told, len(prior), precision, packed)
    return (covariance @ pull[:, :, None])[:, :, 0], covariance


def inverse(spread: Tensor) -> Tensor:
    """Return the inverse of a covariance, worked out in double precision.

    Tastes may vary ten thousand times more in one direction than in another. In single precision
    what comes out is then neither symmetric nor positive, and a fit ends in an error.
    """
    found: Tensor = torch.linalg.inv(spread.double()).to(spread.dtype)
    return found


def _of_many(told: Told, count: int, precision: Tensor, packed: Packed) -> Tensor:
    """Return the covariances by inverting the precisions."""
    shape = (count, len(told.directions))
    by_interest = csr(told.interest, told.track, told.weight, shape)
    informed = packed.full(by_interest @ packed.outer(told.directions)) + precision
    return torch.cholesky_inverse(torch.linalg.cholesky(informed))


def _of_few(told: Told, longest: int, count: int, spread: Tensor) -> Tensor:
    """Return the same where no interest has more rows than `longest`, from smaller matrices.

    By the Woodbury identity with the rows `r` of an interest, each times the root of its weight:
    `(spread^-1 + r^T r)^-1 = spread - s^T (1 + r spread r^T)^-1 s` where `s = r spread`.
    """
    k = len(spread)
    begins = torch.searchsorted(told.interest, torch.arange(count))
    place = torch.arange(len(told.interest)) - begins[told.interest]
    rows = spread.new_zeros(count * longest, k)
    rows[told.interest * longest + place] = (
        told.directions[told.track] * told.weight.sqrt()[:, None]
    )
    reached = (rows @ spread).reshape(count, longest, k)
    inner = reached @ rows.reshape(count, longest, k).mT + torch.eye(longest)
    factor = torch.linalg.cholesky(inner)
    explained = torch.linalg.solve_triangular(factor, reached, upper=False)
    covariance: Tensor = spread - explained.mT @ explained
    return covariance
