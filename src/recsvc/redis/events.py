"""Reads the streams of events back, as the lines of a listening log."""

from collections.abc import AsyncIterator

from recsvc.redis.commands import Client
from recsvc.redis.faults import store_faults
from recsvc.redis.keys import Keys

__all__ = ["read_events"]

_AT_ONCE = 1000


async def read_events(client: Client, keys: Keys) -> AsyncIterator[bytes]:
    """Yield every event there is as one line of JSON, a partition at a time, oldest first.

    Raises `StoreUnavailableError`.
    """
    for partition in range(keys.partitions):
        start = "-"
        while True:
            async with store_faults():
                entries = await client.xrange(keys.events(partition), start, "+", _AT_ONCE)
            if not entries:
                break
            for _, fields in entries:
                yield fields[b"event"]
            start = f"({entries[-1][0].decode()}"
