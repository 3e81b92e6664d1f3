"""Scripts that run inside the server."""

import hashlib
from collections.abc import Awaitable, Sequence
from importlib.resources import files
from typing import Any

from recsvc.redis.caller import Caller
from recsvc.redis.resp import NoScriptError, Word, command

__all__ = ["Script"]


class Script:
    """A script that is called by its digest, and sent only to a server that lacks it.

    Its text is that of some files of this package, one after the other.
    """

    def __init__(self, *names: str) -> None:
        package = files("recsvc.redis")
        self.text = "".join([package.joinpath(name).read_text() for name in names])
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, caller: Caller, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """Run it and return its reply; raises `StoreUnavailableError`."""
        return await self.send(caller, self.write(keys, arguments))

    def write(self, keys: Sequence[str], arguments: Sequence[Word]) -> bytes:
        """Write a call of it."""
        return command("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def send(self, caller: Caller, written: bytes) -> Awaitable[Any]:
        """Run it by a call that is written already, and that goes out before this returns."""
        return self._reply(caller, written, caller.call(written))

    async def _reply(self, caller: Caller, written: bytes, reply: Awaitable[Any]) -> Any:
        try:
            return await reply
        except NoScriptError:  # so nothing was run
            await caller.call(command("SCRIPT", "LOAD", self.text))
            return await caller.call(written)
