"""What a connection leaves behind."""

import asyncio
import weakref
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from recsvc.api.limits import Guard, Limits
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
    """Takes every call but those of GET, and answers when it is told to."""

    def __init__(self) -> None:
        self.taken: list[Exchange] = []

    def take(self, exchange: Exchange) -> bool:
        if exchange.method == "GET":
            return False
        self.taken.append(exchange)
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})


@pytest.fixture
def app() -> App:
    return App()


def connection_to(app: App, requests_max: int = 512) -> GuardedProtocol:
    config = Config(app, interface="asgi3", proxy_headers=False, log_config=None)
    config.load()
    guard = Guard(Limits(requests_max=requests_max), lambda *_: None)
    made = GuardedProtocol(config, ServerState(), {"guard": guard}, asyncio.get_running_loop())
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


async def test_nothing_is_begun_for_a_caller_who_does_not_read(
    protocol: GuardedProtocol, app: App
) -> None:
    for user in (1, 2, 3):
        protocol.data_received(request(f"/next/{user}", b"x" * 30_000))
    weight = protocol.guard.in_progress
    protocol.pause_writing()
    assert protocol.guard.in_progress == 0 < weight, "it takes the room of nobody"
    app.taken.pop().respond(200, (), b"answered")
    assert written(protocol).count(b"answered") == len(app.taken) == 0
    protocol.resume_writing()
    protocol.pause_writing()
    assert written(protocol).count(b"answered") == 1
    (second,) = app.taken
    assert second.path == "/next/2"
    second.respond(200, (), b"answered")
    protocol.resume_writing()
    assert [exchange.path for exchange in app.taken] == ["/next/2", "/next/3"]
    app.taken.pop().respond(200, (), b"answered")
    assert written(protocol).count(b"answered") == 3
    assert protocol.guard.in_progress == 0


async def test_what_waits_for_a_caller_to_read_is_begun_when_the_caller_does(
    protocol: GuardedProtocol, app: App
) -> None:
    protocol.pause_writing()
    protocol.data_received(request("/next/1", REPORT))
    protocol.eof_received()
    assert app.taken == []
    protocol.resume_writing()
    app.taken.pop().respond(200, (), b"answered")
    assert written(protocol).count(b"answered") == 1
    assert protocol.transport.is_closing()


async def test_what_is_answered_makes_room_for_what_is_behind_it(app: App) -> None:
    protocol = connection_to(app, requests_max=1)
    protocol.data_received(request("/", method=b"GET") * 3)
    await asyncio.sleep(0.05)
    assert written(protocol).count(b"answered") == 3
    assert protocol.guard.in_progress == protocol.guard.turned_away == 0


async def test_a_long_row_of_requests_is_no_long_head(protocol: GuardedProtocol, app: App) -> None:
    one = request("/next/1", REPORT)
    row = one * 1000 + one[:30]
    assert len(row) > protocol.guard.limits.head_max
    protocol.data_received(row)
    protocol.data_received(one[30:])
    for _ in range(1001):
        app.taken.pop().respond(200, (), b"answered")
    assert written(protocol).count(b"answered") == 1001


def written(protocol: GuardedProtocol) -> bytes:
    assert isinstance(protocol.transport, Transport)
    return protocol.transport.written
