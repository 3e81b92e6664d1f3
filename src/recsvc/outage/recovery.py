"""Brings the session store up to date after an outage, a crash of its own, or of a worker.

Each worker keeps its records in a directory of its own, which it holds by a lock. What a
worker leaves behind, the others take over when its lock is free. Nothing here is done
twice: the store remembers, with each write, how far the records of a directory have been
written, so that doing it again changes nothing. Therefore whatever was written stays here
for some seconds more: a store that is killed may lose it together with that mark.
"""

import asyncio
import fcntl
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from secrets import token_hex

from recsvc.errors import RecordError, RefusedError
from recsvc.outage.journal import Journal, read_journal
from recsvc.outage.outbox import Outbox
from recsvc.outage.record import Numbered, Record, Replay, unpack
from recsvc.outage.spool import Entry, read_records

__all__ = ["Recovery"]

_log = logging.getLogger(__name__)

_SPOOL, _RECENT, _LOCK = "spool", "recent", "lock"
_KINDS = (_SPOOL, _RECENT)  # of records that a worker keeps
_CHECKED = 200  # records looked up at once
_WRITTEN = 1 << 18  # bytes of records written at once
_STEADY = 5.0  # seconds after which what the store has acknowledged is safe there


@dataclass(slots=True)
class _Left:
    """The directory of a worker that is no more; `lock` is ours now."""

    path: Path
    lock: int
    size: int  # bytes of its spool
    settled: bool = False


@dataclass(slots=True)
class _Tally:
    """What has happened so far."""

    replayed: int = 0
    damaged: int = 0
    restored: int = 0
    latest: dict[str, int] = field(default_factory=dict)  # number by source


