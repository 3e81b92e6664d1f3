"""Answers that the session store has yet to learn of: on disk before they go out."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from recsvc.errors import SpoolFullError
from recsvc.outage.spool import Entry, SpoolFile

__all__ = ["Outbox"]


class Outbox:
    """A file of records that is filled by many and emptied by one.

    A sync takes milliseconds, so it is done in a thread, and one serves all who wait.
    What has been read stays in the file until `clear`: a store that is killed may lose it
    once more. `most` bounds the file in bytes.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._file = SpoolFile(path, most)
        self.syncs = 0  # so far
        self._read = 0  # offset up to which records were taken
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # whoever uses the file, the threads among them

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.size

    @property
    def behind(self) -> int:
        """Bytes that have not been taken yet."""
        return self._file.size - self._read

    async def append(self, payload: bytes) -> None:
        """Add a record; it is on disk on return.

        Raises `SpoolFullError` or `OSError` when it could not be kept. Who stops waiting
        does not take it back.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((payload, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name="outbox")
        await future

    async def take(self, most: int) -> list[Entry]:
        """Return the next records, about `most` bytes of them, without moving on."""
        async with self._turn:
            return await asyncio.to_thread(self._file.read, self._read, most)

    def move_on(self, entries: Sequence[Entry]) -> None:
        """Go on after `entries` with the next `take`."""
        self._read = entries[-1].end

    def go_back(self) -> None:
        """Begin at the beginning with the next `take`."""
        self._read = 0

    async def clear(self) -> None:
        """Remove all records, if all of them were taken."""
        async with self._turn:
            if not self.behind and self._file.size:
                await asyncio.to_thread(self._file.clear)
                self._read = 0

    async def close(self) -> None:
        """Close the file when all that was appended is on disk."""
        if self._writer is not None:
            await self._writer
        self._file.close()

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            async with self._turn:
                failures = await asyncio.to_thread(self._write, [payload for payload, _ in batch])
            for (_, future), failure in zip(batch, failures, strict=True):
                if future.done():  # whoever waited has gone
                    continue
                if failure is None:
                    future.set_result(None)
                else:
                    future.set_exception(failure)
        self._writer = None

    def _write(self, payloads: Sequence[bytes]) -> list[Exception | None]:
        """Write records and sync; return for each why it was not kept."""
        failures: list[Exception | None] = []
        for part in (payloads,) if self._fits(payloads) else ([p] for p in payloads):
            try:
                self._file.append(part)
            except (OSError, SpoolFullError) as error:
                failures += [error] * len(part)
            else:
                failures += [None] * len(part)
        self.syncs += 1
        try:
            self._file.sync()
        except OSError as error:
            return [failure or error for failure in failures]
        return failures

    def _fits(self, payloads: Sequence[bytes]) -> bool:
        return self._file.size + sum(len(p) + 16 for p in payloads) <= self._file.most
