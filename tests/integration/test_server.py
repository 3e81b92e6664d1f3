"""How the server takes connections."""

import asyncio
import socket
from contextlib import ExitStack
from typing import cast

import uvloop

from recsvc.server import doors

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
