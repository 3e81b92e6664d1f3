"""What a connection leaves behind."""

import asyncio
import weakref
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from recsvc.exchange import Exchange
from recsvc.protocol import GuardedProtocol
from tests.wire import request

REPORT = b'{"track": 3, "time": 0.5}'


class Transport(asyncio.Transport):
    """The caller's end."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class App:
    """Takes every call, and answers when it is told to."""

    def __init__(self) -> None:
        self.taken: list[Exchange] = []

    def take(self, exchange: Exchange) -> bool:
        self.taken.append(exchange)
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.fixture
def app() -> App:
    return App()


def connection_to(app: App) -> GuardedProtocol:
    config = Config(app, interface="asgi3", proxy_headers=False, log_config=None)
    config.load()
    made = GuardedProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    made.connection_made(Transport())
    return made


@pytest.fixture
async def protocol(app: App) -> GuardedProtocol:
    return connection_to(app)


def send(protocol: GuardedProtocol, app: App, *pieces: bytes) -> Exchange:
    """Send a request and have it answered."""
    for piece in pieces:
        protocol.data_received(piece)
    exchange = app.taken.pop()
    exchange.respond(200, (), b"answered")
    return exchange


async def test_a_request_is_the_same_with_the_parser_and_without_it(
    protocol: GuardedProtocol, app: App
) -> None:
    data = request("/next/12", REPORT, b"X-Request-ID: abc")
    parsed, known, cut = (
        send(protocol, app, data),
        send(protocol, app, data),
        send(protocol, app, data[:30], data[30:]),
    )
    for found in (parsed, known, cut):
        assert (found.method, found.path, found.raw_path) == ("POST", "/next/12", b"/next/12")
        assert (found.query, found.version, found.body) == (b"", "1.1", REPORT)
        assert (b"x-request-id", b"abc") in found.headers
        assert not found.last
    assert known.headers is parsed.headers, "the second was not parsed"
    assert protocol.guard.in_progress == 0


async def test_a_request_is_known_only_where_one_may_begin(
    protocol: GuardedProtocol, app: App
) -> None:
    data = request("/next/1", REPORT)
    send(protocol, app, data)
    outer = request("/next/2", data)  # its body is a request that is known
    exchange = send(protocol, app, outer[: -len(data)], data)
    assert (exchange.path, exchange.body) == ("/next/2", data)
    assert app.taken == []


async def test_a_connection_that_has_gone_is_freed_at_once(app: App) -> None:
    """The garbage collector hardly runs (`collector`)."""
    made = connection_to(app)
    for data in (request("/next/1", REPORT), request("/next/2", REPORT), b"POST /next/3"):
        made.data_received(data)
        if app.taken:
            app.taken.pop().respond(200, (), b"answered")
    left = weakref.ref(made)
    made.connection_lost(None)
    del made
    assert left() is None


async def test_a_caller_who_goes_makes_room_when_there_is_an_answer(
    protocol: GuardedProtocol, app: App
) -> None:
    protocol.data_received(request("/next/1", REPORT))
    protocol.connection_lost(None)
    assert protocol.guard.in_progress == 1, "somebody still works on it"
    app.taken.pop().respond(200, (), b"answered")
    assert protocol.guard.in_progress == 0
