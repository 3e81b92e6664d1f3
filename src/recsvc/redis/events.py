"""Reads the streams of events back, as the lines of a listening log."""

from collections.abc import AsyncIterator

import orjson

from recsvc.redis.commands import Client
from recsvc.redis.faults import store_faults
from recsvc.redis.forgotten import forgotten_since
from recsvc.redis.keys import Keys

__all__ = ["read_events"]

_AT_ONCE = 1000


async def read_events(client: Client, keys: Keys) -> AsyncIterator[bytes]:
    """Yield every event there is as one line of JSON, a partition at a time, oldest first.

    Events of a listener who was forgotten later are left out; that they were is an event too,
    so that a log that was read before can drop them. Raises `StoreUnavailableError`.
    """
    for partition in range(keys.partitions):
        forgotten: dict[int, int] | None = None
        start = "-"
        while True:
            async with store_faults():
                entries = await client.xrange(keys.events(partition), start, "+", _AT_ONCE)
            if not entries:
                break
            if forgotten is None:
                forgotten = await forgotten_since(client, keys, partition, _ms(entries[0][0]))
            for entry, fields in entries:
                event = fields[b"event"]
                if not forgotten or not _is_forgotten(entry, event, forgotten):
                    yield event
            start = f"({entries[-1][0].decode()}"


def _is_forgotten(entry: bytes, event: bytes, forgotten: dict[int, int]) -> bool:
    """Tell whether an event stands before the mark of its listener, and note the mark.

    The mark was written at that time or just before, so what was written later is after it.
    In the same millisecond the order of the stream tells: `forgotten` loses who is past it.
    """
    read = orjson.loads(event)
    user = read.get("user")
    until = forgotten.get(user)
    if until is None:
        return False
    if read.get("message") == "forget":
        if read["timestamp"] == until:
            del forgotten[user]
        return False
    return _ms(entry) <= until


def _ms(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])
