"""Records on their way to the store: on disk before anybody goes on, one sync for many."""

import asyncio
from pathlib import Path

import pytest

from recsvc.errors import SpoolFullError
from recsvc.outage.outbox import Outbox
from recsvc.outage.spool import read_records


async def test_a_record_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    outbox = Outbox(path, 10_000)
    for i in range(5):
        await outbox.append(b"%d" % i)
        assert [e.payload for e in read_records(path)] == [b"%d" % j for j in range(i + 1)]


async def test_many_that_wait_share_a_sync_and_keep_their_order(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", 1_000_000)
    await asyncio.gather(*(outbox.append(b"%d" % i) for i in range(500)))
    assert [int(e.payload) for e in read_records(tmp_path / "spool")] == list(range(500))
    assert outbox.syncs < 10


async def test_what_does_not_fit_is_refused_and_what_does_is_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", 100)
    results = await asyncio.gather(
        *(outbox.append(b"x" * size) for size in (40, 60, 20)), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), SpoolFullError, type(None)]
    with pytest.raises(SpoolFullError):
        await outbox.append(b"y" * 50)


async def test_it_is_emptied_while_it_is_filled(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", 1_000_000)
    taken: list[int] = []

    async def fill() -> None:
        for i in range(100):
            await outbox.append(b"%d" % i)

    async def empty() -> None:
        while len(taken) < 100:
            if entries := await outbox.take(200):
                taken.extend(int(e.payload) for e in entries)
                outbox.move_on(entries)
                await outbox.clear()
            await asyncio.sleep(0)

    await asyncio.gather(fill(), empty())
    assert taken == list(range(100))
    assert outbox.behind == 0


async def test_it_can_go_back_to_what_has_not_been_cleared(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", 10_000)
    await outbox.append(b"one")
    entries = await outbox.take(1000)
    outbox.move_on(entries)
    assert await outbox.take(1000) == []
    outbox.go_back()
    assert await outbox.take(1000) == entries
    await outbox.clear()  # nothing: it has not been taken again
    assert outbox.size > 0
    outbox.move_on(entries)
    await outbox.clear()
    assert (outbox.size, outbox.behind) == (0, 0)
    await outbox.append(b"two")
    assert [e.number for e in await outbox.take(1000)] == [2]


async def test_who_stops_waiting_takes_nothing_back(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "spool", 10_000)
    waiting = asyncio.create_task(outbox.append(b"one"))
    await asyncio.sleep(0)
    waiting.cancel()
    await outbox.append(b"two")
    await outbox.close()
    assert [e.payload for e in read_records(tmp_path / "spool")] == [b"one", b"two"]
