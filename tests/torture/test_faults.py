"""Redis away in every way: players notice nothing but `degraded`, and nothing is lost."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from recsvc.redis.connection import connect
from tests.processes import look
from tests.support import command
from tests.torture.conftest import Report
from tests.torture.players import Log
from tests.torture.proxy import Cut, Fault, Freeze, Refuse, Slow, Throttle
from tests.torture.stage import Stage, stage

Provoke = Callable[[Stage], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def one() -> Iterator[Stage]:
    with stage() as running:
        yield running


@pytest.fixture(scope="module")
def two() -> Iterator[Stage]:
    with stage(workers=2) as running:
        yield running


def through_proxy(fault: Fault) -> Provoke:
    @contextmanager
    def provoke(running: Stage) -> Iterator[None]:
        with running.proxy.doing(fault):
            yield

    return provoke


@contextmanager
def stopped(running: Stage) -> Iterator[None]:
    os.kill(running.store, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(running.store, signal.SIGCONT)


def told(running: Stage, *words: object) -> None:
    async def tell() -> None:
        async with connect(running.store_url, reply_within=5, connections=1) as client:
            await command(client, *words)

    asyncio.run(tell())


@contextmanager
def full(running: Stage) -> Iterator[None]:
    told(running, "CONFIG", "SET", "maxmemory", "1mb")
    try:
        yield
    finally:
        told(running, "CONFIG", "SET", "maxmemory", "0")


@contextmanager
def read_only(running: Stage) -> Iterator[None]:
    # Nobody listens there, so it keeps its data and waits for a master.
    told(running, "REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        told(running, "REPLICAOF", "NO", "ONE")


FAULTS = {
    "frozen (SIGSTOP)": stopped,
    "frozen (network)": through_proxy(Freeze()),
    "slow (replies 0.5 s late)": through_proxy(Slow(0.5)),
    "slow (200 bytes a second)": through_proxy(Throttle(200)),
    "refusing": through_proxy(Refuse()),
    "dropping in the middle of a reply": through_proxy(Cut(5)),
    "full (maxmemory)": full,
    "read-only (a replica)": read_only,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_quick(one: Stage, name: str, report: Report) -> None:
    await _provoke(one, name, report, outage=1.2, players=4)


@pytest.mark.torture
@pytest.mark.parametrize("name", FAULTS)
async def test_long(two: Stage, name: str, report: Report) -> None:
    await _provoke(two, name, report, outage=12.0, players=32)


async def _provoke(
    running: Stage, name: str, report: Report, *, outage: float, players: int
) -> None:
    first = 1_000_000 * (1 + list(FAULTS).index(name)) + (500_000 if outage > 2 else 0)
    await running.settled()
    running.log, lines = Log(), len(running.logged())
    async with running.playing(players=players, first=first):
        calm = await _price(running, outage / 2)
        provoked = FAULTS[name](running)
        began = time.monotonic()
        await asyncio.to_thread(provoked.__enter__)
        price = await _price(running, outage)
        health = await asyncio.to_thread(_health, running)
        await asyncio.to_thread(provoked.__exit__, None, None, None)
        ended = time.monotonic()
        await running.until(lambda: running.metric("recsvc_store_away") == 0)
        await asyncio.sleep(0.3)
    await running.settled()
    verdict = await running.verdict()
    late = [c.at + c.took - ended for c in running.log.degraded if c.at > ended]
    recovery = max([0.0, *late])
    logged = len(running.logged()) - lines
    report(
        f"Redis {name}",
        f"{outage:g} s, {players} players",
        f"{verdict}; slowest {running.log.slowest() * 1000:.0f} ms; normal again after "
        f"{recovery:.2f} s; {price * 1000:.2f} ms of CPU an answer ({calm * 1000:.2f} before); "
        f"{logged} log lines",
    )
    assert verdict.clean, verdict
    assert verdict.unasked == 0
    assert verdict.degraded > 0
    before = [c for c in running.log.of("next") if c.at + c.took < began]
    assert not any(c.answer["degraded"] for c in before)
    assert health == (200, 503)
    assert price < 5 * calm
    assert logged <= 16, running.logged()[lines:]
    # What the service promises is 0.25 s and 2 s; the rest is for this machine's other work.
    assert running.log.slowest() < 1.0
    assert recovery < 4.0


async def _price(running: Stage, seconds: float) -> float:
    """Return the seconds of CPU time that an answer costs at the moment."""
    cpu, calls = running.cpu(), len(running.log.calls)
    await asyncio.sleep(seconds)
    return (running.cpu() - cpu) / max(len(running.log.calls) - calls, 1)


def _health(running: Stage) -> tuple[int, int]:
    live, ready = (look(f"{running.served.url}/health/{kind}") for kind in ("live", "ready"))
    return live.status_code, ready.status_code
