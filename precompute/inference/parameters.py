"""What a fit of the session model changes, and the settings that it keeps."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Parameters", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the session model is fitted."""

    dimensions: int = 48
    """Length of a track's vector."""
    iterations: int = 20
    """Passes over the rows. A warm start needs two thirds of them."""
    finishing: int = 3
    """Passes at the end, over the validation sessions too: the latest are the most telling."""
    momentum: float = 0.9
    """How far a pass is carried on in its direction, at most; 0 leaves passes alone."""
    artist_scale: float = 0.15
    """Standard deviation that an artist's vector is expected to have in each dimension."""
    track_scale: float = 0.06
    """The same of what sets a track apart from its artist: tracks heard seldom borrow."""
    offset_rows: float = 4.0
    """A track's offset is drawn to 0 as if by so many rows of unit weight."""
    least_noise: float = 0.5
    """Variance that a fit does not explain: one that explains all of its log errs elsewhere."""
    interests_at_once: int = 4096
    """Bounds the memory: about 5 KB an interest and a track of theirs."""
    leaf: int = 16
    """Tracks in a leaf of the search for the best."""

    def passes(self, *, warm: bool) -> int:
        """Return how many passes the first stage takes."""
        return max(self.iterations * 2 // 3, 1) if warm else self.iterations


@dataclass(slots=True)
class Parameters:
    """The session model while it is fitted; `a` artists, `n` tracks, `d`, `k` = `d` + 1."""

    artists: Tensor
    """`[a, d]`: a vector for each artist."""
    deviations: Tensor
    """`[n, d]`: what sets each track apart from its artist."""
    offsets: Tensor
    """`[n]`."""
    opening: Tensor
    """`[k, k]`: see `recsvc.taste.SessionModel`; so are `spread`, `noise` and `discount`."""
    spread: Tensor
    """`[k, k]`."""
    noise: float
    discount: float

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self.artists.shape[1]

    def vectors(self, artist: Tensor) -> Tensor:
        """Return every track's vector, `[n, d]`; `artist` `[n]` is its artist."""
        return self.artists[artist] + self.deviations

    def directions(self, artist: Tensor) -> Tensor:
        """Return `(v, 1)` of every track, `[n, k]`."""
        vectors = self.vectors(artist)
        return torch.cat([vectors, vectors.new_ones(len(vectors), 1)], 1)