class Recovery:
    """The records of this worker and of those that are no more, and their way to the store.

    `replayed` is told of each record once, when it is certain that the store has it.
    `probe` returns if the store works, and raises `StoreUnavailableError` if not. `most`
    bounds a worker's spool in bytes; the store has so many `streams`. `clock` returns seconds
    and never goes back.
    """

    def __init__(
        self,
        base: Path,
        replay: Replay,
        *,
        most: int,
        streams: int,
        clock: Callable[[], float],
        replayed: Callable[[Record], None],
        probe: Callable[[], Awaitable[None]],
    ) -> None:
        self.base = base
        self.replay = replay
        self.streams = streams
        self.tally = _Tally()
        self._clock = clock
        self._replayed = replayed
        self._probe = probe
        self._name = token_hex(8)
        directory = base / self._name
        directory.mkdir(parents=True, mode=0o700)
        lock = _lock(directory)
        assert lock is not None  # noqa: S101 (nobody else knows the name)
        self._lock = lock
        self.outbox = Outbox(directory / _SPOOL, most)
        self.journal = Journal(directory, keep=_STEADY, most=most, clock=clock)
        self._left: list[_Left] = []
        self._since = clock()  # when the last write was

    @property
    def behind(self) -> int:
        """Bytes that are to be written."""
        return self.outbox.behind + sum(left.size for left in self._left if not left.settled)

    def go_back(self) -> None:
        """Begin again with everything that is still here: the store may have lost it."""
        self.outbox.go_back()
        for left in self._left:
            left.settled = False

    async def restore(self) -> None:
        """Write what the store had acknowledged and has lost; raises `StoreUnavailableError`.

        To be done before it is asked anything: a session that has lost its latest tracks
        would serve them again. All workers' journals are looked at, for the others may not
        have noticed yet.
        """
        directories = [path for path in self.base.iterdir() if path.is_dir()]
        found = [await self._lost(directory) for directory in directories]
        # In the order of time, for several workers may have answered in one session, or one in
        # the session that another had ended. Each worker's own stay in their order.
        lost = list(merge(*found, key=_at))
        if lost:
            written, _ = await self._write_all(lost)
            self.tally.restored += written
            self._since = self._clock()
            if written:
                _log.warning("wrote %d events again that Redis had lost", written)

    async def drain(self) -> None:
        """Write what the store has never had, until nothing is left.

        Raises `StoreUnavailableError`; what has not been written then stays.
        """
        for left in self._left:
            if not left.settled:
                entries = await asyncio.to_thread(read_records, left.path / _SPOOL)
                for start in range(0, len(entries), 500):
                    await self._write(f"{left.path.name}:{_SPOOL}", entries[start : start + 500])
                left.settled = True
        while entries := await self.outbox.take(_WRITTEN):
            await self._write(f"{self._name}:{_SPOOL}", entries)
            self.outbox.move_on(entries)

    async def tidy(self) -> None:
        """Remove what is certainly in the store, and take over what nobody owns any more.

        To be called every second or so while the store works.
        """
        self.journal.tidy()
        if self._clock() - self._since > _STEADY and not self.behind:
            await self.outbox.clear()
            while self._left:
                left = self._left[-1]
                await self.replay.forget(*(f"{left.path.name}:{kind}" for kind in _KINDS))
                await asyncio.to_thread(shutil.rmtree, left.path, ignore_errors=True)
                os.close(left.lock)
                self._left.pop()
        found = await asyncio.to_thread(self._take_over)
        if found:
            self._left += found
            self._since = self._clock()
            await self.restore()

    async def close(self) -> None:
        """Let go of everything; whatever is left, the next worker takes over."""
        await self.outbox.close()
        self.journal.close()
        for left in self._left:
            os.close(left.lock)
        os.close(self._lock)

    def _take_over(self) -> list[_Left]:
        mine = {self._name, *(left.path.name for left in self._left)}
        found = []
        for path in self.base.iterdir():
            if path.name not in mine and path.is_dir():
                lock = _lock(path)
                if lock is not None:
                    spool = path / _SPOOL
                    found.append(_Left(path, lock, spool.stat().st_size if spool.exists() else 0))
        return found

    async def _lost(self, directory: Path) -> list[Numbered]:
        """Find the records of a journal that the store has lost, oldest first.

        A store loses the end of what it wrote, so the search goes back from the newest and
        ends where nothing is missing: after so many records that all streams had some.
        """
        lost: list[Numbered] = []
        source = f"{directory.name}:{_RECENT}"
        at_once = _CHECKED * self.streams
        journal = read_journal(directory)
        while (entries := await asyncio.to_thread(next, journal, None)) is not None:
            for start in range(0, len(entries), at_once):
                part = self._records(source, entries[start : start + at_once])
                missing = await self.replay.lost(part)
                if not missing:
                    return lost
                lost = missing + lost
        return sorted(lost, key=lambda one: one.number)

    async def _write(self, source: str, entries: Sequence[Entry]) -> None:
        records = self._records(source, entries)
        _, refused = await self._write_all(records)
        self._since = self._clock()
        latest = self.tally.latest.get(source, 0)
        for _, number, record in records:
            if number > latest:  # not when it is done again
                self.tally.latest[source] = number
                self.tally.replayed += record.event["id"] not in refused
                self._replayed(record)

    async def _write_all(self, records: Sequence[Numbered]) -> tuple[int, set[str]]:
        """Write records; return how many events that made, and the ids of those refused."""
        try:
            return await self.replay.write(records), set()
        except RefusedError:
            return await self._write_singly(records)

    async def _write_singly(self, records: Sequence[Numbered]) -> tuple[int, set[str]]:
        """Write records one by one: what the store will never take must not hold up the rest.

        A store that cannot be reached has not refused anything.
        """
        written, refused = 0, set[str]()
        for one in records:
            try:
                written += await self.replay.write([one])
            except RefusedError as error:
                await self._probe()  # raises if it is the store, and not the record
                refused.add(one.record.event["id"])
                self.tally.damaged += 1
                _log.error("Redis refuses the event %s: %s", one.record.event["id"], error)
        return written, refused

    def _records(self, source: str, entries: Iterable[Entry]) -> list[Numbered]:
        found = []
        for entry in entries:
            try:
                found.append(Numbered(source, entry.number, unpack(entry.payload)))
            except RecordError as error:
                self.tally.damaged += 1
                _log.error("an event of the spool is lost: %s", error)
        return found


def _at(one: Numbered) -> int:
    at: int = one.record.event["timestamp"]
    return at


def _lock(directory: Path) -> int | None:
    """Take a directory's lock, None when somebody has it; it is free when its owner ends."""
    try:
        file = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # removed just now
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
