"""Requests that are whole, and their responses, in one piece each.

ASGI hands a request to the application bit by bit, and takes its response likewise: five
awaits and a dozen objects for what is all here and all known. So an application may have a
method `answer` besides; whatever it does not answer goes the way of ASGI.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

__all__ = ["Headers", "Response", "WholeCycle"]

Headers = tuple[tuple[bytes, bytes], ...]
Response = tuple[int, Headers, bytes]
"""Status, headers without those of length and connection, body."""

Answer = Callable[[Any, bytes], Awaitable[Response | None]]


class WholeCycle(RequestResponseCycle):
    """One request, which is here to its end, and its response."""

    async def run_asgi(self, app: Any) -> None:
        """Let the application answer at once, or as ASGI has it."""
        answer: Answer | None = getattr(app, "answer", None)
        response = answer and await answer(self.scope, bytes(self.body))
        if not response:
            await super().run_asgi(app)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self.disconnected:
            self._write(*response)
        self.on_response = _nothing  # no cycle of references

    def _write(self, status: int, headers: Headers, body: bytes) -> None:
        """Write head and body by one call of the system."""
        default = tuple(self.default_headers)
        head = _head(status, default + headers, self.keep_alive)
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self.response_started = self.response_complete = True
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


@lru_cache(maxsize=256)
def _head(status: int, headers: Headers, keep_alive: bool) -> bytes:
    """Write a response's head but for its last line."""
    if not keep_alive:
        headers = (*headers, (b"connection", b"close"))
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join((STATUS_LINE[status], *lines))


def _nothing() -> None:
    pass
