"""What is foreseen of the best candidates of a session."""

from dataclasses import dataclass

from recsvc.table import Array

__all__ = ["Forecast"]


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What is expected of the best candidates `tracks` `[m]`, the best first.

    `numbers` `[4, m]` are what the properties name.
    """

    tracks: Array
    numbers: Array

    def __len__(self) -> int:
        return len(self.tracks)

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
