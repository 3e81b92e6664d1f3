"""A whole request and its whole response, beside ASGI and by way of it."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from recsvc.exchange import Exchange, Response
from recsvc.heads import Received


class Transport:
    """The caller's end: keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.closed or self.aborted


class App:
    """Answers `/hot` beside ASGI, has a bug at `/bug`, and leaves all else to ASGI."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def answer(
        self, method: str, path: str, headers: Received, body: bytes
    ) -> Response | None:
        if path == "/bug":
            raise ValueError("a bug")
        if path != "/hot":
            return None
        assert (method, headers, body) == ("POST", [(b"x", b"y")], b"asked")
        return 200, ((b"content-type", b"text/plain"),), b"answered"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = (await receive()).get("body", b"")
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 201, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


class Protocol(SimpleNamespace):
    """What an exchange needs of its connection."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(
            app=App(),
            transport=transport,
            flow=FlowControl(transport),  # type: ignore[arg-type]
            server_state=SimpleNamespace(default_headers=[]),
            app_state={},
            logger=logging.getLogger("test"),
            access_logger=logging.getLogger("test"),
            access_log=False,
            asgi_version="3.0",
            server=("127.0.0.1", 80),
            client=("127.0.0.1", 1),
            scheme="http",
            root_path="",
            completed=0,
            heard=[],
        )

    def answered(self, exchange: Exchange) -> None:
        self.heard.append(exchange)

    def on_response_complete(self) -> None:
        self.completed += 1


def exchange_of(path: str, *, keep_alive: bool = True) -> tuple[Exchange, Protocol, Transport]:
    transport = Transport()
    protocol = Protocol(transport)
    made: Any = Exchange(
        protocol,  # type: ignore[arg-type]
        "POST",
        path,
        path.encode(),
        b"q=1",
        "1.1",
        [(b"x", b"y")],
        keep_alive,
    )
    made.body = b"asked"
    return made, protocol, transport


async def test_a_response_is_written_whole() -> None:
    exchange, protocol, transport = exchange_of("/hot")
    await exchange.run()
    assert transport.written == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\nanswered"
    )
    assert (protocol.completed, transport.closed, protocol.app.scopes) == (1, False, [])


@pytest.mark.parametrize("path", ["/hot", "/other"])
async def test_the_last_response_closes_the_connection(path: str) -> None:
    exchange, protocol, transport = exchange_of(path)
    exchange.be_last()
    assert exchange.last
    await exchange.run()
    assert b"\r\nconnection: close\r\n" in transport.written
    assert (protocol.completed, transport.closed) == (1, True)


async def test_what_is_not_answered_goes_the_way_of_asgi() -> None:
    exchange, protocol, transport = exchange_of("/other")
    await exchange.run()
    assert transport.written.startswith(b"HTTP/1.1 201 Created\r\n")
    assert transport.written.endswith(b"\r\n\r\nasked")
    (scope,) = protocol.app.scopes
    assert (scope["type"], scope["method"], scope["path"]) == ("http", "POST", "/other")
    assert (scope["query_string"], scope["headers"]) == (b"q=1", [(b"x", b"y")])
    assert protocol.completed == 1


@pytest.mark.parametrize("path", ["/hot", "/other"])
async def test_nothing_is_written_to_a_caller_who_has_gone(path: str) -> None:
    exchange, protocol, transport = exchange_of(path)
    exchange.disconnect()
    await exchange.run()
    assert (transport.written, protocol.completed) == (b"", 0)


async def test_a_caller_who_does_not_read_is_waited_for() -> None:
    exchange, protocol, transport = exchange_of("/hot")
    protocol.flow.pause_writing()
    running = asyncio.create_task(exchange.run())
    await asyncio.sleep(0.01)
    assert transport.written == b""
    protocol.flow.resume_writing()
    exchange.resume()
    await running
    assert transport.written.endswith(b"answered")
    exchange.resume()
    assert protocol.completed == 1


@pytest.mark.parametrize("paused", [False, True])
async def test_a_call_that_was_taken_is_answered_when_there_is_an_answer(paused: bool) -> None:
    exchange, protocol, transport = exchange_of("/taken")
    if paused:
        protocol.flow.pause_writing()
    exchange.respond(200, (), b"later")
    assert protocol.heard == [exchange]
    assert transport.written.endswith(b"later") is not paused
    exchange.resume()
    assert transport.written.endswith(b"content-length: 5\r\n\r\nlater")
    assert protocol.completed == 1


async def test_of_a_call_that_was_taken_room_is_made_though_the_caller_has_gone() -> None:
    exchange, protocol, transport = exchange_of("/taken")
    exchange.disconnect()
    exchange.respond(200, (), b"later")
    assert (protocol.heard, transport.written, protocol.completed) == ([exchange], b"", 0)


async def test_a_call_without_an_answer_leaves_no_caller_waiting() -> None:
    exchange, protocol, transport = exchange_of("/taken")
    exchange.abort()
    assert (protocol.heard, transport.aborted) == ([exchange], True)


async def test_a_bug_leaves_no_caller_waiting() -> None:
    exchange, _, transport = exchange_of("/bug")
    with pytest.raises(ValueError, match="a bug"):
        await exchange.run()
    assert transport.aborted
