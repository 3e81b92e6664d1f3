"""A TCP proxy on the loopback that does to a connection what networks and servers do.

It runs in a thread of its own, so that a test that blocks does not stop it. Its `fault`
may be changed at any time, and holds for connections that are open already.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cut", "Fault", "Freeze", "Pass", "Proxy", "Refuse", "Slow", "Throttle", "proxy"]

_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything goes through."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Every reply comes so many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Freeze:
    """Connections are accepted and stay open, but nothing comes through any more."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Connections are broken, and new ones refused."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A connection breaks when `after` bytes of a reply are through; one that has `only` in it."""

    after: int
    only: bytes = b""


@dataclass(frozen=True, slots=True)
class Throttle:
    """Replies come at so many bytes a second."""

    rate: float


Fault = Pass | Slow | Freeze | Refuse | Cut | Throttle


class Proxy:
    """Passes connections to a unix socket on, by way of a TCP port of its own."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.cuts = 0  # so far
        self._fault: Fault = Pass()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """The URL of the server as seen through the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def fault(self) -> Fault:
        """What it does at the moment."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        asyncio.run_coroutine_threadsafe(self._set(fault), self._loop).result(10)

    @contextmanager
    def doing(self, fault: Fault) -> Iterator[None]:
        """Do this inside, and let everything through again afterwards."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = Pass()

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self.fault = Pass()

    def stop(self) -> None:
        """Break all connections and listen no more."""
        self.fault = Refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _set(self, fault: Fault) -> None:
        self._fault = fault
        self._changed.set()
        self._changed = asyncio.Event()
        if isinstance(fault, Refuse):
            if self._server is not None:
                self._server.close()
                self._server = None
            for pair in list(self._pairs):
                pair.break_off()
            while self._pairs:  # until their tasks have ended
                await asyncio.sleep(0.001)
        elif self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _accept(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        try:
            far, far_out = await asyncio.open_unix_connection(str(self.target))
        except OSError:
            near_out.transport.abort()
            return
        pair = _Pair(near_out, far_out)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(near, far_out, pair))
                group.create_task(self._replies(far, near_out, pair))
        finally:
            self._pairs.discard(pair)

    async def _requests(
        self, near: asyncio.StreamReader, far: asyncio.StreamWriter, pair: "_Pair"
    ) -> None:
        with suppress(OSError):
            while data := await near.read(_PIECE):
                await self._while(Freeze)
                far.write(data)
                await far.drain()
        pair.break_off()

    async def _replies(
        self, far: asyncio.StreamReader, near: asyncio.StreamWriter, pair: "_Pair"
    ) -> None:
        with suppress(OSError):
            while data := await far.read(_PIECE):
                await self._while(Freeze)
                match self._fault:
                    case Slow(seconds):
                        # Later, but not one after the other: others are on their way too.
                        asyncio.get_running_loop().call_later(seconds, _write(near, data))
                        continue
                    case Cut(after, only) if only in data:
                        near.write(data[: min(after, len(data) - 1)])
                        await near.drain()
                        self.cuts += 1
                        break
                    case Throttle(rate):
                        for start in range(0, len(data), 64):
                            near.write(data[start : start + 64])
                            await asyncio.sleep(64 / rate)
                        continue
                near.write(data)
                await near.drain()
        pair.break_off()

    async def _while(self, kind: type[Fault]) -> None:
        while isinstance(self._fault, kind):
            await self._changed.wait()


def _write(near: asyncio.StreamWriter, data: bytes) -> Callable[[], None]:
    def write() -> None:
        if not near.transport.is_closing():
            near.write(data)

    return write


@dataclass(frozen=True, eq=False, slots=True)
class _Pair:
    """The two ends of one connection through the proxy."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter

    def break_off(self) -> None:
        """Break both ends; what is in a buffer is sent first."""
        for end in (self.near, self.far):
            with suppress(OSError, RuntimeError):
                end.close()


@contextmanager
def proxy(target: Path) -> Iterator[Proxy]:
    """Run a proxy to a unix socket."""
    running = Proxy(target)
    running.start()
    try:
        yield running
    finally:
        running.stop()
