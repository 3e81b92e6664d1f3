"""The way of records to the store: each once, in order, whoever wrote it and whatever fails."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recsvc.errors import RefusedError, StoreUnavailableError
from recsvc.outage.record import Numbered, Record, pack
from recsvc.outage.recovery import Recovery


@dataclass
class Ledger:
    """The `Replay` port in memory, with the marks of a real one; it may fail."""

    marks: dict[str, int] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    out_of_reach: set[str] = field(default_factory=set)
    up: bool = True
    fail_after: int | None = None

    async def probe(self) -> None:
        if not self.up:
            raise StoreUnavailableError("away")

    async def lost(self, records: Sequence[Numbered]) -> list[Numbered]:
        await self.probe()
        return [one for one in records if one.record.entry in self.missing]

    async def write(self, records: Sequence[Numbered]) -> int:
        await self.probe()
        if self.fail_after is not None:
            self.up = self.fail_after > 0
            self.fail_after -= 1
            await self.probe()
        if any(one.record.event["id"] in self.refused for one in records):
            raise RefusedError("WRONGTYPE")
        if any(one.record.event["id"] in self.out_of_reach for one in records):
            raise StoreUnavailableError("ConnectionError: Error 111")
        new = [one for one in records if one.number > self.marks.get(one.source, 0)]
        self.written += [one.record.event["id"] for one in new]
        self.marks |= {one.source: one.number for one in new}
        return len(new)

    async def forget(self, *sources: str) -> None:
        await self.probe()
        for source in sources:
            self.marks.pop(source, None)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def record(name: str, entry: str = "", at: int = 1) -> bytes:
    event: dict[str, Any] = {"id": name, "timestamp": at, "user": 1, "track": 2, "pad": "x" * 500}
    return pack(Record(event, known=True, field="", track=3, entry=entry))


@dataclass
class Worker:
    recovery: Recovery
    ledger: Ledger
    clock: Clock
    told: list[str]

    async def spool(self, *names: str) -> None:
        await asyncio.gather(*(self.recovery.outbox.append(record(name)) for name in names))


@asynccontextmanager
async def worker(base: Path, ledger: Ledger) -> AsyncIterator[Worker]:
    clock, told = Clock(), list[str]()
    recovery = Recovery(
        base,
        ledger,
        most=10_000_000,
        streams=1,
        clock=clock,
        replayed=lambda r: told.append(r.event["id"]),
        probe=ledger.probe,
    )
    try:
        yield Worker(recovery, ledger, clock, told)
    finally:
        await recovery.close()


def names(count: int, first: int = 0) -> list[str]:
    return [f"{n:016x}" for n in range(first, first + count)]


async def test_everything_is_written_once_and_in_order(tmp_path: Path) -> None:
    async with worker(tmp_path, Ledger()) as w:
        await w.spool(*names(3000))
        assert w.recovery.behind
        await w.recovery.drain()
        await w.recovery.drain()
        assert not w.recovery.behind
        await w.spool(*names(5, 3000))
        await w.recovery.drain()
        assert w.ledger.written == w.told == names(3005)
        assert w.recovery.tally.replayed == 3005


async def test_a_store_that_goes_away_again_gets_the_rest_later(tmp_path: Path) -> None:
    async with worker(tmp_path, Ledger(fail_after=2)) as w:
        await w.spool(*names(3000))
        with pytest.raises(StoreUnavailableError):
            await w.recovery.drain()
        assert 0 < len(w.ledger.written) < 3000
        w.ledger.up, w.ledger.fail_after = True, None
        await w.recovery.drain()
        assert w.ledger.written == w.told == names(3000)


async def test_what_a_crash_of_the_store_takes_back_is_written_again(tmp_path: Path) -> None:
    async with worker(tmp_path, Ledger()) as w:
        await w.spool(*names(10))
        await w.recovery.drain()
        await w.recovery.tidy()  # too soon to be sure
        w.ledger.written.clear()
        w.ledger.marks.clear()
        w.recovery.go_back()
        await w.recovery.drain()
        assert w.ledger.written == names(10)
        assert w.told == names(10)  # told once
        w.clock.now += 6
        await w.recovery.tidy()
        assert w.recovery.outbox.size == 0
        w.recovery.go_back()
        assert not w.recovery.behind


async def test_what_a_worker_leaves_behind_is_taken_over(tmp_path: Path) -> None:
    ledger = Ledger()
    async with worker(tmp_path, ledger) as dead:
        await dead.spool(*names(700))
    async with worker(tmp_path, ledger) as alive, worker(tmp_path, ledger) as w:
        await alive.spool("a" * 16)
        await w.recovery.tidy()
        assert w.recovery.behind
        await w.recovery.drain()
        assert ledger.written == names(700)
        await alive.recovery.tidy()
        assert len(list(tmp_path.iterdir())) == 3
        w.clock.now += 6
        await w.recovery.tidy()
        assert len(list(tmp_path.iterdir())) == 2
        assert not any(source.endswith(":spool") for source in ledger.marks)


async def test_what_the_store_lost_is_restored_for_all_workers(tmp_path: Path) -> None:
    ledger = Ledger(missing={"7-1", "9-1"})
    async with worker(tmp_path, ledger) as one, worker(tmp_path, ledger) as other:
        for w in (one, other):
            for n in range(5):
                w.recovery.journal.append(record(f"{n}", entry=f"{5 + n}-1"))
        await one.recovery.restore()
        await other.recovery.restore()
        assert sorted(ledger.written) == ["2", "2", "4", "4"]
        assert one.recovery.tally.restored == 4
        assert other.recovery.tally.restored == 0


async def test_what_several_workers_had_acknowledged_is_restored_in_the_order_of_time(
    tmp_path: Path,
) -> None:
    ledger = Ledger(missing={f"{n}-1" for n in range(1, 7)})
    async with worker(tmp_path, ledger) as one, worker(tmp_path, ledger) as other:
        for w, moments in ((one, (1, 4, 5)), (other, (2, 3, 6))):
            for at in moments:
                w.recovery.journal.append(record(f"{at:016x}", f"{at}-1", at))
        await one.recovery.restore()
        assert ledger.written == names(6, first=1)


async def test_one_record_that_is_refused_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    async with worker(tmp_path, Ledger(refused={names(5)[2]})) as w:
        await w.spool(*names(5))
        await w.recovery.drain()
        assert w.ledger.written == [n for n in names(5) if n != names(5)[2]]
        assert w.told == names(5)
        assert (w.recovery.tally.damaged, w.recovery.tally.replayed) == (1, 4)
        assert not w.recovery.behind


async def test_what_cannot_be_reached_has_not_refused_anything(tmp_path: Path) -> None:
    """As in a Cluster of which one server is away, and not the one that is probed."""
    async with worker(tmp_path, Ledger(out_of_reach={names(5)[2]})) as w:
        await w.spool(*names(5))
        for _ in range(5):
            with pytest.raises(StoreUnavailableError):
                await w.recovery.drain()
        w.ledger.out_of_reach.clear()
        await w.recovery.drain()
        assert w.ledger.written == names(5)
        assert (w.recovery.tally.damaged, w.recovery.tally.replayed) == (0, 5)


async def test_a_worker_that_answers_nothing_keeps_nothing(tmp_path: Path) -> None:
    async with worker(tmp_path, Ledger()) as w:
        w.recovery.journal.append(record("0" * 16, "1-1"))
        for _ in range(2):
            w.clock.now += 6
            await w.recovery.tidy()
        assert [path for path in tmp_path.rglob("recent-*") if path.stat().st_size] == []


async def test_bytes_that_are_no_record_are_counted(tmp_path: Path) -> None:
    async with worker(tmp_path, Ledger()) as w:
        await w.recovery.outbox.append(b"not a record")
        await w.spool(*names(2))
        await w.recovery.drain()
        assert w.ledger.written == names(2)
        assert w.recovery.tally.damaged == 1
