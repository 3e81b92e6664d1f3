"""Where the randomness of the draws comes from."""

from collections import Counter
from random import Random

__all__ = ["Draws"]


class Draws:
    """Gives each call the generator for its draws.

    Without a seed all calls share one generator. With a seed, a call's draws depend only
    on the seed, the listener, and how many calls that listener made before, so that an
    experiment comes out the same however its listeners' calls are interleaved. The count
    is kept in this worker's memory: seeded runs are for experiments with one worker.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._shared = Random(seed)
        self._calls: Counter[int] = Counter()

    def of(self, user: int) -> Random:
        """Return the generator for a listener's next call."""
        if self._seed is None:
            return self._shared
        self._calls[user] += 1
        return Random(f"{self._seed}:{user}:{self._calls[user]}")
