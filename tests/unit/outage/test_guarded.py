"""The guard of the session store: when it asks, what it keeps, what it waits for."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from recsvc.errors import NotAskedError, StoreUnavailableError
from recsvc.outage.breaker import Breaker
from recsvc.outage.guarded import GuardedSessions
from recsvc.outage.journal import read_journal
from recsvc.outage.memory import Memory
from recsvc.outage.record import Numbered, Record, pack, unpack
from recsvc.outage.recovery import Recovery
from recsvc.policy import CONTEXTUAL
from recsvc.session import (
    UNSURE,
    Claim,
    Claimed,
    Exhausted,
    Finished,
    Last,
    Moved,
    Recalled,
    Receipt,
    Report,
    Session,
)
from tests.support import claim, three_pools


@dataclass
class Store:
    """The `Sessions` port, which fails as it is told; also the `Replay` port."""

    fault: Exception | None = None
    fails: int = 0  # times, and then no more
    again: bool = False  # what it is asked for was done before
    hangs: bool = False
    asked: int = 0
    position: int = 0
    written: list[int] = field(default_factory=list)
    lasts: list[Last] = field(default_factory=list)
    held: asyncio.Event | None = None
    reply: asyncio.Future[None] | None = None

    async def _reach(self) -> None:
        self.asked += 1
        if self.reply is not None:
            await self.reply
        if self.hangs:
            await asyncio.sleep(60)
        if self.fails:
            self.fails -= 1
            raise StoreUnavailableError("the connection was lost")
        if self.fault is not None:
            raise self.fault

    async def claim(self, claim: Claim, last: Last = UNSURE) -> Claimed | Exhausted | Moved:
        self.lasts.append(last)
        await self._reach()
        self.position += 1
        track = 100 + self.position
        origin = (claim.policy, claim.table_version, claim.report.request_id)
        entry = "" if self.again else f"{self.position}-1"
        return Claimed(track, "contextual", 0.5, self.position - 1, "s", False, *origin, entry)

    def bundles(self, users: Sequence[int]) -> list[list[int]]:
        return [list(range(start, min(start + 3, len(users)))) for start in range(0, len(users), 3)]

    async def claim_all(
        self, claims: Sequence[Claim], lasts: Sequence[Last] = ()
    ) -> list[Claimed | Exhausted | Moved]:
        return [await self.claim(*each) for each in zip(claims, lasts, strict=True)]

    async def finish(
        self, report: Report, event: Mapping[str, Any], expires_ms: int = 0
    ) -> Finished | None:
        await self._reach()
        return None if self.again else Finished("9-1", "s", 1)

    async def recall_all(self, users: Sequence[int]) -> list[Recalled | None]:
        return [await self.recall(user) for user in users]

    async def recall(self, user: int) -> Recalled:
        await self._reach()
        return Recalled(user, None, b"")

    async def read(self, user: int) -> Session | None:
        await self._reach()
        return None

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        await self._reach()
        return [False] * len(tracks)

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        await self._reach()
        return []

    async def erase(self, user: int, expires_ms: int = 0) -> Receipt:
        await self._reach()
        return Receipt(session=True, listened=1, at=0)

    async def ping(self) -> None:
        await self._reach()

    async def lost(self, records: Sequence[Numbered]) -> list[Numbered]:
        return []

    async def write(self, records: Sequence[Numbered]) -> int:
        if self.held is not None:
            await self.held.wait()
        self.written += [one.number for one in records]
        return len(records)

    async def forget(self, *sources: str) -> None:
        pass


@dataclass
class Guard:
    sessions: GuardedSessions
    store: Store
    memory: Memory
    recovery: Recovery

    def journal(self) -> list[Record]:
        (directory,) = self.recovery.base.iterdir()
        kept = [entry for entries in read_journal(directory) for entry in entries]
        return [unpack(entry.payload) for entry in reversed(kept)]

    async def give_up(self) -> None:
        self.store.fault = StoreUnavailableError("gone")
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                await self.sessions.claim(claim(three_pools()))
        await self.until(is_open=True)

    async def until(self, *, is_open: bool) -> None:
        async with asyncio.timeout(5):
            while self.sessions.breaker.is_open != is_open:
                await asyncio.sleep(0.01)


@pytest.fixture
async def guard(tmp_path: Path) -> AsyncIterator[Guard]:
    store = Store()
    memory = Memory(None, listeners=64, ttl=1800, names=("contextual", "personal"))
    now = asyncio.get_running_loop().time

    def learned(record: Record) -> None:
        memory.learned(memory.place(record.event["user"], _CLOCK))

    recovery = Recovery(
        tmp_path,
        store,
        most=1_000_000,
        streams=1,
        clock=now,
        replayed=learned,
        probe=store.ping,
    )
    breaker = Breaker(failures=3, longest=0.05, rng=Random(1))
    sessions = GuardedSessions(
        store, recovery, memory, breaker, clock=lambda: _CLOCK, monotonic=now, patience=0.05
    )
    await sessions.start()
    task = asyncio.create_task(sessions.run())
    yield Guard(sessions, store, memory, recovery)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await recovery.close()


_CLOCK = 1_700_000_000.0


async def test_an_answer_is_journalled_and_remembered(guard: Guard) -> None:
    asked = claim(three_pools(), user=7, track=5, key="k")
    event = {"user": 7, "track": 5, "timestamp": 1}
    answer = await guard.sessions.claim(replace(asked, event=event))
    assert isinstance(answer, Claimed)
    (record,) = guard.journal()
    assert (record.track, record.entry, record.session, record.position) == (101, "1-1", "s", 0)
    assert record.field.startswith("next:")
    place = guard.memory.place(7, _CLOCK)
    assert [guard.memory.heard(place, track) for track in (5, 101, 102)] == [True, True, False]
    assert guard.memory.last(place) == Last("contextual")


async def test_the_end_of_a_session_is_journalled_and_forgotten(guard: Guard) -> None:
    event = {"user": 1, "track": 5, "timestamp": 1}
    await guard.sessions.claim(replace(claim(three_pools()), event=event))
    await guard.sessions.finish(claim(three_pools()).report, event)
    assert [record.track for record in guard.journal()] == [101, None]
    assert not guard.memory.heard(guard.memory.place(1, _CLOCK), 101)


async def test_an_erasure_is_journalled_and_forgotten(guard: Guard) -> None:
    event = {"user": 1, "track": 5, "timestamp": 1}
    await guard.sessions.claim(replace(claim(three_pools()), event=event))
    await guard.sessions.erase(1)
    assert guard.journal()[-1].event["message"] == "forget"
    assert not guard.memory.heard(guard.memory.place(1, _CLOCK), 101)


async def test_an_answer_given_before_is_not_noted_for_the_latest(guard: Guard) -> None:
    asked = claim(three_pools(), track=5, key="k")
    guard.store.again = True
    assert isinstance(await guard.sessions.claim(asked), Claimed)
    place = guard.memory.place(1, _CLOCK)
    assert guard.memory.answers(place) == 0
    assert not guard.memory.heard(place, 5)


async def test_an_answer_that_is_only_heard_of_at_the_second_try_is_noted(guard: Guard) -> None:
    guard.store.fails, guard.store.again = 1, True
    asked = claim(three_pools(), track=5, key="k")
    assert isinstance(await guard.sessions.claim(asked), Claimed)
    assert guard.memory.heard(guard.memory.place(1, _CLOCK), 5)


async def test_the_end_of_an_earlier_session_is_not_that_of_this_one(guard: Guard) -> None:
    event = {"user": 1, "track": 5, "timestamp": 1}
    await guard.sessions.claim(replace(claim(three_pools()), event=event))
    guard.store.again = True
    assert await guard.sessions.finish(claim(three_pools(), key="k").report, event) is None
    assert guard.memory.heard(guard.memory.place(1, _CLOCK), 101)


async def test_a_store_that_fails_is_not_asked_any_more(guard: Guard) -> None:
    await guard.give_up()
    asked = guard.store.asked
    for call in (
        guard.sessions.claim(claim(three_pools())),
        guard.sessions.finish(claim(three_pools()).report, {}),
        guard.sessions.read(1),
        guard.sessions.heard(1, [1]),
        guard.sessions.listened(1),
        guard.sessions.erase(1),
        guard.sessions.ping(),
    ):
        with pytest.raises(NotAskedError):
            await call
    assert guard.store.asked <= asked + 1  # but for a probe


async def test_a_start_is_an_outage_only_if_the_store_is_away(guard: Guard) -> None:
    assert (guard.sessions.breaker.is_open, guard.sessions.breaker.openings) == (False, 0)
    guard.store.fault = StoreUnavailableError("it is away")
    await guard.sessions.start()
    assert (guard.sessions.breaker.is_open, guard.sessions.breaker.openings) == (True, 1)


async def test_it_is_used_again_when_it_works(guard: Guard) -> None:
    await guard.give_up()
    guard.store.fault = None
    await guard.until(is_open=False)
    assert isinstance(await guard.sessions.claim(claim(three_pools())), Claimed)


async def test_a_probe_that_hangs_is_given_up(guard: Guard) -> None:
    await guard.give_up()
    guard.store.fault, guard.store.hangs = None, True
    asked = guard.store.asked
    async with asyncio.timeout(5):
        while guard.store.asked < asked + 3:
            await asyncio.sleep(0.01)
    assert guard.sessions.breaker.is_open


async def test_it_says_who_answered_last_where_it_remembers(guard: Guard) -> None:
    await guard.sessions.claim(claim(three_pools(), user=1))
    await guard.sessions.claim(claim(three_pools(), user=1))
    await guard.sessions.claim_all([claim(three_pools(), user=user) for user in (1, 2)])
    await guard.sessions.finish(claim(three_pools(), user=1).report, {"user": 1})
    await guard.sessions.claim(claim(three_pools(), user=1))
    assert guard.store.lasts == [UNSURE, Last(CONTEXTUAL), Last(CONTEXTUAL), UNSURE, UNSURE]


async def test_a_call_that_runs_out_of_time_is_a_failure(guard: Guard) -> None:
    guard.store.hangs = True
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await guard.sessions.claim(claim(three_pools()))
    await guard.until(is_open=True)


async def test_failures_of_our_own_making_are_looked_into(guard: Guard) -> None:
    for _ in range(5):
        guard.store.fault = StoreUnavailableError("no answer within the deadline")
        with pytest.raises(StoreUnavailableError):
            await guard.sessions.claim(claim(three_pools()))
        guard.store.fault = None  # so the probe succeeds
    await asyncio.sleep(0.05)
    assert guard.sessions.breaker.openings == 0
    assert isinstance(await guard.sessions.claim(claim(three_pools())), Claimed)


async def test_with_a_key_it_asks_once_more(guard: Guard) -> None:
    guard.store.fault = StoreUnavailableError("the connection was lost")
    with pytest.raises(StoreUnavailableError):
        await guard.sessions.claim(claim(three_pools(), key="k"))
    assert guard.store.asked == 1 + 2  # the first is the probe at the start


async def test_when_it_may_have_done_it_the_error_does_not_say_that_it_has_not(
    guard: Guard,
) -> None:
    guard.store.fault = StoreUnavailableError("the connection was lost")
    for _ in range(2):
        with pytest.raises(StoreUnavailableError) as raised:
            await guard.sessions.claim(claim(three_pools(), key="k"))
        assert not isinstance(raised.value, NotAskedError)


async def test_a_restarted_store_is_brought_up_to_date_first(guard: Guard) -> None:
    guard.sessions.restarted()
    with pytest.raises(NotAskedError):
        await guard.sessions.claim(claim(three_pools()))
    await guard.until(is_open=False)


async def test_a_listener_waits_until_the_store_knows_what_it_missed(guard: Guard) -> None:
    guard.store.held = asyncio.Event()
    record = Record({"user": 1, "track": 5, "timestamp": 1, "id": "x"}, True, "", 6)
    guard.memory.pend(guard.memory.place(1, _CLOCK), _CLOCK)
    await guard.recovery.outbox.append(pack(record))
    guard.sessions.spooled()
    waiting = asyncio.create_task(guard.sessions.claim(claim(three_pools(), user=1)))
    assert isinstance(await guard.sessions.claim(claim(three_pools(), user=2)), Claimed)
    assert not waiting.done()
    guard.store.held.set()
    async with asyncio.timeout(5):
        assert isinstance(await waiting, Claimed)
    assert guard.store.written == [1]


async def test_what_was_miscounted_does_not_hold_a_listener_for_ever(guard: Guard) -> None:
    place = guard.memory.place(1, _CLOCK)
    guard.memory.pend(place, _CLOCK - 100)
    guard.sessions._closed_at = _CLOCK - 100
    async with asyncio.timeout(5):
        assert isinstance(await guard.sessions.claim(claim(three_pools())), Claimed)
    assert guard.memory.pending(place) == 0


async def test_what_is_claimed_together_is_journalled_and_remembered_each(guard: Guard) -> None:
    asked = [
        replace(claim(three_pools(), user=user), event={"user": user, "track": 5, "timestamp": 1})
        for user in (1, 2, 3)
    ]
    answers = await guard.sessions.claim_all(asked)
    assert [type(answer) for answer in answers] == [Claimed] * 3
    assert [record.track for record in guard.journal()] == [101, 102, 103]
    for user, track in ((1, 101), (2, 102), (3, 103)):
        place = guard.memory.place(user, _CLOCK)
        assert guard.memory.heard(place, track)
        assert guard.memory.last(place) == Last("contextual")


async def test_who_must_wait_does_not_hold_up_those_claimed_together(guard: Guard) -> None:
    asked = [replace(claim(three_pools(), user=user), at_ms=int(_CLOCK * 1000)) for user in (1, 2)]
    asked = [replace(a, event={"user": a.report.user, "track": 5, "timestamp": 1}) for a in asked]
    guard.memory.pend(guard.memory.place(1, _CLOCK), _CLOCK)
    before = guard.store.asked
    outcomes = await guard.sessions.claim_all(asked)
    assert [type(outcome) for outcome in outcomes] == [Moved, Claimed]
    assert guard.store.asked == before + 1


async def test_of_those_recalled_together_who_must_wait_is_left_out(guard: Guard) -> None:
    guard.memory.pend(guard.memory.place(2, _CLOCK), _CLOCK)
    recalled = await guard.sessions.recall_all([1, 2, 3])
    assert [one and one.position for one in recalled] == [1, None, 3]
    guard.store.fault = StoreUnavailableError("gone")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await guard.sessions.recall_all([1, 2, 3])
    await guard.until(is_open=True)
    with pytest.raises(NotAskedError):
        guard.sessions.recall_all([1, 2, 3])


async def test_an_answer_that_nobody_waits_for_is_not_noted(guard: Guard) -> None:
    asked = [
        replace(claim(three_pools(), user=user), event={"user": user, "track": 5, "timestamp": 1})
        for user in (1, 2, 3)
    ]
    guard.store.reply = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(guard.sessions.claim_all(asked))
    await asyncio.sleep(0.01)
    guard.store.reply.set_result(None)  # and in the same turn
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not guard.journal()
    assert not any(guard.memory.answers(guard.memory.place(u, _CLOCK)) for u in (1, 2, 3))


async def test_claims_that_fail_together_fail_once_for_the_breaker(guard: Guard) -> None:
    guard.store.fault = StoreUnavailableError("gone")
    asked = [claim(three_pools(), user=user) for user in range(5)]
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await guard.sessions.claim_all(asked)
    assert not guard.sessions.breaker.is_open
    with pytest.raises(StoreUnavailableError):
        await guard.sessions.claim_all(asked)
    await guard.until(is_open=True)
    with pytest.raises(NotAskedError):
        await guard.sessions.claim_all(asked)
