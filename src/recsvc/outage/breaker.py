"""When to stop asking a store that does not answer, and when to ask again.

    closed ── `failures` in a row ──> suspicion ── a probe failed, `open` ──> open
    open ── a probe succeeded, `close` ──> closed

While it is open nobody asks but one probe at a time, after pauses that double up to
`longest` and are spread at random, so that many workers do not knock in step.
"""

from random import Random

__all__ = ["Breaker"]

_FIRST = 0.05
_STEADY = 5.0  # a breaker that opens again so soon goes on with longer pauses


class Breaker:
    """A state machine. It asks nobody and has no clock: `now` is in seconds of any clock."""

    def __init__(self, *, failures: int, longest: float, rng: Random) -> None:
        self.most = failures
        self.longest = longest
        self.is_open = False
        self.openings = 0
        self.since = 0.0
        self._failures = 0
        self._probes = 0
        self._rng = rng

    def failed(self) -> bool:
        """Count a failed call; tell whether it is time to open."""
        self._failures += 1
        return self._failures >= self.most

    def succeeded(self) -> None:
        """Count a call that was answered."""
        self._failures = 0

    def open(self, now: float) -> bool:
        """Open it; tell whether it was closed."""
        if self.is_open:
            return False
        if now - self.since > _STEADY:
            self._probes = 0
        self.is_open, self.since = True, now
        self.openings += 1
        return True

    def close(self, now: float) -> None:
        """Close it: a probe succeeded, and whatever had to come before the next call is done."""
        self.is_open, self.since, self._failures = False, now, 0

    def pause(self) -> float:
        """Return the seconds to wait before the next probe."""
        self._probes += 1
        if self._probes == 1:
            return 0.0
        full = min(_FIRST * 2.0 ** min(self._probes - 2, 30), self.longest)
        return full * self._rng.uniform(0.5, 1.0)
