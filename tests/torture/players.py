"""Listeners who play over HTTP as fast as they are answered, and remember what they were told.

Plain sockets and no client library: it must cost less than the service it drives.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any
from urllib.parse import urlsplit

import orjson

__all__ = ["Call", "Http", "Log", "Player", "play", "playing"]


_NUMBERS = count(time.time_ns())  # of calls, over all logs


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was answered; `answer` is the body, `took` is in seconds, `at` monotonic."""

    message: str
    user: int
    track: int
    time: float
    request_id: str
    status: int
    answer: dict[str, Any]
    at: float
    took: float


@dataclass(slots=True)
class Log:
    """Everything that players were told, and what they were not."""

    calls: list[Call] = field(default_factory=list)
    broken: list[tuple[float, int, str]] = field(default_factory=list)
    """Calls that broke off: when they began, the listener, the message."""
    refused: int = 0  # calls for which there was no connection

    def of(self, message: str) -> Iterator[Call]:
        """Yield the successful calls of a kind."""
        return (c for c in self.calls if c.message == message and c.status == 200)

    @property
    def degraded(self) -> list[Call]:
        """The answers that were made without the store."""
        return [c for c in self.of("next") if c.answer["degraded"]]

    @property
    def unanswered(self) -> int:
        """How many calls broke off."""
        return len(self.broken)

    def slowest(self) -> float:
        """Return the seconds that the slowest answer took."""
        return max((c.took for c in self.calls), default=0.0)


class Http:
    """One connection to the service, made again when it breaks.

    It is `proven` once a call was answered on it: before, nobody may have accepted it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.proven = False
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Sequence[str] = ()
    ) -> tuple[int, bytes]:
        """Make a call; raises `OSError` or `EOFError` when there is no answer to it."""
        if self._reader is None or self._writer is None:
            self.proven = False
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        lines = [f"{method} {path} HTTP/1.1", "host: test", f"content-length: {len(body)}"]
        head = "\r\n".join([*lines, *headers, "", ""]).encode()
        try:
            self._writer.write(head + body)
            answered = await self._answer(self._reader)
        except (OSError, EOFError, asyncio.CancelledError):
            self.close()
            raise
        self.proven = True
        return answered

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        status, length = int(head[9:12]), 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        body = await reader.readexactly(length)
        if b"connection: close" in head.lower():
            self.close()
        return status, body

    def close(self) -> None:
        """Break the connection."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


class Player:
    """Plays one listener's sessions after another, call by call."""

    def __init__(self, url: str, users: Sequence[int], log: Log, rng: Random) -> None:
        self.http = Http(url)
        self.log = log
        self.rng = rng
        self.users = users
        self._track = {user: rng.randrange(1000) for user in users}

    async def step(self) -> Call | None:
        """Make one call for one of the listeners; None when it was not answered."""
        user = self.rng.choice(self.users)
        message = "last" if self.rng.random() < 0.01 else "next"
        if self.rng.random() < 0.02:
            self.http.close()  # the next connection may lead to another worker
        return await self.ask(message, user, self._track[user], round(self.rng.random(), 3))

    async def ask(
        self, message: str, user: int, track: int, heard: float, key: str | None = None
    ) -> Call | None:
        """Make a call and note its answer."""
        name = f"{user}-{next(_NUMBERS)}"
        headers = [f"x-request-id: {name}"] + ([f"idempotency-key: {key}"] if key else [])
        body = orjson.dumps({"track": track, "time": heard})
        started = time.monotonic()
        try:
            status, content = await self.http.call("POST", f"/{message}/{user}", body, headers)
        except (OSError, EOFError):
            if self.http.proven:
                self.log.broken.append((started, user, message))
            else:
                self.log.refused += 1
            return None
        answer = orjson.loads(content)
        took = time.monotonic() - started
        call = Call(message, user, track, heard, name, status, answer, started, took)
        self.log.calls.append(call)
        if status == 200 and message == "next":
            self._track[user] = answer["track"]
        return call


async def play(
    url: str,
    log: Log,
    *,
    stop: asyncio.Event,
    players: int = 16,
    listeners: int = 20,
    first: int = 0,
    pause: float = 0.0,
) -> None:
    """Play with so many players of so many listeners each, until told to stop."""

    async def run(index: int) -> None:
        start = first + index * listeners
        player = Player(url, range(start, start + listeners), log, Random(first + index))
        while not stop.is_set():
            if await player.step() is None:
                await asyncio.sleep(0.01)
            if pause:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
        player.http.close()

    await asyncio.gather(*(run(index) for index in range(players)))


@asynccontextmanager
async def playing(url: str, log: Log, **how: Any) -> AsyncIterator[None]:
    """Have players play inside, and end with what they do at the end.

    The collector pauses: to look through hundreds of thousands of calls it stops the players,
    and the proxy that stands before the store, for longer than the service waits for either.
    """
    stop = asyncio.Event()
    gc.disable()
    task = asyncio.create_task(play(url, log, stop=stop, **how))
    try:
        yield
    finally:
        stop.set()
        await task
        gc.enable()
