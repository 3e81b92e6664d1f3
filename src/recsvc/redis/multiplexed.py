"""One connection to one server, shared by all calls of a worker.

A command goes out as soon as it is there, without waiting for the replies of others; the
server answers in order, so the first reply is that of the call that has waited longest.
All safety rests on that order, hence:

- a call that was cancelled keeps its place, and its reply is thrown away;
- a reply that is overdue, or is no reply, ends the connection, and all calls on it fail:
  from then on nobody could tell whose replies those are;
- a failed call is never made again here: the server may have done what it asked for.

A lost connection is made again by the next call.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import hiredis

from recsvc.errors import StoreUnavailableError
from recsvc.redis.address import Address
from recsvc.redis.resp import error_reply

__all__ = ["Greeting", "Multiplexed"]

_MOST_WAITING = 8192
"""Calls that wait at once: more than a server answers in any timeout worth setting."""
_MOST_UNSENT = 1 << 20  # bytes that may wait to be sent before further calls are held back
_GRACE = 0.002  # seconds
_UNSENT = "nothing was sent: "
_NOT_YET = object()

Greeting = Callable[[Callable[[bytes], Awaitable[Any]]], Awaitable[None]]
"""What is the first to send commands on each connection. It may refuse the connection by
raising `StoreUnavailableError`."""


class Multiplexed:
    """A connection made when it is first needed, and again when it was lost.

    `reply_within` and `connect_within` are in seconds; connecting includes logging in.
    """

    def __init__(
        self,
        address: Address,
        *,
        reply_within: float,
        connect_within: float,
        most_waiting: int = _MOST_WAITING,
        greeting: Greeting | None = None,
    ) -> None:
        self.address = address
        self.greeting = greeting
        self.reply_within = reply_within
        self.connect_within = connect_within
        self.most_waiting = most_waiting
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire | StoreUnavailableError] | None = None
        self._held = 0  # calls that wait for a connection
        self._closed = False

    def call(self, written: bytes) -> Awaitable[Any]:
        """Send a command, as `resp.command` wrote it; the awaitable gives its reply.

        Raises `StoreUnavailableError`, at once or when awaited. Unless it says that nothing was
        sent, what the command was to do may or may not have been done.
        """
        wire = self._wire
        if wire is not None and wire.ready:
            return wire.send(written)
        return self._call_when_ready(written)

    async def aclose(self) -> None:
        """Close the connection; calls that wait fail."""
        self._closed = True
        if (task := self._connecting) is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._wire is not None:
            self._wire.drop("it was closed")
            await self._wire.gone

    async def _call_when_ready(self, written: bytes) -> Any:
        if self._held >= self.most_waiting:
            raise StoreUnavailableError(_UNSENT + "too many calls wait for a connection")
        self._held += 1
        try:
            wire = await self._ready_wire()
        finally:
            self._held -= 1
        return await wire.send(written)

    async def _ready_wire(self) -> "_Wire":
        """Return a connection that takes commands, once there is one."""
        while True:
            if self._closed:
                raise StoreUnavailableError(_UNSENT + "the connection was closed")
            wire = self._wire
            if wire is None or wire.lost:
                wire = await self._connect()
            if wire.ready:
                return wire
            await wire.writable()

    async def _connect(self) -> "_Wire":
        """Connect; whoever needs a connection meanwhile waits for the same one."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._try_to_connect(), name="connect to Redis")
        task = self._connecting
        # A cancelled caller must not end what others wait for; `wait` leaves the task alone.
        await asyncio.wait([task])
        if task.cancelled():
            raise StoreUnavailableError(_UNSENT + "the connection was closed")
        outcome = task.result()
        if isinstance(outcome, StoreUnavailableError):
            raise StoreUnavailableError(str(outcome))  # each caller gets its own
        return outcome

    async def _try_to_connect(self) -> "_Wire | StoreUnavailableError":
        """Return a connection that is logged in, or why there is none."""
        wire, connected = _Wire(self.reply_within, self.most_waiting), False
        try:
            async with asyncio.timeout(self.connect_within):
                await self.address.connect(lambda: wire)
                connected = True
                for written in self.address.login():
                    await wire.send(written)
                if self.greeting is not None:
                    await self.greeting(wire.send)
        except (OSError, StoreUnavailableError) as error:  # OSError: a timeout too
            why = str(error) or "no connection in time"
            return StoreUnavailableError(_UNSENT + why.removeprefix(_UNSENT))
        else:
            self._wire = wire
            return wire
        finally:
            self._connecting = None
            if self._wire is not wire:
                wire.drop("it could not be used")
                if connected:  # else the event loop closes it, and uvloop does not say when
                    await wire.gone


