"""Publishing into a real server, and adopting what was published."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, cast

import pytest

from recsvc import artifact
from recsvc.artifact import Manifest
from recsvc.cache import Draft, TableCache
from recsvc.errors import (
    ArtifactError,
    NoPreviousTableError,
    NotPublishedError,
    StoreUnavailableError,
)
from recsvc.packing import pack
from recsvc.redis.commands import Client, Value
from recsvc.redis.connection import connect
from recsvc.redis.keys import Keys
from recsvc.redis.tables import Live, PublishedTables
from recsvc.redis.watch import TableWatch
from recsvc.table import Table
from tests.support import command, small_table


def made(n: int, chunk_bytes: int = 1024) -> tuple[Manifest, bytes]:
    """A table of n tracks in several small chunks."""
    data, table = pack(small_table(n)), small_table(n)
    whole = artifact.describe(data, table)
    chunks = [
        artifact.checksum(data[i : i + chunk_bytes]) for i in range(0, len(data), chunk_bytes)
    ]
    return whole.model_copy(update={"chunk_bytes": chunk_bytes, "chunks": chunks}), data


@pytest.fixture
def tables(client: Client, keys: Keys) -> PublishedTables:
    return PublishedTables(client, keys)


class Heard(list[Any]):
    """Keeps what it is told."""

    def __call__(self, *told: Any) -> None:
        self.append(told)


def watch(
    tables: PublishedTables, directory: Path, *, poll: float = 0.05, refused: Heard | None = None
) -> TableWatch:
    return TableWatch(
        tables,
        TableCache(directory),
        poll=poll,
        swapped=Heard(),
        refused=Heard() if refused is None else refused,
    )


@asynccontextmanager
async def running(watching: TableWatch) -> AsyncIterator[None]:
    task = asyncio.create_task(watching.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_publish_and_read_back(tables: PublishedTables) -> None:
    manifest, data = made(40)
    assert len(manifest.chunks) > 3
    steps: list[tuple[int, int]] = []
    assert await tables.live() == Live(None, None)
    live = await tables.publish(manifest, data, lambda done, total: steps.append((done, total)))
    assert live == Live(manifest.version, None)
    assert await tables.live() == live
    assert await tables.manifest(manifest.version) == manifest
    assert b"".join([chunk async for chunk in tables.chunks(manifest)]) == data
    assert steps[-1] == (len(manifest.chunks), len(manifest.chunks))


async def test_publishing_again_changes_nothing(tables: PublishedTables) -> None:
    first, second = made(10), made(11)
    await tables.publish(*first)
    live = await tables.publish(*second)
    assert live == Live(second[0].version, first[0].version)
    assert await tables.publish(*second) == live


async def test_rollback_and_back_again(tables: PublishedTables) -> None:
    first, second = made(10), made(11)
    with pytest.raises(NoPreviousTableError):
        await tables.rollback()
    await tables.publish(*first)
    await tables.publish(*second)
    assert await tables.rollback() == Live(first[0].version, second[0].version)
    assert await tables.rollback() == Live(second[0].version, first[0].version)


@pytest.mark.parametrize("damage", ["chunk", "no chunk", "manifest", "no manifest"])
async def test_publishing_again_repairs_what_is_damaged_and_is_announced(
    client: Client, keys: Keys, tables: PublishedTables, tmp_path: Path, damage: str
) -> None:
    manifest, data = made(40)
    await tables.publish(manifest, data)
    field = "manifest" if "manifest" in damage else "1"
    if "no" in damage:
        await command(client, "HDEL", keys.table(manifest.version), field)
    else:
        await client.hset(keys.table(manifest.version), field, b"damaged")
    refused = Heard()
    watching = watch(tables, tmp_path, poll=60.0, refused=refused)
    await watching.start()
    async with running(watching):
        await asyncio.sleep(0.2)  # until it has subscribed
        assert len(refused) == 1
        assert await tables.publish(manifest, data) == Live(manifest.version, None)
        await until(lambda: watching.source.version == manifest.version)
    assert b"".join([chunk async for chunk in tables.chunks(manifest)]) == data


class Noted:
    """A client that notes which fields it writes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.written: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    async def hset(
        self,
        name: str,
        key: str | None = None,
        value: Value | None = None,
        mapping: Mapping[str, Value] | None = None,
    ) -> int:
        self.written.append([key] if key else list(mapping or ()))
        return await self.client.hset(name, key, value, mapping)


async def test_publishing_again_writes_only_what_is_damaged(
    client: Client, keys: Keys, tables: PublishedTables
) -> None:
    manifest, data = made(40)
    await tables.publish(manifest, data)
    await client.hset(keys.table(manifest.version), "2", b"damaged")
    noted = Noted(client)
    for _ in range(2):
        await PublishedTables(cast("Client", noted), keys).publish(manifest, data)
    assert noted.written == [["2"]]


