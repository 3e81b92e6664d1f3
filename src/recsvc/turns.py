"""The requests of one connection that are here to their end, each answered in its turn."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from recsvc.api.limits import Guard, Limits
from recsvc.api.refusals import BUSY, BUSY_CLOSING, respond
from recsvc.exchange import Connection, Exchange

__all__ = ["BODY", "HEAD", "IDLE", "Turns"]

IDLE, HEAD, BODY = range(3)
"""What is coming in: nothing, a request's head, its body."""

_DRAIN_SECONDS = 0.25
_NEVER_BUSY = ("/health/", "/metrics")


def _take_none(_: Exchange) -> bool:
    return False


class Turns(Connection):
    """A connection whose requests `guard` bounds, and `take` of the application may take.

    Whoever reads them keeps `stage`.
    """

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        guard: Guard | None = app_state.get("guard")
        self.guard = guard or Guard(Limits(), lambda *_: None)
        self.take: Callable[[Exchange], bool] = getattr(self.app, "take", _take_none)
        self.stage = IDLE
        self.running: Exchange | None = None  # with the application, unanswered
        self.waiting = deque[Exchange]()  # whole, behind the one that is running
        self.ended = False  # nothing more is read of this connection
        self.draining = False  # the next response is the last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.guard.receiving.start(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request in progress that nobody waits for its answer."""
        self.guard.forget(self)
        if self.running is not None:
            self.running.disconnect()
        self.running = None
        self.waiting.clear()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Tell whether to stay open: a caller that sends no more may still read."""
        if self.running is None and not self.waiting:
            return False
        self._end()
        return True

    def enqueue(self, exchange: Exchange) -> None:
        """Start a request, or keep it until those before it are answered and have been read."""
        if self.running is None and not self.flow.write_paused:
            self._start(exchange)
        else:
            self.flow.pause_reading()
            self.waiting.append(exchange)

    def on_response_complete(self) -> None:
        """Go on with what waits, or wait for more."""
        self.server_state.total_requests += 1
        answered, self.running = self.running, None
        if answered is not None:
            self.answered(answered)
        self._go_on()

    def answered(self, exchange: Exchange) -> None:
        """Make room for others."""
        weight, exchange.weight = exchange.weight, 0
        self.guard.let_out(weight)

    def shutdown(self) -> None:
        """Answer what is here and close; a request that is just on its way is answered too."""
        self.draining = True
        if self.running is not None or self.waiting:
            self._end()
        else:
            self.loop.call_later(_DRAIN_SECONDS, self._close_if_idle)

    def pause_writing(self) -> None:
        """Wait for a caller that does not read its response."""
        self.flow.pause_writing()
        self.guard.stalled.start(self)
        if self.running is not None:  # it only waits now, and is not to keep others out
            self.answered(self.running)

    def resume_writing(self) -> None:
        """Go on, now that it does."""
        self.flow.resume_writing()
        self.guard.stalled.stop(self)
        if self.running is not None:
            self.running.resume()
        elif self.waiting:
            self._go_on()

    def too_slow(self) -> None:
        """Give up on a request that does not arrive, or is not even begun."""
        if self.stage != IDLE:
            self.refuse(408, "the request did not arrive in time")
        elif self.running is None and not self.waiting:
            self.transport.close()

    def drop(self) -> None:
        """Give up on a caller that does not read, or does not stop sending."""
        self.transport.abort()

    def refuse(self, status: int, detail: str) -> None:
        """Answer a request that will not be read to its end, and read no more.

        What came before it on this connection is answered first, and then instead: an
        answer out of turn would be taken for another's.
        """
        if self.ended:
            return
        self.guard.refused(status, 1)
        self.guard.receiving.stop(self)
        self.guard.idle.stop(self)
        self.stage = IDLE
        waiting = self.running is not None or self.waiting
        self._end()
        if waiting or self.transport.is_closing():
            return
        self.transport.write(respond(status, detail, close=True))
        # To close with bytes unread would reset the connection, and the caller might never
        # see why. So it is closed one way, and what still comes is thrown away for a while.
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.guard.lingering.start(self)
        else:
            self.transport.close()

    def await_request(self) -> None:
        """Wait for the next request, or its rest; for none, once the service stops."""
        if self.draining:
            self.transport.close()
        elif self.stage == IDLE:
            self.guard.receiving.stop(self)
            self.guard.idle.start(self)
        else:
            self.guard.receiving.start(self)
            if not self.waiting:
                self.ask_for_body()

    def ask_for_body(self) -> None:
        """Tell a caller who waits to be told so to send the body of what is coming in."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Start what waits, one at a time, unless what is answered is not being read."""
        if self.transport.is_closing():
            return
        while self.waiting:
            if self.flow.write_paused or self._start(self.waiting.popleft()):
                return
        self.flow.resume_reading()
        self.await_request()

    def _start(self, exchange: Exchange) -> bool:
        """Give a whole request to the application; tell whether there was room for it."""
        if self.guard.full() and not exchange.path.startswith(_NEVER_BUSY):
            # Whoever asked for the head alone would take a body for the next response.
            self._turn_away(close=exchange.last or exchange.method == "HEAD")
            return False
        self.running = exchange
        exchange.weight = self.guard.let_in(len(exchange.body))
        if not self.take(exchange):
            task = self.loop.create_task(exchange.run())
            task.add_done_callback(partial(self._done, exchange))
            self.tasks.add(task)
        return True

    def _done(self, exchange: Exchange, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        self.answered(exchange)

    def _turn_away(self, *, close: bool = False) -> None:
        self.guard.turned_away += 1
        if close or self.draining:
            self.transport.write(BUSY_CLOSING)
            self.transport.close()
        else:
            self.transport.write(BUSY)
            self.await_request()

    def _end(self) -> None:
        """Read no more, and let the last response under way close the connection."""
        self.ended = True
        last = self.waiting[-1] if self.waiting else self.running
        if last is not None:
            last.be_last()

    def _close_if_idle(self) -> None:
        if self.running is None and not self.transport.is_closing():
            self.transport.close()
