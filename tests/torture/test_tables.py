"""Tables that change under load, publishers that are killed, bytes that are damaged."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from recsvc import artifact
from recsvc.artifact import Manifest
from recsvc.cache import TableCache
from recsvc.errors import ArtifactError
from recsvc.packing import pack
from recsvc.redis.connection import connect
from recsvc.redis.keys import Keys
from recsvc.redis.tables import PublishedTables
from recsvc.redis.watch import TableWatch
from recsvc.table import Table
from tests.processes import Served, look, serve
from tests.support import command, small_table
from tests.torture.conftest import Report
from tests.torture.proxy import Freeze, Pass, Refuse
from tests.torture.stage import Stage, stage


@asynccontextmanager
async def tables(running: Stage) -> AsyncIterator[PublishedTables]:
    async with connect(running.store_url, reply_within=10, connections=4) as client:
        yield PublishedTables(client, Keys())


def made(table: Table) -> tuple[Manifest, bytes]:
    data = pack(table)
    return artifact.describe(data, table), data


@contextmanager
def in_chunks(table: Table, chunk_bytes: int = 1024) -> Iterator[tuple[Manifest, bytes]]:
    manifest, data = made(table)
    pieces = [data[i : i + chunk_bytes] for i in range(0, len(data), chunk_bytes)]
    chunks = [artifact.checksum(piece) for piece in pieces]
    yield manifest.model_copy(update={"chunk_bytes": chunk_bytes, "chunks": chunks}), data


def version(running: Stage) -> str:
    found: str = look(f"{running.served.url}/").json()["table_version"]
    return found


def _serves(running: Stage, wanted: str | None) -> bool:
    return version(running) == wanted


async def _swaps(report: Report, swaps: int) -> None:
    one, other = small_table(2000), small_table(2000, first=1_000_000)
    firsts = {made(one)[0].version: 0, made(other)[0].version: 1_000_000}
    with stage(one) as running:
        async with tables(running) as published:
            before = await published.live()
            await published.publish(*made(other))
            slowest = 0.0
            async with running.playing(players=8):
                for _ in range(swaps):
                    live = await published.rollback()
                    took = await running.until(partial(_serves, running, live.version))
                    slowest = max(slowest, took)
            assert before.version in firsts
        await running.settled()
        verdict = await running.verdict()
        mixed = 0
        for call in running.log.of("next"):
            first = firsts[call.answer["table_version"]]
            mixed += not first <= call.answer["track"] < first + 2000
        seen = {call.answer["table_version"] for call in running.log.of("next")}
        report(
            "Swaps of the table under load", f"{swaps} swaps, 8 players",
            f"{verdict}; {mixed} answers of a mix; in service after at most {slowest:.2f} s",
        )  # fmt: skip
        assert verdict.clean, verdict
        assert mixed == 0
        assert seen == set(firsts)


async def test_swaps(report: Report) -> None:
    await _swaps(report, 10)


@pytest.mark.torture
async def test_swaps_in_full(report: Report) -> None:
    await _swaps(report, 1000)


KILLED = """
import asyncio, os, sys
from recsvc.redis.connection import connect
from recsvc.redis.keys import Keys
from recsvc.redis.tables import PublishedTables
from tests.support import small_table
from tests.torture.test_tables import in_chunks

class Killed:
    '''A client whose process is killed before its n-th command.'''

    def __init__(self, client, left):
        self.client, self.left = client, left

    def __getattr__(self, name):
        if name == "pipeline" or not callable(getattr(self.client, name)):
            return getattr(self.client, name)
        async def call(*arguments, **named):
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), 9)
            return await getattr(self.client, name)(*arguments, **named)
        return call

async def main():
    url, tracks, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    async with connect(url, reply_within=10, connections=4) as client:
        with in_chunks(small_table(tracks)) as (manifest, data):
            await PublishedTables(Killed(client, steps), Keys()).publish(manifest, data)

