"""The shared connection against servers that misbehave: a call fails, it is never wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from recsvc.errors import StoreUnavailableError
from recsvc.redis.address import Address
from recsvc.redis.multiplexed import Multiplexed
from recsvc.redis.resp import command

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Misbehaves on its first connections as told, one behaviour each; then it echoes."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours)
        self.connections = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        behave = self.behaviours.pop(0) if self.behaviours else echo
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await behave(reader, writer)
        finally:
            writer.close()


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readline())[1:])
    words = []
    for _ in range(count):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        *_, last = await read_command(reader)
        writer.write(b"$%d\r\n%s\r\n" % (len(last), last))


def says(*pieces: bytes, then_closes: bool = False) -> Behaviour:
    """Answer the first command with these bytes, piece by piece; then be silent, or close."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_command(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if not then_closes:
            await reader.read()

    return behave


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, and never read."""
    await asyncio.Event().wait()


@asynccontextmanager
async def misbehaving(
    *behaviours: Behaviour, reply_within: float = 5.0, login: bool = False, most_waiting: int = 100
) -> AsyncIterator[tuple[Server, Multiplexed]]:
    """Yield such a server and a connection to it; in the end nothing may be left of either."""
    before = asyncio.all_tasks()
    behaved = Server(*behaviours)
    listener = await asyncio.start_server(behaved.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    address = Address(host="127.0.0.1", port=port, password="secret" if login else None)
    shared = Multiplexed(
        address,
        reply_within=reply_within,
        connect_within=reply_within,
        most_waiting=most_waiting,
    )
    try:
        yield behaved, shared
    finally:
        await shared.aclose()
        assert asyncio.all_tasks() - before <= set(behaved.tasks)
        for task in behaved.tasks:
            task.cancel()
        if behaved.tasks:
            await asyncio.wait(behaved.tasks)
        listener.close()
        await listener.wait_closed()


async def asked(shared: Multiplexed, text: str) -> bytes | str:
    """Ask for an echo; return it, or why there is none."""
    try:
        echoed: bytes = await shared.call(command("ECHO", text))
    except StoreUnavailableError as error:
        return str(error)
    return echoed


async def test_a_reply_in_pieces_is_put_together() -> None:
    async with misbehaving(says(b"$1", b"1\r", b"\nhello ", b"wor", b"ld\r\n")) as (_, shared):
        assert await asked(shared, "x") == b"hello world"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"*2\r\n:1\r\nboo\r\n",
        b"$-7\r\n",
        b"\x00\xff",
        b"$5\r\nlonger than it said\r\n",
    ],
)
async def test_bytes_that_are_no_reply_end_the_connection(said: bytes) -> None:
    async with misbehaving(says(said)) as (server, shared):
        outcomes = await asyncio.gather(*(asked(shared, f"{i}") for i in range(20)))
        assert all(isinstance(o, str) and "what came back is no reply" in o for o in outcomes[1:])
        assert await asked(shared, "after") == b"after"
        assert server.connections == 2


@pytest.mark.parametrize("said", [b"", b"$5\r\nhel", b"*3\r\n:1\r\n:2\r\n", b"+O"])
async def test_a_drop_in_the_middle_of_a_reply_fails_all_who_wait(said: bytes) -> None:
    async with misbehaving(says(said, then_closes=True)) as (server, shared):
        outcomes = await asyncio.gather(*(asked(shared, f"{i}") for i in range(20)))
        assert all(isinstance(o, str) and "the connection was lost" in o for o in outcomes)
        assert await asked(shared, "after") == b"after"
        assert server.connections == 2


@pytest.mark.parametrize("said", [b"", b"$5\r\nhel"])
async def test_an_overdue_reply_fails_all_who_wait(said: bytes) -> None:
    async with misbehaving(says(said), reply_within=0.05) as (server, shared):
        outcomes = await asyncio.gather(*(asked(shared, f"{i}") for i in range(20)))
        assert all(isinstance(o, str) and "no reply within 0.05 s" in o for o in outcomes)
        assert await asked(shared, "after") == b"after"
        assert server.connections == 2


async def test_a_reply_that_comes_too_late_reaches_nobody() -> None:
    released = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        *_, text = await read_command(reader)
        await released.wait()
        writer.write(b"$%d\r\n%s\r\n" % (len(text), text))

    async with misbehaving(late, reply_within=0.05) as (_, shared):
        assert "no reply" in str(await asked(shared, "one"))
        second = asyncio.ensure_future(asked(shared, "two"))
        released.set()
        assert await second == b"two"


async def test_a_cancelled_call_that_is_never_answered_ends_the_connection_too() -> None:
    async with misbehaving(says(b""), reply_within=0.05) as (server, shared):
        first = asyncio.ensure_future(asked(shared, "one"))
        while not server.connections:
            await asyncio.sleep(0)
        second = asyncio.ensure_future(asked(shared, "two"))
        await asyncio.sleep(0)
        first.cancel()
        assert "no reply within" in str(await second)
        assert await asked(shared, "three") == b"three"


async def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    async with misbehaving(says(b"+one\r\n+two\r\n")) as (server, shared):
        assert await asked(shared, "x") == b"one"
        assert await asked(shared, "after") == b"after"
        assert server.connections == 2


async def test_a_failed_call_is_never_made_again() -> None:
    received: list[bytes] = []

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append((await read_command(reader))[-1])

    async with misbehaving(*[drop] * 10) as (server, shared):
        for i in range(10):
            assert "lost" in str(await asked(shared, f"{i}"))
        assert received == [b"%d" % i for i in range(10)]
        assert server.connections == 10


async def test_a_login_that_is_not_answered_is_given_up() -> None:
    async with misbehaving(says(b""), reply_within=0.05, login=True) as (server, shared):
        outcomes = await asyncio.gather(*(asked(shared, f"{i}") for i in range(20)))
        assert all(isinstance(o, str) and "nothing was sent" in o for o in outcomes)
        assert server.connections == 1
        assert await asked(shared, "after") == b"after"


async def test_who_waits_for_a_connection_may_leave_without_harm_to_others() -> None:
    async with misbehaving(login=True) as (server, shared):
        waiting = [asyncio.ensure_future(asked(shared, f"{i}")) for i in range(20)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.wait(waiting)
        assert [task.result() for task in waiting[1::2]] == [b"%d" % i for i in range(1, 20, 2)]
        assert server.connections == 1


async def test_closing_while_it_connects_leaves_nothing_behind() -> None:
    async with misbehaving(says(b""), login=True) as (server, shared):
        waiting = asyncio.ensure_future(asked(shared, "x"))
        while not server.connections:
            await asyncio.sleep(0)
        await shared.aclose()
        assert "closed" in str(await waiting)


async def test_the_number_of_calls_that_wait_is_bounded() -> None:
    async with misbehaving(says(b""), reply_within=0.2, most_waiting=5) as (_, shared):
        outcomes = await asyncio.gather(*(asked(shared, f"{i}") for i in range(8)))
        assert sum("too many calls wait" in str(o) for o in outcomes) == 3
        assert sum("no reply within" in str(o) for o in outcomes) == 5


async def test_a_server_that_does_not_read_holds_further_calls_back() -> None:
    async with misbehaving(deaf, reply_within=0.2) as (server, shared):
        big = [f"{i:x}" * 1_000_000 for i in range(16)]
        outcomes = await asyncio.gather(*(asked(shared, text) for text in big))
        lost = [o for o in outcomes if isinstance(o, str)]
        # Some were sent and are lost; the others had waited, and went to the next connection.
        assert 0 < len(lost) < 16
        assert all("no reply within" in o for o in lost)
        assert all(o in (t.encode(), *lost) for o, t in zip(outcomes, big, strict=True))
        assert server.connections == 2


async def test_held_calls_go_out_once_the_server_reads_on() -> None:
    reads = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reads.wait()
        await echo(reader, writer)

    async with misbehaving(slow) as (server, shared):
        big = [f"{i}" * 500_000 for i in range(10)]
        waiting = [asyncio.ensure_future(asked(shared, text)) for text in big]
        while not server.connections:
            await asyncio.sleep(0)
        reads.set()
        assert await asyncio.gather(*waiting) == [text.encode() for text in big]


async def test_a_server_that_is_not_there() -> None:
    async with misbehaving() as (_, shared):
        shared.address = Address(path="/no/such/socket")
        outcomes = await asyncio.gather(*(asked(shared, f"{i}") for i in range(20)))
        assert all(isinstance(o, str) and "nothing was sent" in o for o in outcomes)


class GivenUp(asyncio.Protocol):
    """Ends whoever connects at the moment at which the connection is there."""

    def __init__(self, wire: asyncio.Protocol) -> None:
        self.wire = wire
        self.task = asyncio.current_task()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire.connection_made(transport)
        assert self.task is not None
        self.task.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self.wire.connection_lost(exc)


class Unlucky(Address):
    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        await Address.connect(self, lambda: GivenUp(protocol()))


async def test_a_connection_that_is_given_up_just_as_it_is_there_leaves_nothing_behind() -> None:
    async with misbehaving() as (server, shared):
        there, shared.address = shared.address, Unlucky(host="127.0.0.1", port=shared.address.port)
        async with asyncio.timeout(5):
            assert "nothing was sent" in str(await asked(shared, "x"))
        shared.address = there
        assert await asked(shared, "after") == b"after"
        assert server.connections <= 2
