"""How single commands reach the server: the port of the sessions, and its slower form.

The fast one is `Multiplexed`. It knows one server at one address; which server is the master
behind Sentinels, or has a key in a Cluster, is what redis-py knows, so there the commands go
through its client.
"""

from collections.abc import Awaitable
from typing import Any, Protocol

from redis.exceptions import NoScriptError as LacksScriptError

from recsvc.redis.commands import Client
from recsvc.redis.faults import store_faults
from recsvc.redis.resp import NoScriptError, split

__all__ = ["Caller", "ThroughClient"]


class Caller(Protocol):
    """Sends commands, as `resp.command` writes them, and returns their replies."""

    def call(self, written: bytes) -> Awaitable[Any]:
        """Send a command; the awaitable gives its reply.

        Raises `NoScriptError` for a script that the server lacks, `StoreUnavailableError` for
        every other failure; either at once or when awaited.
        """


class ThroughClient:
    """The `Caller` port on a redis-py client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, written: bytes) -> Any:
        """Send a command."""
        name, *rest = split(written)
        async with store_faults():
            if name == b"SCRIPT":  # in a Cluster every server needs it
                return await self.client.script_load(rest[1].decode())
            try:
                return await self.client.execute_command(name.decode(), *rest)
            except LacksScriptError as error:
                raise NoScriptError(str(error)) from error
