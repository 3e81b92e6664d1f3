"""HTTP as uvicorn speaks it, minus its trust in callers.

uvicorn lets a request take for ever to arrive, hands it to the application before its body
is there, has no limit on headers, and answers what it cannot parse in plain text. Here the
application sees whole requests only, so slow ones cost a buffer and no task, and whatever
is turned away gets a problem (RFC 9457).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

import httptools

from recsvc.api.limits import Guard, Limits
from recsvc.api.refusals import BUSY, BUSY_CLOSING, respond
from recsvc.exchange import Connection, Exchange
from recsvc.heads import is_simple, without_upgrade

__all__ = ["GuardedProtocol"]

_IDLE, _HEAD, _BODY = range(3)
_DRAIN_SECONDS = 0.25

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER_BUSY = ("/health/", "/metrics")


class _RefusedError(Exception):
    """Stops the parser."""


def _take_none(_: Exchange) -> bool:
    return False


class GuardedProtocol(Connection):
    """One connection."""

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        guard: Guard | None = app_state.get("guard")
        self.guard = guard or Guard(Limits(), lambda *_: None)
        self.take: Callable[[Exchange], bool] = getattr(self.app, "take", _take_none)
        self.incoming: Exchange | None = None  # its head is here
        self.running: Exchange | None = None  # with the application, unanswered
        self.waiting = deque[Exchange]()  # whole, behind the one that is running
        self.whole: Exchange | None = None  # what has just come in
        self.stage = _IDLE  # of the request that is coming in
        self.chunk = self.head = 0  # bytes: just read, of the head
        self.length = self.arrived = 0  # bytes of the body: announced, here
        self.body: list[bytes] = []
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

    def data_received(self, data: bytes) -> None:
        """Parse what has come in; start the requests that are whole."""
        if self.ended:
            return
        if self.stage == _IDLE and self.running is None and self._receive_simple(data):
            return
        guard, between, self.whole = self.guard, self.stage == _IDLE, None
        guard.idle.stop(self)
        self.chunk = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._ignore_upgrade(data[stop.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "this is not valid HTTP/1.1")
        if self.ended or self.stage == _IDLE:
            guard.receiving.stop(self)
            if between and self.whole is not None and not self.whole.last:
                guard.familiar.learn(data, self.whole.headers, self.whole.body)
            return
        guard.receiving.start(self)
        if self.stage == _HEAD:
            self.head += self.chunk
            if self.head > guard.limits.head_max:
                self._refuse(431, "the headers are too long")

    def _receive_simple(self, data: bytes) -> bool:
        """Take, or turn away, one whole request without the parser; tell whether that was done."""
        guard = self.guard
        if guard.full():
            if not is_simple(data):
                return False
            # Nothing more than this: when most requests go this way, it is what they cost
            # that the others lack. The connection stays as idle as it was.
            guard.turned_away += 1
            self.transport.write(BUSY)
            if self in guard.receiving or self.draining:
                self._await_request()
            return True
        request = guard.familiar.read(data)
        if request is None or len(request[2]) > guard.limits.body_max:
            return False
        path, headers, body = request
        guard.idle.stop(self)
        guard.receiving.stop(self)
        keep_alive = not self.draining
        exchange = Exchange(
            self, "POST", path.decode("ascii"), path, b"", "1.1", headers, keep_alive
        )
        exchange.body = body
        self._start(exchange)
        return True

    def eof_received(self) -> bool:  # type: ignore[override]
        """Tell whether to stay open: a caller that sends no more may still read."""
        if self.running is None:
            return False
        self._end()
        return True

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.url, self.headers, self.body, self.expect_100_continue = b"", [], [], False
        self.stage, self.head, self.length, self.arrived = _HEAD, 0, 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            self.length = int(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif len(self.headers) > self.guard.limits.headers_max:
            self._refuse(431, f"a request may have at most {self.guard.limits.headers_max} headers")
            raise _RefusedError

    def on_headers_complete(self) -> None:
        """Judge a request by its head."""
        self.stage = _BODY
        if self.parser.should_upgrade():
            return
        limits = self.guard.limits
        if self.chunk > limits.head_max and self._head_bytes() > limits.head_max:
            self._refuse(431, "the headers are too long")
        elif self.length > limits.body_max:
            self._refuse(413, f"a body may have at most {limits.body_max} bytes")
        if self.ended:
            return
        if self.expect_100_continue and self.running is None:
            self.transport.write(_CONTINUE)
        self.incoming = self._exchange()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if not self.ended:
            self.body.append(body)
            self.arrived += len(body)
            if self.arrived > self.guard.limits.body_max:
                most = self.guard.limits.body_max
                self._refuse(413, f"a body may have at most {most} bytes")

    def on_message_complete(self) -> None:
        """Start a request, or queue it behind the one before it."""
        exchange, self.incoming = self.incoming, None
        if self.ended or exchange is None:
            return
        self.stage = _IDLE
        self.whole = exchange
        exchange.body = b"".join(self.body)
        if self.running is None:
            self._start(exchange)
        else:
            self.flow.pause_reading()
            self.waiting.append(exchange)

    def on_response_complete(self) -> None:
        """Go on with what waits, or wait for more."""
        self.server_state.total_requests += 1
        self.running = None
        if self.transport.is_closing():
            return
        while self.waiting:
            if self._start(self.waiting.popleft()):
                return
        self.flow.resume_reading()
        self._await_request()

    def answered(self, exchange: Exchange) -> None:
        """Make room for others."""
        self.guard.let_out(exchange.weight)

    def shutdown(self) -> None:
        """Answer what is here and close; a request that is just on its way is answered too."""
        self.draining = True
        if self.running is not None:
            self._end()
        else:
            self.loop.call_later(_DRAIN_SECONDS, self._close_if_idle)

    def pause_writing(self) -> None:
        """Wait for a caller that does not read its response."""
        self.flow.pause_writing()
        self.guard.stalled.start(self)

    def resume_writing(self) -> None:
        """Go on, now that it does."""
        self.flow.resume_writing()
        self.guard.stalled.stop(self)
        if self.running is not None:
            self.running.resume()

    def too_slow(self) -> None:
        """Give up on a request that does not arrive, or is not even begun."""
        if self.stage != _IDLE:
            self._refuse(408, "the request did not arrive in time")
        elif self.running is None:
            self.transport.close()

    def drop(self) -> None:
        """Give up on a caller that does not read, or does not stop sending."""
        self.transport.abort()

    def _exchange(self) -> Exchange:
        """Return the request whose head is here; raises for a target that is no path."""
        parser, target = self.parser, httptools.parse_url(self.url)
        path, version = target.path.decode("ascii"), parser.get_http_version()
        return Exchange(
            self,
            parser.get_method().decode("ascii"),
            unquote(path) if "%" in path else path,
            target.path,
            target.query or b"",
            version,
            self.headers,
            version != "1.0" and parser.should_keep_alive() and not self.draining,
        )

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request again without its wish for another protocol.

        The parser takes what follows such a head for the other protocol, and would lose the
        body: Java's client for one asks for HTTP/2 with each first request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(400, "this is no proxy")
            return
        version = self.parser.get_http_version()
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(without_upgrade(method, self.url, version, self.headers) + rest)

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
        self.guard.let_out(exchange.weight)

    def _turn_away(self, *, close: bool = False) -> None:
        self.guard.turned_away += 1
        if close or self.draining:
            self.transport.write(BUSY_CLOSING)
            self.transport.close()
        else:
            self.transport.write(BUSY)
            self._await_request()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer a request that will not be read to its end, and read no more.

        What came before it on this connection is answered first, and then instead: an
        answer out of turn would be taken for another's.
        """
        if self.ended:
            return
        self.guard.refused(status, 1)
        self.stage = _IDLE
        waiting = self.running is not None
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

    def _await_request(self) -> None:
        """Wait for the next request, unless it has begun; none is to, once the service stops."""
        if self.draining:
            self.transport.close()
        elif self.stage == _IDLE:
            self.guard.receiving.stop(self)
            self.guard.idle.start(self)

    def _end(self) -> None:
        """Read no more, and let the last response under way close the connection."""
        self.ended = True
        last = self.waiting[-1] if self.waiting else self.running
        if last is not None:
            last.be_last()

    def _close_if_idle(self) -> None:
        if self.running is None and not self.transport.is_closing():
            self.transport.close()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