class _Wire(asyncio.Protocol):
    """One connection from its beginning to its end."""

    def __init__(self, reply_within: float, most_waiting: int) -> None:
        self.reply_within = reply_within
        self.most_waiting = most_waiting
        self.ready = False  # whether a command may be sent now
        self.lost = False
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.gone.set_result(None)  # until there is a transport there is nothing to wait for
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=error_reply, notEnoughData=_NOT_YET)
        # Who waits for a reply, in the order of the commands, and by when it is due.
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None

    def send(self, written: bytes) -> asyncio.Future[Any]:
        """Send a command; the future gets its reply."""
        if self._transport is None or self.lost:
            raise StoreUnavailableError(_UNSENT + "the connection was lost")
        if len(self._waiting) >= self.most_waiting:
            raise StoreUnavailableError(_UNSENT + "too many calls wait for replies")
        future = self._loop.create_future()
        due = self._loop.time() + self.reply_within
        # At once: what is worth sending together was put together before (`recsvc.together`).
        self._transport.write(written)
        self._waiting.append((future, due))
        if self._watch is None:
            self._watch = self._loop.call_at(due, self._look_for_overdue)
        return future

    async def writable(self) -> None:
        """Return when what was sent before is on its way, or the connection is lost.

        That is within the time for a reply: what is held up has calls that wait for one.
        """
        if self._writable is None:
            self._writable = self._loop.create_future()
        await asyncio.shield(self._writable)

    def drop(self, why: str) -> None:
        """End the connection: fail all who wait, and close it without ceremony."""
        if self.lost:
            return
        self.lost, self.ready = True, False
        if self._watch is not None:
            self._watch.cancel()
        waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(StoreUnavailableError(f"the connection was lost: {why}"))
        self._wake_writers()
        if self._transport is not None:
            self._transport.abort()

    # --- what the event loop tells -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection into use."""
        # uvloop's transports are none by inheritance.
        self._transport = opened = cast("asyncio.Transport", transport)
        self.gone = self._loop.create_future()
        if self.lost:  # whoever wanted it has gone meanwhile
            opened.abort()
            return
        opened.set_write_buffer_limits(high=_MOST_UNSENT)
        connected = opened.get_extra_info("socket")
        if connected is not None and connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.ready = True

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are complete, to those that have waited longest."""
        if self.lost:
            return
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _NOT_YET:
                future, _ = waiting.popleft()
                if future.done():  # cancelled: nobody wants this reply any more
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except hiredis.ProtocolError as error:
            self.drop(f"what came back is no reply ({error})")
        except IndexError:
            self.drop("a reply came that nobody asked for")

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all who wait."""
        self.drop(str(exc) if exc else "the server closed it")
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        """Hold further calls back: the server does not keep up."""
        self.ready = False

    def resume_writing(self) -> None:
        """Let calls through again."""
        self.ready = not self.lost
        self._wake_writers()

    def _wake_writers(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _look_for_overdue(self) -> None:
        """See whether the oldest call has waited too long; else look again when it will have."""
        self._watch = None
        if self._waiting:
            due = self._waiting[0][1]
            if due <= self._loop.time():
                # The reply may have come while something else kept this process busy. So it
                # is given the time of one more look at the socket.
                self._watch = self._loop.call_later(_GRACE, self._drop_if_overdue)
            else:
                self._watch = self._loop.call_at(due, self._look_for_overdue)

    def _drop_if_overdue(self) -> None:
        if self._waiting and self._waiting[0][1] <= self._loop.time():
            self.drop(f"no reply within {self.reply_within:g} s")
        else:
            self._look_for_overdue()
