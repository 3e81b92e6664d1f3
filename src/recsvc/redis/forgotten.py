"""Who asked to be forgotten, and when: what was known of them before is not to be used."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from recsvc.errors import StoreUnavailableError
from recsvc.redis.commands import Client
from recsvc.redis.faults import store_faults
from recsvc.redis.keys import Keys

__all__ = ["Forgotten", "forgotten_since"]

_log = logging.getLogger(__name__)

_SKEW_MS = 60_000  # by how much the clock of a server that takes over may be behind


async def forgotten_since(
    client: Client, keys: Keys, partition: int, after: int | None = None
) -> dict[int, int]:
    """Return the listeners of a partition who were forgotten, and when (Unix ms).

    Those after a time, or all; raises `StoreUnavailableError`.
    """
    start = "-inf" if after is None else after
    async with store_faults():
        found: list[Any] = await client.zrangebyscore(
            keys.forgotten(partition), start, "+inf", withscores=True
        )
    return {int(user): int(at) for user, at in found}


class Forgotten:
    """The forgotten, as this worker knows them. Their personal lists stay in the table, which
    is never changed, until one is trained without them; so they are held back here.
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._when: dict[int, int] = {}
        self._seen: dict[int, int] = {}  # per partition, up to when

    def note(self, user: int, at_ms: int) -> None:
        """Hold a listener back from now on, without waiting for the next look."""
        self._when[user] = max(at_ms, self._when.get(user, 0))

    def since(self, created_at: str) -> set[int]:
        """Return who was forgotten after a table was made (ISO 8601): it still has their lists."""
        made = int(datetime.fromisoformat(created_at).timestamp() * 1000)
        return {user for user, at in self._when.items() if at >= made}

    async def refresh(self) -> bool:
        """Look who is new; tell whether there is anybody. Raises `StoreUnavailableError`."""
        new = False
        for partition in range(self.keys.partitions):
            seen = self._seen.get(partition)
            after = None if seen is None else seen - _SKEW_MS
            found = await forgotten_since(self.client, self.keys, partition, after)
            for user, at in found.items():
                new |= self._when.get(user, 0) < at
                self.note(user, at)
            if found:
                self._seen[partition] = max(seen or 0, *found.values())
        return new

    async def run(self, every: float, changed: Callable[[], None]) -> None:
        """Look again and again, `every` so many seconds; cancel to stop."""
        while True:
            await asyncio.sleep(every)
            try:
                new = await self.refresh()
            except StoreUnavailableError as error:
                _log.debug("who is forgotten is not to be had: %s", error)
            else:
                if new:
                    changed()
