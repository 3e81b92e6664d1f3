"""The shared connection against a real server: every reply reaches whom it is for."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from redis import Redis

from recsvc.errors import RecsvcError, StoreUnavailableError
from recsvc.redis.address import Address
from recsvc.redis.multiplexed import Multiplexed
from recsvc.redis.resp import NoScriptError, command
from tests.integration.test_topologies import say, server


def multiplexed(url: str) -> Multiplexed:
    address = Address.parse(url)
    assert address is not None
    return Multiplexed(address, reply_within=5.0, connect_within=5.0)


@pytest.fixture
async def shared(valkey: str) -> AsyncIterator[Multiplexed]:
    connection = multiplexed(valkey)
    yield connection
    await connection.aclose()


async def test_every_call_gets_its_own_reply(shared: Multiplexed) -> None:
    texts = [f"{i}" * (i % 50) for i in range(2000)]
    replies = await asyncio.gather(*(shared.call(command("ECHO", text)) for text in texts))
    assert replies == [text.encode() for text in texts]


async def test_no_command_waits_for_the_next_one(shared: Multiplexed, valkey: str) -> None:
    await shared.call(command("DEL", *(f"early:{i}" for i in range(40))))
    calls = [shared.call(command("SET", f"early:{i}", b"x" * 1000)) for i in range(40)]
    # This is still the same turn of the event loop.
    with Redis.from_url(valkey) as other:
        until = time.monotonic() + 10.0
        while not other.exists("early:39") and time.monotonic() < until:
            time.sleep(0.001)  # noqa: ASYNC251
        assert other.exists(*(f"early:{i}" for i in range(40))) == 40
    assert await asyncio.gather(*calls) == [b"OK"] * 40


async def test_replies_keep_their_types(shared: Multiplexed) -> None:
    assert await shared.call(command("PING")) == b"PONG"
    assert await shared.call(command("EXISTS", "no such key")) == 0
    assert await shared.call(command("GET", "no such key")) is None
    assert await shared.call(command("MGET", "no", "such")) == [None, None]
    binary = bytes(range(256)) * 1000
    assert await shared.call(command("ECHO", binary)) == binary


async def test_an_error_reply_fails_its_call_alone(shared: Multiplexed) -> None:
    replies = await asyncio.gather(
        *(shared.call(command(*words)) for words in (("PING",), ("NONSENSE",), ("ECHO", "x"))),
        return_exceptions=True,
    )
    assert replies[0] == b"PONG"
    assert isinstance(replies[1], StoreUnavailableError)
    assert replies[2] == b"x"
    with pytest.raises(NoScriptError):
        await shared.call(command("EVALSHA", "0" * 40, 0))
    assert await shared.call(command("PING")) == b"PONG"


async def test_a_thousand_cancelled_calls_cross_no_replies(shared: Multiplexed) -> None:
    rng = Random(7)
    dropped, received = 0, 0

    async def ask(i: int) -> None:
        nonlocal dropped, received
        text = b"%d" % i
        task = asyncio.ensure_future(shared.call(command("ECHO", text)))
        if i % 2:
            for _ in range(rng.randrange(4)):  # some before the reply, some after
                await asyncio.sleep(0)
            dropped += task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            assert await task == text
            received += 1

    for start in range(0, 8000, 100):
        await asyncio.gather(*(ask(i) for i in range(start, start + 100)))
    assert dropped >= 1000
    assert dropped + received == 8000
    assert await shared.call(command("ECHO", "still right")) == b"still right"


async def test_it_logs_in_and_selects_as_the_url_says(tmp_path: Path) -> None:
    with server(tmp_path) as port:
        say(port, "ACL SETUSER ada on >s3cret/@ ~* +@all")
        say(port, "CONFIG SET requirepass default-pass")
        for user, db in (("ada:s3cret%2F%40", 3), (":default-pass", 0)):
            shared = multiplexed(f"redis://{user}@127.0.0.1:{port}/{db}?client_name=worker")
            found = (await shared.call(command("CLIENT", "INFO"))).decode().split()
            assert f"db={db}" in found
            assert f"user={user.partition(':')[0] or 'default'}" in found
            assert "name=worker" in found
            await shared.aclose()
        shared = multiplexed(f"redis://ada:a-guess@127.0.0.1:{port}")
        with pytest.raises(StoreUnavailableError, match=r"nothing was sent: .*WRONGPASS") as caught:
            await shared.call(command("PING"))
        assert "a-guess" not in str(caught.value)
        await shared.aclose()


async def test_it_comes_back_after_the_server_was_away(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    shared = multiplexed(f"unix://{socket}")
    with server(tmp_path, "--unixsocket", str(socket)):
        assert await shared.call(command("PING")) == b"PONG"
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await shared.call(command("PING"))
    with server(tmp_path, "--unixsocket", str(socket)):
        assert await shared.call(command("PING")) == b"PONG"
    await shared.aclose()


async def test_nothing_is_sent_once_it_is_closed(valkey: str) -> None:
    shared = multiplexed(valkey)
    assert await shared.call(command("PING")) == b"PONG"
    pending = asyncio.ensure_future(shared.call(command("BLPOP", "no such list", 0)))
    await shared.aclose()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await pending
    with pytest.raises(StoreUnavailableError, match="closed"):
        await shared.call(command("PING"))
    await shared.aclose()


def test_options_for_redis_py_are_left_to_it() -> None:
    assert Address.parse("redis://h?socket_timeout=3") is None
    assert Address.parse("redis://h/2") == Address(host="h", db=2)


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(RecsvcError) as caught:
        Address.parse("redis://:pa/ss@host")
    assert "pa" not in str(caught.value).replace("cannot be read", "")
