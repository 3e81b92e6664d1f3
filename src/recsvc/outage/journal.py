"""What was acknowledged in the last seconds, in case the session store loses it.

A store that syncs its file every second acknowledges writes that it may lose when it is
killed. So a worker also writes each answer here before it goes out. Nobody waits for the
disk: what a killed process has handed to the kernel is safe; only a power cut takes it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from recsvc.errors import SpoolFullError
from recsvc.outage.mapped import MappedFile
from recsvc.outage.spool import Entry, first_number, read_records

__all__ = ["Journal", "read_journal"]

_FILES = ("recent-0", "recent-1")


class Journal:
    """The records of the last `keep` seconds at least, in two files that take turns.

    `most` bounds each of them in bytes; with more to write, less than `keep` seconds are
    kept. `clock` returns seconds and never goes back. Methods do not raise `OSError`: a
    disk that fails is counted in `failed`, and must not cost anybody an answer.
    """

    def __init__(
        self, directory: Path, *, keep: float, most: int, clock: Callable[[], float]
    ) -> None:
        self.keep = keep
        self.failed = 0
        self._clock = clock
        self._turned = clock()
        self._now, self._before = (MappedFile(directory / name, most) for name in _FILES)

    def append(self, payload: bytes) -> None:
        """Add a record, forgetting those that are old enough."""
        try:
            if self._now.size and self._clock() - self._turned > self.keep:
                self._turn()
            try:
                self._now.add(payload)
            except SpoolFullError:
                self._turn()
                self._now.add(payload)
        except (OSError, SpoolFullError):
            self.failed += 1

    def append_all(self, payloads: Sequence[bytes]) -> None:
        """Add records that came together."""
        try:
            if self._now.size and self._clock() - self._turned > self.keep:
                self._turn()
            self._now.append(payloads)
        except (OSError, SpoolFullError):
            for payload in payloads:
                self.append(payload)

    def tidy(self) -> None:
        """Forget those that are old enough, also where nothing is added any more."""
        if (self._now.size or self._before.size) and self._clock() - self._turned > self.keep:
            with suppress(OSError):
                self._turn()

    def close(self) -> None:
        """Close the files; what is in them stays."""
        self._now.close()
        self._before.close()

    def _turn(self) -> None:
        self._now, self._before = self._before, self._now
        self._now.clear()
        self._now.next = self._before.next
        self._turned = self._clock()


def read_journal(directory: Path) -> Iterator[list[Entry]]:
    """Yield the records of a journal, which may be in use: those of each file, newest first."""
    files = [directory / name for name in _FILES]
    for path in sorted(files, key=first_number, reverse=True):
        yield read_records(path)[::-1]
