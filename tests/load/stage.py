"""What all sections of a benchmark share: where things are, how long to measure, what for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from tests.load.figures import Key, Results
from tests.load.machine import Canary, Cores
from tests.load.servers import Server
from tests.load.store import Store
from tests.load.traffic import Traffic

__all__ = ["Pace", "Stage", "Target"]

T = TypeVar("T")

_DISTURBED = 1.15  # times the canary's best
_REPEATS = 2
_CANARY = Key("canary", "slowest core", "each measurement", "time")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to measure, and how large to go. `seconds` are whole ones, as wrk has it."""

    rounds: int = 3
    seconds: int = 2
    tracks: int = 1_000_000
    listeners: int = 1_000_000
    listened: tuple[int, ...] = (0, 1_000, 10_000, 100_000)
    spare: float = 60.0
    """Seconds that may go into repeating what was disturbed."""
    budget: float = 510.0
    """Seconds after which no section begins."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load, and what it is asked. `store` is None when it has no events."""

    name: str
    server: Server
    traffic: Traffic
    store: Store | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Return where it listens."""
        return "127.0.0.1", self.server.port


@dataclass(slots=True)
class Stage:
    """Where the sections play. `directory` is ours alone; `valkey` is the URL of a server."""

    directory: Path
    valkey: str
    cores: Cores
    canary: Canary
    pace: Pace
    policies: Sequence[str]
    results: Results
    console: Console
    started: float = field(default_factory=time.monotonic)
    repeating: float = 0.0
    """Seconds that went into repeating."""

    @property
    def spent(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() - self.started > self.pace.budget

    def steadily(self, measure: Callable[[], T]) -> T:
        """Measure; again, while the canary says that the machine was disturbed."""
        least, best = self._measured(measure)
        for _ in range(_REPEATS):
            if least < _DISTURBED or self.repeating > self.pace.spare:
                break
            began = time.monotonic()
            slowness, found = self._measured(measure)
            if slowness < least:
                least, best = slowness, found
            self.repeating += time.monotonic() - began
        self.results.add(_CANARY, "times its best", least)
        return best

    def say(self, text: str) -> None:
        """Tell how far we are."""
        self.console.print(text, style="dim", markup=False, highlight=False)

    def complain(self, text: str) -> None:
        """Tell, here and in the results, of something that a figure hides."""
        self.results.notes.append(text)
        self.console.print(text, style="red", markup=False, highlight=False)

    def give_up(self, what: str, why: str) -> None:
        """Tell that something could not be measured."""
        self.results.unmeasured.append(what)
        self.complain(f"{what} could not be measured: {why}")

    def warn_if_disturbed(self) -> None:
        """Complain when the machine was busy with something else for most of the time."""
        canary = self.results.figures.get(_CANARY)
        if canary is not None and canary.median > _DISTURBED:
            self.complain(
                f"the machine was disturbed: a fixed piece of work took {canary.median:.1f} times "
                "as long as at its best, in the median"
            )

    def _measured(self, measure: Callable[[], T]) -> tuple[float, T]:
        before = self.canary.slowness()
        found = measure()
        return max(before, self.canary.slowness()), found
