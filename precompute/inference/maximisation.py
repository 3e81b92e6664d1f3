"""The M step: the model that explains best what the sessions were after."""

import torch
from torch import Tensor

from precompute.inference.expectation import Moments
from precompute.inference.parameters import Parameters, Settings
from precompute.inference.posterior import inverse
from precompute.inference.sparse import Packed

__all__ = ["maximise"]

_TRACKS_AT_ONCE = 8192
_JITTER = 1e-3
_OPENING_RIDGE = 10.0


def maximise(
    model: Parameters, moments: Moments, artist: Tensor, interests: int, settings: Settings
) -> None:
    """Replace everything but the discount, in place; `artist` `[n]` is each track's artist."""
    ridge = torch.eye(model.dimensions + 1)
    _vectors(model, _Told(model, moments), artist, settings)
    openings = moments.openings + ridge * _OPENING_RIDGE
    opening = torch.linalg.solve(openings.double(), moments.answers.double())
    model.opening = opening.T.to(ridge.dtype).contiguous()
    model.spread = moments.spread / interests + ridge * _JITTER
    noise = moments.squares / max(float(moments.weight.sum()), 1.0)
    model.noise = max(noise, settings.least_noise)
    explained = (model.directions(artist) * moments.plain).sum(1)
    model.offsets = (moments.logit - explained) / (moments.weight + settings.offset_rows)


class _Told:
    """What is told of each track's vector `v`: what explains it best solves `gram v = wanted`.

    Two things tell of it: how the track was heard, mood and offset left out, and what was liked
    in the sessions that it began, since `led @ v * share` of that is its doing, give or take the
    spread.
    """

    def __init__(self, model: Parameters, moments: Moments) -> None:
        self._packed, self._d = Packed(model.dimensions + 1), model.dimensions
        self._moments = moments
        led = model.opening[:, : self._d]  # from a first track's vector to what is liked after it
        pull = led.T @ inverse(model.spread)
        self._of_first: Tensor = pull @ led
        self.wanted = (moments.times_logit - model.offsets[:, None] * moments.plain)[:, : self._d]
        """`[n, d]`."""
        for rows in _pieces(len(self.wanted)):
            self.wanted[rows] -= self._packed.full(moments.gram[rows])[:, : self._d, self._d]
        self.wanted += moments.aims @ pull.T

    def gram(self, rows: slice) -> Tensor:
        """Return those of some tracks, `[m, d, d]`; all at once would be too many."""
        heard: Tensor = self._packed.full(self._moments.gram[rows])[:, : self._d, : self._d]
        return heard + self._moments.firsts[rows, None, None] * self._of_first


def _vectors(model: Parameters, told: _Told, artist: Tensor, settings: Settings) -> None:
    """Solve for the artists' vectors given the tracks', then the other way round.

    A piece of the tracks at a time. To take more turns is left to the next pass.
    """
    wanted, pieces, d = told.wanted, _pieces(len(told.wanted)), model.dimensions
    by_artist, pooled = torch.zeros(len(model.artists), d, d), torch.zeros_like(model.artists)
    for rows in pieces:
        gram = told.gram(rows)
        by_artist.index_add_(0, artist[rows], gram)
        pooled.index_add_(0, artist[rows], wanted[rows] - _times(gram, model.deviations[rows]))
    model.artists = torch.cat(
        [_ridge(by_artist[r], pooled[r], settings.artist_scale) for r in _pieces(len(pooled))]
    )
    solved = []
    for rows in pieces:
        gram = told.gram(rows)
        left = wanted[rows] - _times(gram, model.artists[artist[rows]])
        solved.append(_ridge(gram, left, settings.track_scale))
    model.deviations = torch.cat(solved)


def _pieces(count: int) -> list[slice]:
    return [slice(i, min(i + _TRACKS_AT_ONCE, count)) for i in range(0, count, _TRACKS_AT_ONCE)]


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Multiply each of many matrices `[m, d, d]` with its vector, `[m, d]`."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _ridge(gram: Tensor, wanted: Tensor, scale: float) -> Tensor:
    """Solve `(gram + I / scale^2) x = wanted` for each of many, `[m, d]`."""
    factor = torch.linalg.cholesky(gram + torch.eye(wanted.shape[1]) / scale**2)
    return torch.cholesky_solve(wanted[:, :, None], factor)[:, :, 0]
