"""What is foreseen of the best candidates of a session."""

from dataclasses import dataclass

import numpy as np

from recsvc.table import Array
from recsvc.tracks import Ids, pack_tracks, packed_tracks

__all__ = ["Forecast"]

_FLOAT32 = np.dtype("<f4")


@dataclass(slots=True, eq=False)
class Forecast:
    """What is expected of the best `m` candidates, the best first.

    Only `/explain` looks at the numbers, so all is kept as bytes.
    """

    packed_tracks: bytes
    packed_numbers: bytes
    """`[4, m]` float32: what the properties name, one after the other."""

    @classmethod
    def of(cls, tracks: Ids, numbers: Array) -> "Forecast":
        """Return the forecast of `tracks` `[m]`; `numbers` are `[4, m]`."""
        return cls(pack_tracks(tracks), numbers.astype(_FLOAT32, copy=False).tobytes())

    def __len__(self) -> int:
        return len(self.packed_tracks) // 8

    @property
    def tracks(self) -> Ids:
        """The ids."""
        return packed_tracks(self.packed_tracks)

    @property
    def numbers(self) -> Array:
        """All of the following, `[4, m]`."""
        return np.frombuffer(self.packed_numbers, _FLOAT32).reshape(4, -1)

    @property
    def times(self) -> Array:
        """How much will be heard: `discounts` times the mean of the logistic of a Gaussian."""
        return self._row(0)

    @property
    def discounts(self) -> Array:
        """What a time is multiplied with for earlier plays of the artist."""
        return self._row(1)

    @property
    def logits(self) -> Array:
        """The mean of that Gaussian."""
        return self._row(2)

    @property
    def deviations(self) -> Array:
        """Its standard deviation."""
        return self._row(3)

    def _row(self, index: int) -> Array:
        row: Array = self.numbers[index]
        return row
