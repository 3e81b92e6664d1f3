"""Records on disk as in `spool`, written by way of mapped memory.

To write a record costs a copy in memory in place of a call of the system, and what is in mapped
memory is as safe as what was written: when the process is killed, the kernel has it.
"""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from recsvc.errors import SpoolFullError
from recsvc.outage.spool import frame, read_records

__all__ = ["MappedFile"]

_WINDOW = 1 << 18  # bytes that are mapped at once


class MappedFile:
    """A file of records, open for one writer, that is never synced.

    `most` bounds it in bytes. Numbers go on from what the file holds; a torn end is cut off.
    What is mapped of it and has no record yet is zero, at which whoever reads records stops.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self.most = most
        kept = read_records(path)
        self.size = kept[-1].end if kept else 0
        self.next = kept[-1].number + 1 if kept else 1
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.truncate(self._file, self.size)
        self._window: mmap.mmap | None = None
        self._start = self._end = self.size  # of what is mapped

    def add(self, payload: bytes) -> None:
        """Add a record, or raise `OSError` or `SpoolFullError`."""
        self._write(frame(self.next, payload), 1)

    def append(self, payloads: Sequence[bytes]) -> None:
        """Add records; all of them or, with `OSError` or `SpoolFullError`, none."""
        framed = [frame(self.next + i, payload) for i, payload in enumerate(payloads)]
        self._write(b"".join(framed), len(payloads))

    def clear(self) -> None:
        """Remove all records; numbers go on."""
        self._unmap()
        os.ftruncate(self._file, 0)
        self.size = self._start = self._end = 0

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._unmap()
        os.ftruncate(self._file, self.size)
        os.close(self._file)

    def _write(self, data: bytes, count: int) -> None:
        end = self.size + len(data)
        window = self._window
        if window is None or end > self._end:
            window = self._map(end)
        window[self.size - self._start : end - self._start] = data
        self.size = end
        self.next += count

    def _map(self, end: int) -> mmap.mmap:
        """Map what comes next of the file, up to `end` at least."""
        if end > self.most:
            raise SpoolFullError(f"{self.path.name} may have at most {self.most} bytes")
        start = self.size - self.size % mmap.ALLOCATIONGRANULARITY
        stop = min(max(start + _WINDOW, end), self.most)
        # A disk that is full is to be found out now: later it would end the process.
        os.posix_fallocate(self._file, self.size, stop - self.size)
        self._unmap()
        self._window = mmap.mmap(self._file, stop - start, offset=start)
        self._start, self._end = start, stop
        return self._window

    def _unmap(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.close()
