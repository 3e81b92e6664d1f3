"""A lean HTTP/1.1 client: POST over a pool of kept-alive connections, and nothing else.

Thousands of simulated listeners ask for millions of tracks, from the same two cores that
serve them, so what the client costs decides how many can be simulated. This one costs far
less than a general client does (httpx answers some hundred requests a second here where
this one answers some ten thousand); parsing is left to httptools.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, cast
from urllib.parse import SplitResult, urlsplit

import httptools

from recsvc.errors import RecsvcError

__all__ = ["Answer", "Client", "HttpClient", "RequestError"]


class RequestError(RecsvcError):
    """A request got no answer: refused, timed out, or cut off."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status code and the body it came with."""

    status: int
    body: bytes
    seconds: float
    """From sending the request to having the answer; the wait for a connection is not in it."""


class Client(Protocol):
    """What the driver needs of a client."""

    async def post(self, path: str, body: bytes) -> Answer:
        """Post JSON to a path; raises `RequestError` when there is no answer."""
        ...


class HttpClient:
    """Posts JSON to one service, with at most `connections` requests under way.

    `url` is http or https, perhaps with a path before the API's own. A request fails after
    `timeout` seconds. Never sends one twice. Use it as an async context manager.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 64,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        parts, self._host, port = _address(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = port or (443 if self._tls else 80)
        self._base = parts.path.rstrip("/")
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._head = f"Host: {parts.netloc}\r\nContent-Type: application/json\r\n{more}"
        self._timeout = timeout
        self._free = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: bytes) -> Answer:
        """Post JSON; raises `RequestError` when there is no answer in time."""
        head = (
            f"POST {self._base}{path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        )
        async with self._free:
            try:
                async with asyncio.timeout(self._timeout):
                    connection = await self._connection()
                    answer = await connection.ask(head.encode() + body)
            except TimeoutError as error:
                raise RequestError(f"{path}: no answer in {self._timeout} s") from error
            except OSError as error:
                raise RequestError(f"{path}: {error}") from error
            if connection.usable:
                self._idle.append(connection)
            return answer

    async def close(self) -> None:
        """Close all connections."""
        while self._idle:
            self._idle.pop().close()
        await asyncio.sleep(0)  # lets the transports close before the loop does

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        _, fresh = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return fresh


def _address(url: str) -> tuple[SplitResult, str, int | None]:
    """Return the parts of an address, its host, and its port if it names one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RequestError(f"not an http address: {url}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(f"not an http address: {url}")
    return parts, parts.hostname, port


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way; httptools calls the `on_` methods."""

    def __init__(self) -> None:
        self.usable = True
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._parts: list[bytes] = []
        self._headers_done = False
        self._sent = 0.0

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for the answer; given up, the connection is closed."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._sent = time.perf_counter()
        self._parts, self._headers_done = [], False
        self._transport.write(request)
        try:
            return await self._waiting
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; it is not usable again."""
        self.usable = False
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(OSError(f"not an HTTP answer: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self._headers_done:  # an answer without a length ends with its connection
            self.on_message_complete()
        else:
            self._fail(OSError(f"the connection was closed: {error or 'no answer'}"))

    def on_headers_complete(self) -> None:
        self._headers_done = True

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiting is not None and not self._waiting.done():
            seconds = time.perf_counter() - self._sent
            answer = Answer(self._parser.get_status_code(), b"".join(self._parts), seconds)
            self._waiting.set_result(answer)

    def _fail(self, error: OSError) -> None:
        self.usable = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
