"""Keeps the live table in memory: finds out what is live, fetches, checks, swaps.

Polling is the truth; the announcement of a publication only makes it come sooner.
Whatever is wrong with a new table, the old one goes on serving.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from recsvc.artifact import Manifest
from recsvc.cache import TableCache
from recsvc.errors import ArtifactError, NotPublishedError, RecsvcError, StoreUnavailableError
from recsvc.recommenders.source import Source
from recsvc.redis.faults import FAULTS
from recsvc.redis.fetch import TableFetch
from recsvc.redis.forgotten import Forgotten
from recsvc.redis.tables import Live, PublishedTables
from recsvc.table import Table, empty

__all__ = ["Loaded", "TableWatch"]

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A table in memory; `since` is when it was put into service, in Unix seconds.

    Before the first one it is a table of nothing, without a manifest.
    """

    source: Source
    manifest: Manifest | None
    since: float


class TableWatch:
    """The `Tables` port: what is live in Redis, as it is in memory.

    `poll` is in seconds. The personal lists of the `forgotten` are held back. `swapped` is
    told of every table put into service, `refused` of every version that was not, with the
    reason.
    """

    def __init__(
        self,
        published: PublishedTables,
        cache: TableCache,
        *,
        poll: float,
        swapped: Callable[[Loaded], None],
        refused: Callable[[str, str], None],
        forgotten: Forgotten | None = None,
    ) -> None:
        self.published = published
        self.forgotten = forgotten or Forgotten(published.client, published.keys)
        self.cache = cache
        self.fetch = TableFetch(published, cache)
        self.poll = poll
        self.loaded = Loaded(Source(empty(), "none"), None, time.time())
        self._swapped = swapped
        self._refused = refused
        self._bad: dict[str, str] = {}
        self._complaint = ""
        self._turn = asyncio.Lock()
        self.live = Live(None, None)  # as last seen

    @property
    def source(self) -> Source:
        """The live table."""
        return self.loaded.source

    async def start(self) -> None:
        """Load what is live, or, when that cannot be had, what was last in use."""
        manifest = await asyncio.to_thread(self.cache.remembered)
        if manifest is not None:
            self.forgotten.look_back_to(manifest.data_until)
        try:
            # A server that hangs is found out by a small question: a start must not wait as
            # long as pieces of a table may.
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self.published.live()
                await self.forgotten.refresh()
            await self.refresh()
        except (RecsvcError, OSError) as error:  # a timeout too; or the disk is full
            self._complaint = str(error) or f"no answer within {_ANSWER_SECONDS:g} s"
            _log.warning("no table from Redis: %s", self._complaint)
        if self.loaded.manifest is None and manifest is not None:
            await self._start_from_disk(manifest)

    async def refresh(self, *, again: bool = False) -> Loaded:
        """Put the live table into service if it is not; return what is in service.

        `again` tries a version that was refused before. Raises `NotPublishedError`,
        `ArtifactError` or `StoreUnavailableError`; the old table then goes on serving.
        """
        async with self._turn:
            self.live = live = await self.published.live()
            if live.version is None:
                raise NotPublishedError("no table is published yet")
            if live.version == self.source.version:
                return self.loaded
            if live.version in self._bad and not again:
                raise ArtifactError(self._bad[live.version])
            try:
                await self._adopt(live.version, live)
            except (ArtifactError, NotPublishedError) as error:
                self._bad[live.version] = str(error)
                self._refused(live.version, str(error))
                raise
            self._bad.clear()
            return self.loaded

    def forget(self, user: int, at_ms: int) -> None:
        """Hold back what the table in service knows of a listener, forgotten at that time."""
        self.forgotten.note(user, at_ms)
        self.source.withhold([user])

    def withhold(self, users: Iterable[int]) -> None:
        """Hold back the same of listeners who were forgotten elsewhere."""
        self.source.withhold(users)

    async def run(self) -> None:
        """Watch for ever; cancel to stop."""
        while True:
            try:
                await self._watch()
            except (*FAULTS, StoreUnavailableError) as error:
                _log.debug("announcements are not to be had: %s", error)
                await asyncio.sleep(self.poll)
                await self._refresh_quietly()

    async def _watch(self) -> None:
        # Only a call makes redis-py look who has which slot of a Cluster; a subscription takes
        # it for granted.
        await self.published.live()
        async with self.published.client.pubsub() as subscription:
            await subscription.subscribe(self.published.keys.channel)
            while True:
                announced = await subscription.get_message(
                    ignore_subscribe_messages=True, timeout=self.poll
                )
                if announced is not None:
                    self._bad.clear()  # what was refused may have been repaired
                await self._refresh_quietly()

    async def _refresh_quietly(self) -> None:
        try:
            await self.refresh()
        except (RecsvcError, OSError) as error:
            # An outage or a bad table is news once, not at every poll.
            if str(error) != self._complaint:
                _log.warning("the table stays as it is: %s", error)
            self._complaint = str(error)
        else:
            self._complaint = ""

    async def _adopt(self, version: str, live: Live) -> None:
        manifest = await self.published.manifest(version)
        table = await self.fetch.table(manifest)
        keep = {v for v in (live.previous, self.source.version) if v is not None}
        self.forgotten.look_back_to(manifest.data_until)
        self.withhold(await self.forgotten.refresh())  # from the old one, should the swap fail
        await self._swap(table, manifest)
        await asyncio.to_thread(self.cache.remember, manifest, keep)

    async def _start_from_disk(self, manifest: Manifest) -> None:
        table = await self.fetch.from_disk(manifest)
        if table is not None:
            self.forgotten.look_back_to(manifest.data_until)
            await self._swap(table, manifest)
            _log.warning("serving table %s from disk", manifest.version)

    async def _swap(self, table: Table, manifest: Manifest) -> None:
        source = await asyncio.to_thread(Source, table, manifest.version)
        source.withhold(self.forgotten.users)
        self.loaded = Loaded(source, manifest, time.time())
        self._swapped(self.loaded)
        _log.info("table %s is in service: %s", manifest.version, manifest.counts)
        if source.session_model is not None and source.native is None:
            _log.info("the policy session answers without its compiled part: docs/performance.md")
