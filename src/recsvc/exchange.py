"""One request, which is here to its end, and its response.

ASGI hands a request to the application bit by bit, and takes its response likewise: five
awaits and two dozen objects for what is all here and all known. So an application may have a
method `answer` besides: from method, path, headers and body to a `Response`, or None. Then the
request goes the way of ASGI, as uvicorn does it. It may also have a method `take`, which is asked
first: it takes an exchange, and `respond` is called once there is a response; no task is made for
that. Or it returns False.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from recsvc.heads import Received

__all__ = ["Connection", "Exchange", "Headers", "Response"]

Headers = tuple[tuple[bytes, bytes], ...]
Response = tuple[int, Headers, bytes]
"""Status, headers without those of length and connection, body."""

_Answer = Callable[[str, str, Received, bytes], Awaitable[Response | None]]


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's that hears of the calls that the application takes."""

    def answered(self, exchange: "Exchange") -> None:
        """Hear that the application has answered a call that it took."""


class Exchange:
    """A request that has come in on the connection of `protocol`, and its response.

    `raw_path` and `query` are as they came, `path` is without its escapes. `weight` is that of
    the request in the room that there is for all.
    """

    __slots__ = (
        "_cycle",
        "_disconnected",
        "_held",
        "_keep_alive",
        "_protocol",
        "body",
        "headers",
        "method",
        "path",
        "query",
        "raw_path",
        "version",
        "weight",
    )

    def __init__(
        self,
        protocol: Connection,
        method: str,
        path: str,
        raw_path: bytes,
        query: bytes,
        version: str,
        headers: Received,
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.path = path
        self.raw_path = raw_path
        self.query = query
        self.version = version
        self.headers = headers
        self.body = b""
        self.weight = 1
        self._protocol = protocol
        self._keep_alive = keep_alive
        self._disconnected = False
        self._cycle: RequestResponseCycle | None = None  # on the way of ASGI
        self._held: Response | None = None  # until the caller has read what came before

    @property
    def last(self) -> bool:
        """Whether the connection is closed after the response."""
        return not self._keep_alive

    def be_last(self) -> None:
        """Close the connection after the response."""
        self._keep_alive = False
        if self._cycle is not None:
            self._cycle.keep_alive = False

    def disconnect(self) -> None:
        """Learn that nobody waits for the response any more."""
        self._disconnected = True
        if self._cycle is not None:
            self._cycle.disconnected = True
            self._cycle.message_event.set()

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer a call that the application took."""
        self._protocol.answered(self)
        self._respond(status, headers, body)

    def abort(self) -> None:
        """End the connection: a call that the application took will have no answer."""
        self._protocol.answered(self)
        self._protocol.transport.abort()

    def resume(self) -> None:
        """Go on, now that the caller reads."""
        held, self._held = self._held, None
        if held is not None:
            self._write(*held)

    async def run(self) -> None:
        """Let the application answer at once, or else as ASGI has it."""
        protocol = self._protocol
        answer: _Answer | None = getattr(protocol.app, "answer", None)
        try:
            response = answer and await answer(self.method, self.path, self.headers, self.body)
        except BaseException:  # a bug, or the end of the service: there will be no answer
            protocol.transport.abort()
            raise
        if response:
            self._respond(*response)
        else:
            self._cycle = self._asgi_cycle()
            await self._cycle.run_asgi(protocol.app)

    def _respond(self, status: int, headers: Headers, body: bytes) -> None:
        if self._disconnected:
            return
        if self._protocol.flow.write_paused:
            self._held = status, headers, body
        else:
            self._write(status, headers, body)

    def _write(self, status: int, headers: Headers, body: bytes) -> None:
        """Write head and body by one call of the system."""
        protocol, keep_alive = self._protocol, self._keep_alive
        if protocol.server_state.default_headers:
            headers = (*protocol.server_state.default_headers, *headers)
        head = _head(status, headers, keep_alive)
        protocol.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        if not keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def _asgi_cycle(self) -> RequestResponseCycle:
        protocol = self._protocol
        cycle = RequestResponseCycle(
            scope=self._scope(),
            transport=protocol.transport,
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=protocol.access_logger,
            access_log=protocol.access_log,
            default_headers=protocol.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=self._keep_alive,
            on_response=protocol.on_response_complete,
        )
        cycle.body, cycle.more_body = bytearray(self.body), False
        cycle.disconnected = self._disconnected
        cycle.message_event.set()
        return cycle

    def _scope(self) -> Any:
        protocol = self._protocol
        return {
            "type": "http",
            "asgi": {"version": protocol.asgi_version, "spec_version": "2.3"},
            "http_version": self.version,
            "server": protocol.server,
            "client": protocol.client,
            "scheme": protocol.scheme,
            "method": self.method,
            "root_path": protocol.root_path,
            "path": self.path,
            "raw_path": self.raw_path,
            "query_string": self.query,
            "headers": list(self.headers),  # which many requests may have
            "state": protocol.app_state.copy(),
        }


@lru_cache(maxsize=256)
def _head(status: int, headers: Headers, keep_alive: bool) -> bytes:
    """Write a response's head but for its last line."""
    if not keep_alive:
        headers = (*headers, (b"connection", b"close"))
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join((STATUS_LINE[status], *lines))
