"""Notices that the server is another one than before: restarted, or failed over to."""

from collections.abc import Awaitable, Callable
from typing import Any

from recsvc.errors import StoreUnavailableError
from recsvc.redis.resp import command

__all__ = ["Incarnation"]


class Incarnation:
    """Which run of the server we talk to.

    A server that was killed may come back without its last second, and so quickly that no
    call fails. So `greet` is to be the first to use a new connection. When it finds another
    run it tells `changed` and refuses the connection; the next one is let through.
    """

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._run = ""

    async def greet(self, send: Callable[[bytes], Awaitable[Any]]) -> None:
        """Ask which run it is; raises `StoreUnavailableError` if it is a new one."""
        try:
            run = _run_id(await send(command("INFO", "server")))
        except StoreUnavailableError as error:
            if "NOPERM" in str(error):  # an account that may not ask; then nobody notices
                return
            raise
        before, self._run = self._run, run
        if before not in ("", run):
            self.changed()
            raise StoreUnavailableError("it was restarted, and may have lost its last second")


def _run_id(info: bytes) -> str:
    for line in info.decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "run_id":
            return value
    return ""
