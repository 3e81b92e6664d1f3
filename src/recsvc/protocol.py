"""HTTP as uvicorn speaks it, minus its trust in callers.

uvicorn lets a request take for ever to arrive, hands it to the application before its body
is there, has no limit on headers, and answers what it cannot parse in plain text. Here the
application sees whole requests only, so slow ones cost a buffer and no task, and whatever
is turned away gets a problem (RFC 9457).
"""

from typing import Any
from urllib.parse import unquote

import httptools

from recsvc.api.refusals import BUSY
from recsvc.exchange import Exchange
from recsvc.heads import is_simple, without_upgrade
from recsvc.turns import BODY, HEAD, IDLE, Turns

__all__ = ["GuardedProtocol"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _RefusedError(Exception):
    """Stops the parser."""


class GuardedProtocol(Turns):
    """One connection: reads its requests."""

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.incoming: Exchange | None = None  # its head is here
        self.whole: Exchange | None = None  # what has just come in
        self.chunk = 0  # bytes just read
        self.beside = 0  # bytes since anything of a body: of the head, of what is around chunks
        self.got_on = False  # whether a head ended, or anything of a body came, in this read
        self.length = self.arrived = 0  # bytes of the body: announced, here
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        """Parse what has come in; start the requests that are whole."""
        if self.ended:
            return
        if self.stage == IDLE and self.running is None and self._receive_simple(data):
            return
        between = self.stage == IDLE
        self.chunk, self.got_on = len(data), False
        self._parse(data)
        whole, self.whole = self.whole, None  # kept, it would keep the connection
        if self.ended:
            return
        if self.stage == IDLE:
            if between and whole is not None and not whole.last:
                self.guard.familiar.learn(data, whole.headers, whole.body)
            return
        if not self.waiting:  # else it is not the caller who holds it up
            self.guard.receiving.start(self)
        if whole is not None and self.stage == HEAD:
            self.beside = self._head_bytes()  # the rest of this read was of requests before
        elif not self.got_on:
            self.beside += self.chunk
        if self.beside > self.guard.limits.head_max:
            self.refuse(431, "the headers are too long")

    def _parse(self, data: bytes) -> None:
        """Give what has come in to the parser, past every wish for another protocol."""
        rest = memoryview(data)
        try:
            while rest and not self.ended:
                try:
                    self.parser.feed_data(rest)
                except httptools.HttpParserUpgrade as stop:
                    rest = rest[stop.args[0] :]
                    self._ignore_upgrade()
                else:
                    return
        except httptools.HttpParserError:
            self.refuse(400, "this is not valid HTTP/1.1")

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
                self.await_request()
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
        self.enqueue(exchange)
        return True

    def on_message_begin(self) -> None:
        """Begin a request."""
        # Only now, for empty lines begin none; and the time of one request is not the next one's.
        self.guard.idle.stop(self)
        self.guard.receiving.stop(self)
        self.url, self.headers, self.body, self.expect_100_continue = b"", [], [], False
        self.stage, self.beside, self.length, self.arrived = HEAD, 0, 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if self.stage != HEAD:
            return  # behind a body in chunks; nothing there may change what the request is
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            self.length = int(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = self.parser.get_http_version() != "1.0"
        elif len(self.headers) > self.guard.limits.headers_max:
            self.refuse(431, f"a request may have at most {self.guard.limits.headers_max} headers")
            raise _RefusedError

    def on_headers_complete(self) -> None:
        """Judge a request by its head."""
        self.stage, self.beside, self.got_on = BODY, 0, True
        if self.parser.should_upgrade():
            return
        limits = self.guard.limits
        if self.chunk > limits.head_max and self._head_bytes() > limits.head_max:
            self.refuse(431, "the headers are too long")
        elif self.length > limits.body_max:
            self.refuse(413, f"a body may have at most {limits.body_max} bytes")
        elif sum(name == b"host" for name, _ in self.headers) > 1:
            self.refuse(400, "a request has one Host")
        if self.ended:
            return
        self.incoming = self._exchange()
        if self.running is None and not self.waiting:
            self.ask_for_body()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self.beside, self.got_on = 0, True
        if not self.ended:
            self.body.append(body)
            self.arrived += len(body)
            if self.arrived > self.guard.limits.body_max:
                most = self.guard.limits.body_max
                self.refuse(413, f"a body may have at most {most} bytes")

    def on_message_complete(self) -> None:
        """Start a request, or queue it behind the one before it."""
        exchange, self.incoming = self.incoming, None
        if self.ended or exchange is None:
            return
        self.guard.receiving.stop(self)
        self.stage = IDLE
        self.whole = exchange
        exchange.body = b"".join(self.body)
        self.enqueue(exchange)

    def ask_for_body(self) -> None:
        """Tell a caller who waits to be told so to send the body."""
        if self.stage == BODY and self.expect_100_continue and not self.arrived:
            self.expect_100_continue = False
            self.transport.write(_CONTINUE)

    def _exchange(self) -> Exchange:
        """Return the request whose head is here; raises for a target that is no path."""
        parser, target = self.parser, httptools.parse_url(self.url)
        raw_path = target.path or b"/"  # `http://host` has none
        path, version = raw_path.decode("ascii"), parser.get_http_version()
        return Exchange(
            self,
            parser.get_method().decode("ascii"),
            unquote(path) if "%" in path else path,
            raw_path,
            target.query or b"",
            version,
            self.headers,
            version != "1.0" and parser.should_keep_alive() and not self.draining,
        )

    def _ignore_upgrade(self) -> None:
        """Begin a request again without its wish for another protocol.

        The parser takes what follows such a head for the other protocol, and would lose the
        body: Java's client for one asks for HTTP/2 with each first request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.refuse(400, "this is no proxy")
            return
        version = self.parser.get_http_version()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(without_upgrade(method, self.url, version, self.headers))

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
