"""Records on disk that survive a crash: appended, checksummed, numbered, bounded.

A file is records end to end, each a head and a payload. The head is the payload's length
(u32), the CRC-32 of all that follows it (u32), and the record's number (u64), which grows
by one from record to record. A crash can tear only the last record; whoever reads stops
there, and keeps everything before.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsvc.errors import SpoolFullError

__all__ = ["Entry", "SpoolFile", "first_number", "frame", "read_records", "scan"]

_HEAD = struct.Struct("<II")
_NUMBER = struct.Struct("<Q")
_LONGEST = 1 << 20  # a length beyond this is damage, not a record


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as read: its number, its payload, and the offset of what comes after it."""

    number: int
    payload: bytes
    end: int


def frame(number: int, payload: bytes) -> bytes:
    """Return a record as it is written."""
    numbered = _NUMBER.pack(number)
    checksum = zlib.crc32(payload, zlib.crc32(numbered))
    return b"%b%b%b" % (_HEAD.pack(len(payload), checksum), numbered, payload)


def scan(data: bytes, start: int = 0) -> Iterator[Entry]:
    """Yield the records in `data` from offset `start` on, up to the first that is not whole."""
    while start + _HEAD.size + _NUMBER.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, start)
        body, end = start + _HEAD.size, start + _HEAD.size + _NUMBER.size + length
        if length > _LONGEST or end > len(data) or zlib.crc32(data[body:end]) != checksum:
            return
        (number,) = _NUMBER.unpack_from(data, body)
        yield Entry(number, data[body + _NUMBER.size : end], end)
        start = end


def read_records(path: Path) -> list[Entry]:
    """Return the records of a file that may be torn at its end, none when there is no file."""
    try:
        return list(scan(path.read_bytes()))
    except FileNotFoundError:
        return []


def first_number(path: Path) -> int:
    """Return the number of a file's first record, 0 when there is none."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size + _NUMBER.size)
    except FileNotFoundError:
        return 0
    return int(_NUMBER.unpack_from(head, _HEAD.size)[0]) if len(head) > _HEAD.size + 7 else 0


class SpoolFile:
    """A file of records, open for one writer.

    `most` bounds it in bytes. Numbers go on from what the file holds; a torn end is cut off.
    Methods block; a record is with the kernel when `append` returns, and on disk when
    `sync` has returned after that.
    """

    def __init__(self, path: Path, most: int, *, first: int = 1) -> None:
        self.path = path
        self.most = most
        kept = read_records(path)
        self.size = kept[-1].end if kept else 0
        self.next = kept[-1].number + 1 if kept else first
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.truncate(self._file, self.size)
        os.lseek(self._file, self.size, os.SEEK_SET)

    def append(self, payloads: Sequence[bytes]) -> None:
        """Add records; all of them or, with `OSError` or `SpoolFullError`, none."""
        data = b"".join([frame(self.next + i, payload) for i, payload in enumerate(payloads)])
        if self.size + len(data) > self.most:
            raise SpoolFullError(f"{self.path.name} may have at most {self.most} bytes")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:] if written else data)
        except OSError:
            self._cut(self.size)  # a half written record would hide those after it
            raise
        self.size += len(data)
        self.next += len(payloads)

    def sync(self) -> None:
        """Return when everything appended is on disk."""
        os.fdatasync(self._file)

    def read(self, start: int, most: int) -> list[Entry]:
        """Return the records from offset `start` on, in about `most` bytes of file, or one."""
        length = max(min(most, self.size - start), 0)
        found = list(scan(os.pread(self._file, length, start)))
        if not found and length < self.size - start:
            found = list(scan(os.pread(self._file, _LONGEST + 64, start)))[:1]
        return [Entry(e.number, e.payload, start + e.end) for e in found]

    def clear(self) -> None:
        """Remove all records; numbers go on."""
        self._cut(0)
        self.size = 0

    def close(self) -> None:
        """Close the file; what is in it stays."""
        os.close(self._file)

    def _cut(self, size: int) -> None:
        os.ftruncate(self._file, size)
        os.lseek(self._file, size, os.SEEK_SET)
