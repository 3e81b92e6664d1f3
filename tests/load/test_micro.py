"""Microbenchmarks of the pure core. `make bench` times them; as tests they run once each."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from recsvc.candidates import Candidates
from recsvc.explanation import explain_pool
from recsvc.packing import pack, unpack
from recsvc.policy import CONTEXTUAL, PERSONAL, Plan, Pool, Routes, draw, settle, switch
from recsvc.recommenders.ensemble import Ensemble
from recsvc.recommenders.source import Source
from recsvc.redis.caller import Caller
from recsvc.redis.connection import connect, connect_caller
from recsvc.redis.keys import Keys
from recsvc.redis.sessions import RedisSessions
from recsvc.session import Claimed
from tests import support
from tests.load.synthetic import make_table

NEIGHBOURS = 70
CANDIDATES = Candidates(
    list(range(1_000, 1_000 + NEIGHBOURS)), [1.0 / (1 + i) for i in range(NEIGHBOURS)]
)


def listener_of(heard: int) -> Callable[[Sequence[int]], list[bool]]:
    """Whoever has heard the first so many of the candidates."""
    known = set(CANDIDATES.tracks[:heard])
    return lambda tracks: [track in known for track in tracks]


@pytest.mark.parametrize("heard", [0, 20, 69])
def test_draw_among_70_minus_heard(benchmark: BenchmarkFixture, heard: int) -> None:
    rng, listener = Random(1), listener_of(heard)

    def decide() -> int:
        plan = Plan((Pool(CONTEXTUAL, CANDIDATES, draw(rng)),), Routes({None: (0,)}))
        decision = settle(plan, None, listener, 0)
        assert decision is not None
        return decision.track

    assert benchmark(decide) in CANDIDATES.tracks[heard:]


def test_switch(benchmark: BenchmarkFixture) -> None:
    assert benchmark(switch, CONTEXTUAL, 0.3) == PERSONAL


def test_plan_of_the_ensemble(benchmark: BenchmarkFixture) -> None:
    source, policy, rng = Source(make_table(1_000, users=10), "v1"), Ensemble(), Random(1)
    plan = benchmark(policy.plan, source, 3, 5, 0.4, rng)
    assert [pool.recommender for pool in plan.pools][:2] == [CONTEXTUAL, PERSONAL]


class Canned:
    """A `Caller` that answers at once what a real server answered before."""

    def __init__(self, reply: Any = None) -> None:
        self.reply = reply
        self.real: Caller | None = None

    async def call(self, written: bytes) -> Any:
        if self.real is not None:
            self.reply = await self.real.call(written)
        return self.reply


def sessions(caller: Caller) -> RedisSessions:
    return RedisSessions(
        caller, Keys("micro"), session_ttl=60, idempotency_ttl=60, events_max=1_000
    )


def test_a_claim_there_and_back(benchmark: BenchmarkFixture, valkey: str) -> None:
    source = Source(make_table(1_000, users=10), "v1")
    claim = support.claim(Ensemble().plan(source, 3, 5, 0.4, Random(1)), user=3)
    caller = Canned()

    async def record() -> None:
        async with (
            connect(valkey, reply_within=5.0, connections=4) as client,
            connect_caller(valkey, client, reply_within=5.0) as caller.real,
        ):
            await sessions(caller).claim(claim)

    asyncio.run(record())
    caller.real = None
    store = sessions(caller)

    def pack_and_unpack() -> Any:
        try:
            store.claim(claim).send(None)  # it never waits, so it needs no event loop
        except StopIteration as done:
            return done.value

    assert isinstance(benchmark(pack_and_unpack), Claimed)


def test_explain(benchmark: BenchmarkFixture) -> None:
    pool = Pool(CONTEXTUAL, CANDIDATES, draw(Random(1)))
    heard = listener_of(20)(CANDIDATES.tracks)
    explained = benchmark(explain_pool, pool, heard, 0, answers=True)
    assert sum(chance for *_, chance in explained.rows) == pytest.approx(1.0)


def test_pack_a_table_of_10000(benchmark: BenchmarkFixture) -> None:
    table = make_table(10_000, neighbours=50, users=100)
    assert len(benchmark(pack, table)) > 10_000 * 50 * 8


def test_unpack_a_table_of_10000(benchmark: BenchmarkFixture) -> None:
    data = pack(make_table(10_000, neighbours=50, users=100))
    assert len(benchmark(unpack, data)) == 10_000
