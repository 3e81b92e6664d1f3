"""The M step: the model that explains best what the sessions were after."""

import torch
from torch import Tensor

from precompute.inference.expectation import Moments, Packed
from precompute.inference.parameters import Parameters, Settings

__all__ = ["maximise"]

_SWEEPS = 3  # over artists, then tracks: each is exact given the other
_TRACKS_AT_ONCE = 8192
_LEAST_NOISE = 0.02
_JITTER = 1e-3


def maximise(
    model: Parameters, moments: Moments, artist: Tensor, sessions: int, settings: Settings
) -> None:
    """Replace everything but the discount, in place; `artist` `[n]` is each track's artist."""
    k = model.dimensions + 1
    packed = Packed(k)
    ridge = torch.eye(k) * 10.0
    model.opening = torch.linalg.solve(moments.openings + ridge, moments.answers).T.contiguous()
    model.spread = moments.spread / sessions + torch.eye(k) * _JITTER
    model.noise = max(moments.squares / max(float(moments.weight.sum()), 1.0), _LEAST_NOISE)
    # What each track's vector is to explain, [n, d]: the mood and the offset do the rest.
    d = model.dimensions
    gram = packed.full(moments.gram)
    wanted = moments.times_logit - model.offsets[:, None] * moments.plain
    wanted = wanted[:, :d] - gram[:, :d, d]
    gram = gram[:, :d, :d]
    by_artist = torch.zeros(len(model.artists), d, d).index_add_(0, artist, gram)
    for _ in range(_SWEEPS):
        left = wanted - torch.einsum("tij,tj->ti", gram, model.deviations)
        pooled = torch.zeros_like(model.artists).index_add_(0, artist, left)
        model.artists = _ridge(by_artist, pooled, settings.artist_scale)
        left = wanted - torch.einsum("tij,tj->ti", gram, model.artists[artist])
        model.deviations = _ridge(gram, left, settings.track_scale)
    explained = (model.directions(artist) * moments.plain).sum(1)
    model.offsets = (moments.logit - explained) / (moments.weight + settings.offset_rows)


def _ridge(gram: Tensor, wanted: Tensor, scale: float) -> Tensor:
    """Solve `(gram + I / scale^2) x = wanted` for each of many, `[m, d]`."""
    found = torch.empty_like(wanted)
    penalty = torch.eye(wanted.shape[1]) / scale**2
    for start in range(0, len(wanted), _TRACKS_AT_ONCE):
        rows = slice(start, start + _TRACKS_AT_ONCE)
        factor = torch.linalg.cholesky(gram[rows] + penalty)
        found[rows] = torch.cholesky_solve(wanted[rows, :, None], factor)[:, :, 0]
    return found