asyncio.run(main())
"""


async def _killed_publisher(report: Report, most: int) -> None:
    killed, old, flipped = 0, 0, 0
    with stage(small_table(2000)) as running:
        async with tables(running) as published, running.playing(players=4):
            for steps in range(most):
                before = await published.live()
                arguments = [running.store_url, str(300 + steps), str(steps)]
                done = await asyncio.to_thread(
                    subprocess.run, [sys.executable, "-c", KILLED, *arguments], check=False
                )
                live = await published.live()
                with in_chunks(small_table(300 + steps)) as (manifest, _):
                    assert live.version in (before.version, manifest.version)
                    new = live.version == manifest.version
                assert await running.until(partial(_serves, running, live.version)) < 10
                killed += done.returncode == -9
                old += not new
                flipped += new
                if done.returncode == 0:
                    break
        await running.settled()
        verdict = await running.verdict()
        report(
            "The publisher is killed", f"before each of its {killed} commands, 4 players",
            f"{verdict}; the old table stayed {old} times, the new one was whole {flipped} times",
        )  # fmt: skip
        assert verdict.clean, verdict
        assert old > 3


async def test_a_killed_publisher(report: Report) -> None:
    await _killed_publisher(report, 5)


@pytest.mark.torture
async def test_a_killed_publisher_in_full(report: Report) -> None:
    await _killed_publisher(report, 100)


async def _damage(report: Report, times: int, directory: Path, url: str) -> None:
    """Damage one byte or cut one piece of a published table at a time, and try to adopt it."""
    keys, rng, reasons = Keys("damage"), Random(1), set[str]()
    async with connect(url, reply_within=10, connections=4) as client:
        published = PublishedTables(client, keys)
        watch = TableWatch(
            published,
            TableCache(directory),
            poll=60,
            swapped=lambda _: None,
            refused=lambda _, reason: reasons.add(reason.split(":")[0].split(" of ")[0]),
        )
        with in_chunks(small_table(100)) as (manifest, data):
            await published.publish(manifest, data)
        with in_chunks(small_table(12)) as (manifest, data):
            await published.publish(manifest, data)
        await published.rollback()
        await watch.refresh()
        good = watch.source.version
        await published.rollback()
        key = keys.table(manifest.version)
        fields = ["manifest", *map(str, range(len(manifest.chunks)))]
        for _ in range(times):
            field = rng.choice(fields)
            whole: bytes = await command(client, "HGET", key, field)
            await client.hset(key, field, _damaged(whole, rng))
            try:
                await watch.refresh(again=True)
            except ArtifactError:
                assert watch.source.version == good
            else:
                raise AssertionError(f"{field} was damaged, and adopted")
            finally:
                await client.hset(key, field, whole)
        assert (await watch.refresh(again=True)).source.version == manifest.version
    report(
        "Damaged tables", f"{times} flipped or cut bytes in Redis",
        f"all refused with a reason ({len(reasons)} kinds)",
    )  # fmt: skip


def _damaged(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    while data[at : at + 1].isspace():
        at = rng.randrange(len(data))
    if rng.random() < 0.3:
        return data[:at]
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


async def test_damage(report: Report, valkey: str, tmp_path: Path) -> None:
    await _damage(report, 200, tmp_path, valkey)


@pytest.mark.torture
async def test_damage_in_full(report: Report, valkey: str, tmp_path: Path) -> None:
    await _damage(report, 10_000, tmp_path, valkey)


async def test_rollback_within_a_second_and_adoption_without_announcements(report: Report) -> None:
    with stage(small_table(100)) as running:
        async with tables(running) as published:
            old = await published.live()
            await published.publish(*made(small_table(101)))
            await running.until(lambda: version(running) != old.version)
            await published.rollback()
            rollback = await running.until(lambda: version(running) == old.version)
            # An outage of announcements only: the pointer is flipped, and nobody is told.
            await command(published.client, "HSET", Keys().live, "version", live_other(old.version))
            silent = await running.until(lambda: version(running) != old.version)
    report(
        "Rollback; a publication nobody announces", "once each, polling every 0.5 s",
        f"in service after {rollback:.2f} s and {silent:.2f} s",
    )  # fmt: skip
    assert rollback < 2.0
    assert silent < 4.0


def live_other(version: str | None) -> str:
    """Return the version of the two in that test that is not this one."""
    both = {made(small_table(n))[0].version for n in (100, 101)}
    (other,) = both - {version}
    return other


def asked(served: Served) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.post(
        f"{served.url}/next/1", json={"track": 3, "time": 0.5}
    ).json()
    return answer


def healthy(served: Served, kind: str) -> bool:
    return look(f"{served.url}/health/{kind}").status_code == 200


@pytest.mark.parametrize("fault", [Refuse(), Freeze()], ids=["refusing", "frozen"])
async def test_a_start_with_redis_away(fault: Refuse | Freeze, report: Report) -> None:
    with stage(small_table(100)) as running:
        before = version(running)
        running.served.stop()
        with running.proxy.doing(fault):
            started = time.monotonic()
            with serve(running.directory, redis_url=running.proxy.url, table_poll=0.2) as served:
                took = time.monotonic() - started
                answer = asked(served)
                assert (answer["degraded"], answer["table_version"]) == (True, before)
                assert answer["track"] in range(100)
                assert (healthy(served, "live"), healthy(served, "ready")) == (True, False)
                running.proxy.fault = Pass()
                running.served = served
                back = await running.until(partial(healthy, served, "ready"))
                await running.settled()
                again = asked(served)
                assert (again["degraded"], again["position"]) == (False, 1)
                assert again["track"] != answer["track"]
    report(
        "A start with Redis away", type(fault).__name__.lower(),
        f"answers from the last table on disk after {took:.1f} s; ready {back:.2f} s after "
        "Redis was back",
    )  # fmt: skip
    assert took < 12.0
    assert back < 4.0
