"""Who asked to be forgotten, and when: what was known of them before is not to be used."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from recsvc.errors import StoreUnavailableError
from recsvc.redis.commands import Client
from recsvc.redis.faults import store_faults
from recsvc.redis.keys import Keys

__all__ = ["Forgotten", "forgotten_since"]

_log = logging.getLogger(__name__)

_SKEW_MS = 60_000  # by how much the clock of a server that takes over may be behind


async def forgotten_since(client: Client, keys: Keys, partition: int, after: int) -> dict[int, int]:
    """Return the listeners of a partition who were forgotten after a time, and when (Unix ms).

    Raises `StoreUnavailableError`. Who was forgotten stays noted for ever, so `after` is to be
    as late as it may.
    """
    async with store_faults():
        found: list[Any] = await client.zrangebyscore(
            keys.forgotten(partition), after, "+inf", withscores=True
        )
    return {int(user): int(at) for user, at in found}


class Forgotten:
    """Those whom the table in service may still know, as far as this worker has heard of them.

    They were forgotten after the data ended that it was made from. Their personal lists stay in
    it, for a table is never changed; so they are held back here.
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._since: int | None = None  # Unix ms; None before there is a table
        self._when: dict[int, int] = {}
        self._seen: dict[int, int] = {}  # per partition, up to when

    @property
    def users(self) -> Iterable[int]:
        """The listeners."""
        return self._when

    def look_back_to(self, data_until: str | None) -> None:
        """Know those who were forgotten since a table's data ended (ISO 8601), and no others.

        None: all who ever were.
        """
        ended = 0
        if data_until is not None:
            ended = int(datetime.fromisoformat(data_until).timestamp() * 1000)
        if self._since is None or ended < self._since:
            self._seen.clear()  # there may be more of them
        self._since = ended
        self._when = {user: at for user, at in self._when.items() if at >= ended}

    def note(self, user: int, at_ms: int) -> None:
        """Note a listener from now on, without waiting for the next look."""
        self._when[user] = max(at_ms, self._when.get(user, 0))

    async def refresh(self) -> set[int]:
        """Look who is new, and return them. Raises `StoreUnavailableError`."""
        new: set[int] = set()
        since = self._since
        if since is None:
            return new
        for partition in range(self.keys.partitions):
            seen = self._seen.get(partition, since)
            found = await forgotten_since(
                self.client, self.keys, partition, max(since, seen - _SKEW_MS)
            )
            if self._since != since:  # meanwhile another table came: it looks for itself
                break
            for user, at in found.items():
                if self._when.get(user, 0) < at:
                    new.add(user)
                self.note(user, at)
            self._seen[partition] = max(seen, *found.values(), since)
        return new

    async def run(self, every: float, changed: Callable[[set[int]], None]) -> None:
        """Look again and again, `every` so many seconds; cancel to stop."""
        while True:
            await asyncio.sleep(every)
            try:
                new = await self.refresh()
            except StoreUnavailableError as error:
                _log.debug("who is forgotten is not to be had: %s", error)
            else:
                if new:
                    changed(new)