@pytest.mark.parametrize("damage", [b"damaged", None])
async def test_a_rollback_to_a_damaged_table_is_refused_and_the_live_one_stays(
    client: Client, keys: Keys, tables: PublishedTables, damage: bytes | None
) -> None:
    (first, data), second = made(40), made(11)
    await tables.publish(first, data)
    live = await tables.publish(*second)
    if damage is None:
        await command(client, "HDEL", keys.table(first.version), "3")
    else:
        await client.hset(keys.table(first.version), "3", damage)
    with pytest.raises(ArtifactError, match=f"chunk 3 of table {first.version}"):
        await tables.rollback()
    assert await tables.live() == live


async def test_old_tables_are_removed_and_young_ones_kept(
    client: Client, keys: Keys, tables: PublishedTables
) -> None:
    versions = [made(n) for n in (10, 11, 12, 13)]
    await tables.publish(*versions[0])
    await tables.publish(*versions[1])
    await client.zadd(keys.versions, {versions[0][0].version: 0.0})
    await tables.publish(*versions[2])
    with pytest.raises(NotPublishedError):
        await tables.manifest(versions[0][0].version)
    await tables.publish(*versions[3])  # the second is neither live nor previous, but young
    await tables.manifest(versions[1][0].version)


@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
async def test_a_damaged_chunk_is_refused_and_the_old_table_goes_on_serving(
    client: Client, keys: Keys, tables: PublishedTables, tmp_path: Path, damage: str
) -> None:
    first, (manifest, data) = made(10), made(40)
    await tables.publish(*first)
    refused = Heard()
    watching = watch(tables, tmp_path, refused=refused)
    await watching.start()
    await tables.publish(manifest, data)
    key, chunk = keys.table(manifest.version), data[1024:2048]
    if damage == "missing":
        await command(client, "HDEL", key, "1")
    else:
        worse = chunk[:-1] if damage == "cut" else bytes([chunk[0] ^ 1]) + chunk[1:]
        await client.hset(key, "1", worse)

    with pytest.raises(ArtifactError, match="chunk 1 of table"):
        await watching.refresh()
    assert watching.source.version == first[0].version
    with pytest.raises(ArtifactError):  # remembered, not fetched again
        await watching.refresh()
    assert len(refused) == 1

    await client.hset(key, "1", chunk)
    assert (await watching.refresh(again=True)).source.version == manifest.version


async def test_a_manifest_from_elsewhere_is_refused(
    client: Client, keys: Keys, tables: PublishedTables, tmp_path: Path
) -> None:
    manifest, data = made(10)
    await tables.publish(manifest, data)
    await client.hset(keys.table(manifest.version), "manifest", artifact.render(made(11)[0]))
    with pytest.raises(ArtifactError, match="holds the manifest of"):
        await watch(tables, tmp_path).refresh()


async def test_adoption_by_announcement(tables: PublishedTables, tmp_path: Path) -> None:
    watching = watch(tables, tmp_path, poll=60.0)
    manifest, data = made(10)
    async with running(watching):
        await asyncio.sleep(0.2)  # until it has subscribed
        await tables.publish(manifest, data)
        await until(lambda: watching.source.version == manifest.version)


async def test_adoption_by_polling_when_the_announcement_is_lost(
    client: Client, keys: Keys, tables: PublishedTables, tmp_path: Path
) -> None:
    first, second = made(10), made(11)
    await tables.publish(*second)
    await tables.publish(*first)
    watching = watch(tables, tmp_path)
    await watching.start()
    async with running(watching):
        await client.hset(keys.live, "version", second[0].version)  # nobody announces this
        await until(lambda: watching.source.version == second[0].version)


async def test_without_a_table_it_serves_from_nothing(
    tables: PublishedTables, tmp_path: Path
) -> None:
    watching = watch(tables, tmp_path)
    await watching.start()
    assert len(watching.source.table) == 0
    with pytest.raises(NotPublishedError):
        await watching.refresh()


async def test_a_start_without_redis_uses_the_disk(
    tables: PublishedTables, keys: Keys, tmp_path: Path
) -> None:
    manifest, data = made(10)
    await tables.publish(manifest, data)
    await watch(tables, tmp_path).start()
    nowhere = f"unix://{tmp_path}/nobody"
    async with connect(nowhere, reply_within=0.1, connections=1) as client:
        watching = watch(PublishedTables(client, keys), tmp_path)
        await watching.start()
        assert watching.source.version == manifest.version
        with pytest.raises(StoreUnavailableError):
            await watching.refresh()


