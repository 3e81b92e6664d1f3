"""Real parts for tests: a Valkey server of their own, and clients to it."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from recsvc.redis.caller import Caller
from recsvc.redis.commands import Client
from recsvc.redis.connection import connect, connect_caller
from recsvc.redis.embedded import embedded_server
from recsvc.redis.keys import Keys
from recsvc.redis.sessions import RedisSessions
from tests.support import NOW


@pytest.fixture(autouse=True)
def _now() -> None:
    """Whatever a test records is of the time that it begins, in whatever order tests run."""
    NOW.begin()


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a real server that lives as long as the test run."""
    with tempfile.TemporaryDirectory() as directory, embedded_server(Path(directory)) as url:
        yield url


@pytest.fixture
async def client(valkey: str) -> AsyncIterator[Client]:
    async with connect(valkey, reply_within=5.0, connections=32) as client:
        yield client


@pytest.fixture
async def caller(valkey: str, client: Client) -> AsyncIterator[Caller]:
    async with connect_caller(valkey, client, reply_within=5.0) as caller:
        yield caller


@pytest.fixture
def keys() -> Keys:
    """Keys that no other test uses."""
    return Keys(f"test-{token_hex(4)}")


@pytest.fixture
def sessions(caller: Caller, keys: Keys) -> RedisSessions:
    return RedisSessions(caller, keys, session_ttl=60, idempotency_ttl=60, events_max=1_000_000)
