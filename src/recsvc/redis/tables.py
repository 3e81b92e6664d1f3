"""Tables in Redis: published in chunks, then made live by one flip of a pointer."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from recsvc.artifact import Manifest, checksum, parse, render
from recsvc.errors import ArtifactError, NoPreviousTableError, NotPublishedError
from recsvc.redis.commands import Client, Value
from recsvc.redis.faults import store_faults
from recsvc.redis.keys import Keys

__all__ = ["Live", "PublishedTables"]

_AT_ONCE = 2  # chunks in one round trip; whoever else asks the server waits for them
_WRITING_SECONDS = 600.0  # a table younger than this may still be in the writing


@dataclass(frozen=True, slots=True)
class Live:
    """The pointer: which table is live, and which was before it. None: none."""

    version: str | None
    previous: str | None


class PublishedTables:
    """Reads and writes published tables. Every method may raise `StoreUnavailableError`."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    async def live(self) -> Live:
        """Return the pointer."""
        async with store_faults():
            stored = await self.client.hmget(self.keys.live, ["version", "previous"])
        version, previous = (value.decode() if value else None for value in stored)
        return Live(version, previous)

    async def manifest(self, version: str) -> Manifest:
        """Return the manifest of a published table.

        Raises `NotPublishedError`, or `ArtifactError` when it is not valid.
        """
        async with store_faults():
            stored = await self.client.hget(self.keys.table(version), "manifest")
        if stored is None:
            raise NotPublishedError(f"table {version} is not published")
        manifest = parse(stored)
        if manifest.version != version:
            raise ArtifactError(f"table {version} holds the manifest of {manifest.version}")
        return manifest

    async def chunks(self, manifest: Manifest) -> AsyncIterator[bytes]:
        """Yield a table's chunks in order, each checked against the manifest.

        Raises `ArtifactError` for the first that is missing or not as it should be.
        """
        key, count = self.keys.table(manifest.version), len(manifest.chunks)
        for start in range(0, count, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, count))
            async with store_faults():
                stored = await self.client.hmget(key, [str(number) for number in numbers])
            for number, chunk in zip(numbers, stored, strict=True):
                if chunk is None or checksum(chunk) != manifest.chunks[number]:
                    state = "missing" if chunk is None else "damaged"
                    raise ArtifactError(f"chunk {number} of table {manifest.version} is {state}")
                yield chunk

    async def publish(
        self, manifest: Manifest, data: bytes, progress: Callable[[int, int], None] | None = None
    ) -> Live:
        """Write a table and make it live; return the pointer as it then is.

        Until the flip, which is the last step, the old table goes on serving. Of a table that
        is there already, what is missing or damaged is written again. `progress` hears (done,
        all) chunks.
        """
        await self._write(manifest, data, progress or (lambda done, total: None))
        before = await self.live()
        if before.version == manifest.version:
            await self._announce(manifest.version)  # whoever refused it is to try again
            return before
        await self._flip(manifest.version, before.version)
        await self._drop_others(Live(manifest.version, before.version))
        return Live(manifest.version, before.version)

    async def rollback(self) -> Live:
        """Make the previous table live again; a second rollback undoes the first.

        Raises `NoPreviousTableError`, or `ArtifactError` when that table is damaged.
        """
        live = await self.live()
        if live.previous is None:
            raise NoPreviousTableError("there is no earlier table to go back to")
        async for _ in self.chunks(await self.manifest(live.previous)):
            pass  # each is checked
        await self._flip(live.previous, live.version)
        return Live(live.previous, live.version)

    async def _write(
        self, manifest: Manifest, data: bytes, progress: Callable[[int, int], None]
    ) -> None:
        """Write what is not there as it should be."""
        key, count = self.keys.table(manifest.version), len(manifest.chunks)
        async with store_faults():
            await self.client.zadd(self.keys.versions, {manifest.version: time.time()})
            for start in range(0, count, _AT_ONCE):
                numbers = range(start, min(start + _AT_ONCE, count))
                await self._write_chunks(manifest, data, numbers)
                progress(numbers.stop, count)
            # The manifest goes last, so a table that has one had all its chunks.
            if await self.client.hget(key, "manifest") != (sealed := render(manifest)):
                await self.client.hset(key, "manifest", sealed)

    async def _write_chunks(self, manifest: Manifest, data: bytes, numbers: range) -> None:
        key, view, size = self.keys.table(manifest.version), memoryview(data), manifest.chunk_bytes
        stored = await self.client.hmget(key, [str(number) for number in numbers])
        chunks: dict[str, Value] = {
            str(number): bytes(view[number * size : (number + 1) * size])
            for number, chunk in zip(numbers, stored, strict=True)
            if chunk is None or checksum(chunk) != manifest.chunks[number]
        }
        if chunks:
            await self.client.hset(key, mapping=chunks)

    async def _flip(self, version: str, previous: str | None) -> None:
        """Move the pointer, then tell whoever listens."""
        async with store_faults(), self.client.pipeline(transaction=True) as pipe:
            pipe.hset(self.keys.live, "version", version)
            if previous is not None:
                pipe.hset(self.keys.live, "previous", previous)
            await pipe.execute()
        await self._announce(version)

    async def _announce(self, version: str) -> None:
        async with store_faults():
            await self.client.publish(self.keys.channel, version)

    async def _drop_others(self, keep: Live) -> None:
        """Remove tables that are neither live nor previous, unless they are being written."""
        async with store_faults():
            old = await self.client.zrangebyscore(
                self.keys.versions, "-inf", time.time() - _WRITING_SECONDS
            )
            for version in (name.decode() for name in old):
                if version not in (keep.version, keep.previous):
                    await self.client.unlink(self.keys.table(version))
                    await self.client.zrem(self.keys.versions, version)
