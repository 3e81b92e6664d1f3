"""Where one service keeps its things, and a table put there for it."""

import asyncio
from dataclasses import dataclass

from recsvc import artifact
from recsvc.packing import pack
from recsvc.redis.connection import connect
from recsvc.redis.keys import Keys
from recsvc.redis.tables import PublishedTables
from recsvc.table import Table

__all__ = ["Store"]


@dataclass(frozen=True, slots=True)
class Store:
    """The URL of a server, and the prefix of the tables, sessions and events of one service."""

    url: str
    prefix: str

    def publish(self, table: Table) -> None:
        """Put a table into service."""
        asyncio.run(self._publish(table))

    async def _publish(self, table: Table) -> None:
        data = pack(table)
        async with connect(self.url, reply_within=60.0, connections=4) as client:
            tables = PublishedTables(client, Keys(self.prefix))
            await tables.publish(artifact.describe(data, table), data)
