"""How connections are taken, by one worker and by several."""

import asyncio
import copy
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import cast

import pytest
import uvloop

from recsvc.errors import RecsvcError
from recsvc.listening import OwnDoors, authority, bound, doors, free_port

_CALLERS = 64


class Counting(asyncio.Protocol):
    """Counts the connections that were taken."""

    def __init__(self, taken: list[asyncio.Transport]) -> None:
        self.taken = taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.taken.append(cast("asyncio.Transport", transport))


async def turns_until_all_are_in(listeners: list[socket.socket]) -> int:
    """Let callers connect before the loop looks; count its turns until it has taken them all."""
    loop = asyncio.get_running_loop()
    taken: list[asyncio.Transport] = []
    address = listeners[0].getsockname()
    with ExitStack() as stack:
        servers = [
            await loop.create_server(lambda: Counting(taken), sock=listener, backlog=_CALLERS)
            for listener in listeners
        ]
        for _ in range(_CALLERS):
            stack.enter_context(socket.create_connection(address, timeout=5))
        turns = 0
        while len(taken) < _CALLERS and turns < 10_000:
            await asyncio.sleep(0)
            turns += 1
        for transport in taken:
            transport.close()
        for server in servers:
            server.close()
            await server.wait_closed()
    assert len(taken) == _CALLERS
    return turns


def test_a_turn_of_the_loop_takes_several_callers_in() -> None:
    def turns(*, several: bool) -> int:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listeners = doors(listener) if several else [listener]
            for door in listeners[1:]:
                stack.enter_context(door)
            return uvloop.run(turns_until_all_are_in(listeners))

    assert turns(several=False) >= _CALLERS, "doors are for a loop that takes in one a turn"
    assert turns(several=True) <= _CALLERS / 4


def test_workers_that_listen_for_themselves_get_about_as_many_callers_each() -> None:
    with ExitStack() as stack:
        with bound("127.0.0.1", 0) as free:
            port = free.getsockname()[1]
        given = OwnDoors("127.0.0.1", port)
        # To copy it is to do what pickling does, without the bytes.
        workers = [copy.copy(given), copy.copy(given)]
        for door in [*workers[0], *workers[1]]:
            stack.enter_context(door)
            door.setblocking(False)
        for first, *_ in workers:
            first.listen(_CALLERS)
        for _ in range(_CALLERS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        taken = [len(list(_accepted(first, stack))) for first, *_ in workers]
    assert sum(taken) == _CALLERS
    assert min(taken) >= _CALLERS / 6  # fewer once in a million times


def _accepted(listener: socket.socket, stack: ExitStack) -> Iterator[socket.socket]:
    with suppress(BlockingIOError):
        while True:
            yield stack.enter_context(listener.accept()[0])


def test_a_port_is_free_or_it_is_said_why_not() -> None:
    port = free_port("127.0.0.1", 0)
    assert free_port("127.0.0.1", port) == port
    with bound("127.0.0.1", port) as listener:
        listener.listen()
        with pytest.raises(
            RecsvcError, match=f"cannot listen on 127.0.0.1:{port}: Address already"
        ):
            free_port("127.0.0.1", port)
    assert authority("::1", 80) == "[::1]:80"
