"""Reading the events back."""

import json

import pytest

from recsvc.errors import StoreUnavailableError
from recsvc.redis.caller import ThroughClient
from recsvc.redis.commands import Client
from recsvc.redis.connection import connect
from recsvc.redis.events import read_events
from recsvc.redis.keys import Keys
from recsvc.redis.sessions import RedisSessions
from tests.support import claim, command, three_pools

_FILL = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'event', '{\"n\":' .. i .. '}') end"


async def lines(client: Client, keys: Keys) -> list[dict[str, int]]:
    return [json.loads(line) async for line in read_events(client, keys)]


async def test_none(client: Client, keys: Keys) -> None:
    assert await lines(client, keys) == []


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2500])
async def test_all_in_order_over_the_edges_of_a_page(
    client: Client, keys: Keys, count: int
) -> None:
    await command(client, "EVAL", _FILL, 1, keys.events(0), count)
    assert [line["n"] for line in await lines(client, keys)] == list(range(1, count + 1))


async def test_every_partition_is_read(client: Client, keys: Keys) -> None:
    split = Keys(keys.prefix, partitions=4)
    sessions = RedisSessions(
        ThroughClient(client), split, session_ttl=60, idempotency_ttl=60, events_max=1000
    )
    for user in range(8):
        await sessions.claim(claim(three_pools(), user=user))
    found = [line["user"] for line in await lines(client, split)]
    assert found == [0, 4, 1, 5, 2, 6, 3, 7]
    assert len(await lines(client, Keys(keys.prefix))) == 2  # one partition knows only its own


async def test_a_stream_is_kept_within_its_limit(client: Client, keys: Keys) -> None:
    sessions = RedisSessions(
        ThroughClient(client), keys, session_ttl=60, idempotency_ttl=60, events_max=10
    )
    for user in range(400):
        await sessions.claim(claim(three_pools(), user=user))
    left = [line["user"] for line in await lines(client, keys)]
    assert len(left) < 400
    assert left[-10:] == list(range(390, 400))


async def test_a_server_that_is_away_is_said_to_be(keys: Keys) -> None:
    async with connect("unix:///nowhere/at/all", reply_within=0.1, connections=1) as client:
        with pytest.raises(StoreUnavailableError):
            await lines(client, keys)
