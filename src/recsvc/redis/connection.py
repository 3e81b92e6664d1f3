"""A client for whatever the URL names, with every limit explicit."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast
from urllib.parse import SplitResult, parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from recsvc.errors import RecsvcError
from recsvc.redis.address import Address
from recsvc.redis.caller import Caller, ThroughClient
from recsvc.redis.commands import Client
from recsvc.redis.multiplexed import Greeting, Multiplexed

__all__ = ["check_url", "connect", "connect_caller"]

_UNREADABLE = (
    "RECSVC_REDIS_URL cannot be read; it is `embedded`, redis://user:password@host:port/db, "
    "rediss:// likewise, unix:///path, redis+sentinel://host:port,host:port/service/db, or "
    "redis+cluster://host:port, and % / ? # in a user or a password are %25 %2F %3F %23"
)
_DATABASE = re.compile(r"/*[0-9]*/*")
_SERVICE = re.compile(r"(/[A-Za-z0-9._-]+(/[0-9]*)?)?/*")  # Sentinel allows no other names


def check_url(url: str) -> None:
    """Raise `RecsvcError` unless `url` is one that `connect` can use; it connects to nothing.

    The message holds nothing of the URL: what is wrong with one may be a piece of a password.
    """
    try:
        parts = urlsplit(url)
        _check_ends(parts)
        client = _client(url, 1.0, 1, _retry(0), AsyncExitStack())
        if isinstance(client, Redis):
            pool: Any = client.connection_pool
            pool.make_connection()  # only here redis-py minds its options
        if "+" not in parts.scheme:
            Address.parse(url)  # it reads the certificates
    except Exception:  # it finds fault in many ways
        raise RecsvcError(_UNREADABLE) from None


@asynccontextmanager
async def connect(
    url: str, *, reply_within: float, connections: int, retries: int = 0
) -> AsyncIterator[Client]:
    """Yield a client for `url`; nothing is sent before its first command.

    `reply_within` (seconds) bounds a connection attempt, a reply, and the wait for a free one of
    `connections`. `retries` is 0 for a script that writes: redis-py cannot know whether a
    write whose reply was lost took place, so a retry could apply it twice.

    `redis://`, `rediss://`, `unix://` reach one server; `redis+sentinel://host:port,
    host:port/service/db` asks Sentinels for the master; `redis+cluster://host:port` any
    node of a Cluster. User, password and redis-py's query options go where they usually do.
    Raises `RecsvcError` as `check_url` does.
    """
    check_url(url)
    async with AsyncExitStack() as stack:
        client = _client(url, reply_within, connections, _retry(retries), stack)
        stack.push_async_callback(client.aclose)
        yield cast("Client", client)


@asynccontextmanager
async def connect_caller(
    url: str, client: Client, *, reply_within: float, greeting: Greeting | None = None
) -> AsyncIterator[Caller]:
    """Yield what small commands go through: nothing is sent before the first one.

    One connection that all share, to a URL of one server; `client`, made for the same URL,
    to any other. `reply_within` (seconds) bounds a connection attempt and a reply.
    Raises `RecsvcError` as `check_url` does.
    """
    check_url(url)
    address = None if "+" in urlsplit(url).scheme else Address.parse(url)
    if address is None:
        yield ThroughClient(client)
        return
    shared = Multiplexed(
        address, reply_within=reply_within, connect_within=reply_within, greeting=greeting
    )
    try:
        yield shared
    finally:
        await shared.aclose()


def _client(
    url: str, timeout: float, connections: int, retry: Retry, stack: AsyncExitStack
) -> Redis | RedisCluster:
    parts = urlsplit(url)
    limits: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": retry,
    }
    if parts.scheme == "redis+cluster":
        plain = parts._replace(scheme="redis").geturl()
        return RedisCluster.from_url(plain, max_connections=connections, **limits)
    if parts.scheme == "redis+sentinel":
        return _through_sentinels(parts, connections, limits, stack)
    # The blocking pool waits for a free connection; the plain one raises when it is full.
    pool = BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=timeout, **limits
    )
    return Redis.from_pool(pool)


def _check_ends(parts: SplitResult) -> None:
    """Raise `ValueError` for what redis-py passes over: a password that was not encoded, mostly."""
    patterns = {"unix": re.compile("/.+"), "redis+sentinel": _SERVICE}
    if not patterns.get(parts.scheme, _DATABASE).fullmatch(parts.path) or parts.fragment:
        raise ValueError
    if parts.query:
        parse_qs(parts.query, strict_parsing=True)


def _through_sentinels(
    parts: SplitResult, connections: int, limits: dict[str, Any], stack: AsyncExitStack
) -> Redis:
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    # The rest means what it means in the URL of one server.
    rest = parts._replace(scheme="redis", netloc=f"{login}@", path=database).geturl()
    options = {"max_connections": connections, **limits, **parse_url(rest)}
    # redis-py leaves Sentinel untyped.
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        [_address(host) for host in hosts.split(",")], sentinel_kwargs=limits
    )
    for one in sentinel.sentinels:
        stack.push_async_callback(one.aclose)
    client: Redis = sentinel.master_for(service or "mymaster", **options)
    return client


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname or parts.netloc != host:
        raise ValueError
    return parts.hostname, parts.port or 26379


def _retry(retries: int) -> Retry:
    if retries == 0:
        return Retry(NoBackoff(), 0)
    return Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), retries)
