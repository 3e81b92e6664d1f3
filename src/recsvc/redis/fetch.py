"""Gets tables from Redis by way of the disk, so that all workers of a machine share one copy."""

import asyncio
import logging

from recsvc.artifact import Manifest
from recsvc.cache import TableCache
from recsvc.errors import ArtifactError
from recsvc.redis.tables import PublishedTables
from recsvc.table import Table

__all__ = ["TableFetch"]

_log = logging.getLogger(__name__)


class TableFetch:
    """Gets tables that were `published` into the `cache`. The disk is waited for in threads."""

    def __init__(self, published: PublishedTables, cache: TableCache) -> None:
        self.published = published
        self.cache = cache

    async def table(self, manifest: Manifest) -> Table:
        """Return a table; one that is not on the disk is put there before.

        Raises `ArtifactError`, `StoreUnavailableError`, or `OSError` of the disk.
        """
        before = await asyncio.to_thread(self.cache.stamp, manifest)
        table = await self.from_disk(manifest)
        if table is not None:
            return table
        lock = await asyncio.to_thread(self.cache.lock)
        try:
            # Unless another worker has done it meanwhile.
            if await asyncio.to_thread(self.cache.stamp, manifest) == before:
                await self._download(manifest)
        finally:
            lock.close()
        table = await asyncio.to_thread(self.cache.open, manifest)
        if table is None:
            raise ArtifactError(f"table {manifest.version} vanished from the cache")
        return table

    async def from_disk(self, manifest: Manifest) -> Table | None:
        """Return a table if it is on the disk, and good."""
        try:
            return await asyncio.to_thread(self.cache.open, manifest)
        except (ArtifactError, OSError) as error:  # it is damaged, or may not be read
            _log.warning("the table on disk is of no use: %s", error)
            return None

    async def _download(self, manifest: Manifest) -> None:
        draft = await asyncio.to_thread(self.cache.draft, manifest)
        try:
            async for chunk in self.published.chunks(manifest):
                await asyncio.to_thread(draft.write, chunk)
            await asyncio.to_thread(draft.finish)
        finally:
            await asyncio.to_thread(draft.close)