async def test_a_damaged_file_is_fetched_again(
    tables: PublishedTables, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, data = made(40)
    await tables.publish(manifest, data)
    file = tmp_path / f"{manifest.version}.safetensors"
    file.write_bytes(data[:-1] + b"x")
    workers = [watch(tables, tmp_path) for _ in range(3)]
    await asyncio.gather(*(worker.start() for worker in workers))
    assert {worker.source.version for worker in workers} == {manifest.version}
    assert "of no use" in caplog.text
    assert file.read_bytes() == data


async def test_a_start_with_a_disk_that_takes_nothing_serves_once_it_does(
    tables: PublishedTables, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, data = made(40)
    await tables.publish(manifest, data)
    in_the_way = tmp_path / "tables"
    in_the_way.touch()
    watching = watch(tables, in_the_way)
    await watching.start()
    assert len(watching.source.table) == 0
    assert watching.live.version == manifest.version  # which /health/ready tells
    assert "no table from Redis" in caplog.text
    in_the_way.unlink()
    async with running(watching):
        await until(lambda: watching.source.version == manifest.version)


async def test_a_start_with_a_file_that_cannot_be_read_serves_once_it_is_gone(
    tables: PublishedTables, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, data = made(40)
    await tables.publish(manifest, data)
    await watch(tables, tmp_path).start()  # which notes that this one was in use
    file = tmp_path / f"{manifest.version}.safetensors"
    file.unlink()
    file.mkdir()
    watching = watch(tables, tmp_path)
    await watching.start()
    assert len(watching.source.table) == 0
    assert "of no use" in caplog.text
    file.rmdir()
    await watching.refresh()
    assert watching.source.version == manifest.version


class FailingAtTheSecond(TableWatch):
    async def _swap(self, table: Table, manifest: Manifest) -> None:
        if self.loaded.manifest is not None:
            raise ArtifactError("it cannot be put into service")
        await super()._swap(table, manifest)


async def test_who_was_forgotten_is_held_back_when_the_next_table_is_not_adopted(
    client: Client, keys: Keys, tables: PublishedTables, tmp_path: Path
) -> None:
    await tables.publish(*made(40))
    watching = FailingAtTheSecond(
        tables, TableCache(tmp_path), poll=60.0, swapped=Heard(), refused=Heard()
    )
    await watching.start()
    await client.zadd(keys.forgotten(0), {"1": time.time() * 1000 + 2000})  # and not before
    await tables.publish(*made(41))
    with pytest.raises(ArtifactError):
        await watching.refresh()
    assert len(watching.source.personal(1)) == 0
    assert len(watching.source.personal(2)) > 0


async def test_two_workers_share_one_file(tables: PublishedTables, tmp_path: Path) -> None:
    await tables.publish(*made(40))
    workers = [watch(tables, tmp_path) for _ in range(4)]
    await asyncio.gather(*(worker.start() for worker in workers))
    assert {worker.source.version for worker in workers} == {made(40)[0].version}
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


class Threads:
    """Notes in which threads the disk is waited for."""

    def __init__(self) -> None:
        self.used: list[int] = []

    def note(self) -> None:
        self.used.append(threading.get_ident())


class NotedCache(TableCache):
    def __init__(self, directory: Path, threads: Threads) -> None:
        super().__init__(directory)
        self.threads = threads

    def open(self, manifest: Manifest) -> Table | None:
        self.threads.note()
        return super().open(manifest)

    def lock(self) -> IO[bytes]:
        self.threads.note()
        return super().lock()

    def draft(self, manifest: Manifest) -> Draft:
        self.threads.note()
        return NotedDraft(self.directory / f"{manifest.version}.safetensors", self.threads)

    def remember(self, manifest: Manifest, keep: set[str]) -> None:
        self.threads.note()
        super().remember(manifest, keep)


class NotedDraft(Draft):
    def __init__(self, path: Path, threads: Threads) -> None:
        super().__init__(path)
        self.threads = threads

    def write(self, chunk: bytes) -> None:
        self.threads.note()
        super().write(chunk)

    def finish(self) -> None:
        self.threads.note()
        super().finish()

    def close(self) -> None:
        self.threads.note()
        super().close()


async def test_no_answer_waits_for_the_disk(tables: PublishedTables, tmp_path: Path) -> None:
    manifest, data = made(40)
    await tables.publish(manifest, data)
    threads = Threads()
    watching = TableWatch(
        tables, NotedCache(tmp_path, threads), poll=60.0, swapped=Heard(), refused=Heard()
    )
    await watching.start()
    assert watching.source.version == manifest.version
    # looked for, locked; begun, written, finished, closed; opened; remembered
    assert len(threads.used) == 2 + 3 + len(manifest.chunks) + 2
    assert threading.get_ident() not in threads.used


async def test_trouble_is_logged_once_and_the_watch_goes_on(
    client: Client,
    keys: Keys,
    tables: PublishedTables,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    manifest, data = made(40)
    await tables.publish(manifest, data)
    await client.hset(keys.table(manifest.version), "0", b"damaged")
    watching = watch(tables, tmp_path, poll=0.01)
    async with running(watching):
        await until(lambda: "chunk 0 of table" in caplog.text)
        await asyncio.sleep(0.2)  # some twenty polls more
        assert caplog.text.count("the table stays as it is") == 1
        await tables.publish(*made(10))
        await until(lambda: watching.source.version == made(10)[0].version)
