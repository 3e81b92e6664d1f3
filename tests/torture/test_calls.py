"""Many calls at once, the same call again, calls that nobody waits for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import orjson
import pytest

from tests.torture.checks import judge, stored_events
from tests.torture.conftest import Report
from tests.torture.players import Http, Log, Player
from tests.torture.proxy import Cut
from tests.torture.stage import Stage, stage

REPORT = orjson.dumps({"track": 3, "time": 0.5})


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    # The deadline is for stores that fail; here it is this machine that is slow.
    with stage(workers=2, deadline=5, redis_timeout=4) as running:
        yield running


@asynccontextmanager
async def players(running: Stage, count: int) -> AsyncIterator[list[Player]]:
    """So many connections, spread over the workers, that share the stage's log."""
    running.log = Log()
    made = [Player(running.served.url, [0], running.log, Random(i)) for i in range(count)]
    try:
        yield made
    finally:
        for player in made:
            player.http.close()


async def _until_answered(player: Player, user: int) -> None:
    while (call := await player.ask("next", user, 3, 0.5)) is not None and call.status == 503:
        await asyncio.sleep(0.02)


async def _at_once(running: Stage, report: Report, calls: int, users: range) -> None:
    async with players(running, calls) as made:
        for user in users:
            async with asyncio.timeout(60):
                await asyncio.gather(*(_until_answered(p, user) for p in made))
    # On a busy machine some are turned away at first, for so many at once are more than it can do.
    running.log.calls = [call for call in running.log.calls if call.status != 503]
    verdict = await running.verdict()
    different = []
    for user in users:
        answers = [c.answer for c in running.log.of("next") if c.user == user]
        different.append(len({answer["track"] for answer in answers} - {3}))
        assert sorted(answer["position"] for answer in answers) == list(range(calls))
    report(
        "One listener, many calls", f"{calls} /next at once, {len(users)} times, 2 workers",
        f"{min(different)} different tracks each time; {verdict}",
    )  # fmt: skip
    assert min(different) == calls
    assert verdict.clean, verdict
    assert verdict.unasked == 0


async def test_one_listener_at_once(running: Stage, report: Report) -> None:
    await _at_once(running, report, 100, range(1, 2))


@pytest.mark.torture
async def test_one_listener_at_once_in_full(running: Stage, report: Report) -> None:
    await _at_once(running, report, 500, range(100, 110))


async def _same_key(running: Stage, report: Report, rounds: int, first: int) -> None:
    async with players(running, 20) as made:
        for n in range(rounds):
            await asyncio.gather(*(p.ask("next", first + n, 3, 0.5, f"key {n}") for p in made))
    events = await stored_events(running.store_url)
    users = range(first, first + rounds)
    counted = Counter(event["user"] for event in events if event["user"] in users)
    different = sum(
        len({orjson.dumps(c.answer) for c in running.log.of("next") if c.user == user}) != 1
        for user in users
    )
    report(
        "The same Idempotency-Key at once", f"20 calls, {rounds} times, 2 workers",
        f"{sum(counted.values())} events, {different} keys with different answers",
    )  # fmt: skip
    assert len(list(running.log.of("next"))) == 20 * rounds
    assert (different, counted) == (0, Counter(dict.fromkeys(users, 1)))


async def test_the_same_key_at_once(running: Stage, report: Report) -> None:
    await _same_key(running, report, 10, 1000)


@pytest.mark.torture
async def test_the_same_key_at_once_in_full(running: Stage, report: Report) -> None:
    await _same_key(running, report, 500, 2000)


async def _lost_replies(report: Report, calls: int) -> None:
    with stage() as running:
        async with players(running, 1) as (player,):
            cuts = running.proxy.cuts
            with running.proxy.doing(Cut(3, only=b"claimed")):
                for n in range(calls):
                    await player.ask("next", n % 50, 3, 0.5, f"key {n}")
            lost = running.proxy.cuts - cuts
            again = [await player.ask("next", n % 50, 3, 0.5, f"key {n}") for n in range(calls)]
        await running.settled()
        events = await stored_events(running.store_url)
        firsts = running.log.calls[:calls]
        different = sum(
            call is None or call.answer != before.answer
            for call, before in zip(again, firsts, strict=True)
        )
        running.log.calls = firsts
        verdict = judge(running.log, events)
        report(
            "The reply of the store lost after execution", f"{lost} of {calls} keyed calls",
            f"{different} keys with another answer when asked again; {verdict}",
        )  # fmt: skip
        assert lost == calls
        assert different == 0
        assert verdict.clean, verdict
        assert verdict.unasked == 0


async def test_lost_replies(report: Report) -> None:
    await _lost_replies(report, 30)


@pytest.mark.torture
async def test_lost_replies_in_full(report: Report) -> None:
    await _lost_replies(report, 1000)


async def _gone(running: Stage, report: Report, disconnects: int, first: int) -> None:
    running.log = Log()
    before = _open_files(running)

    async def leave(index: int) -> None:
        """Ask, and go before the answer, or in the middle of it, or of the question."""
        rng = Random(index)
        for n in range(disconnects // 20):
            http = Http(running.served.url)
            user = first + 1000 + rng.randrange(50)
            try:
                async with asyncio.timeout(rng.choice([0.0, 0.0005, 0.002, 0.005])):
                    await http.call("POST", f"/next/{user}", REPORT[: rng.choice([5, 99])])
            except (TimeoutError, OSError, EOFError):
                pass
            http.close()
            if n % 10 == 0:
                await asyncio.sleep(0.001)

    async with running.playing(players=8, first=first):
        await asyncio.gather(*(leave(index) for index in range(20)))
    after = 0.0
    for _ in range(100):
        after = _open_files(running)
        if after <= before + 8:
            break
        await asyncio.sleep(0.1)
    await running.settled()
    verdict = await running.verdict()
    report(
        "Cancelled calls", f"{disconnects} disconnects among 8 players, 2 workers",
        f"{verdict}; {after - before:+.0f} open files",
    )  # fmt: skip
    assert verdict.clean, verdict
    assert after <= before + 8


def _open_files(running: Stage) -> float:
    """Count what the service and all its workers have open."""
    pids = [running.served.process.pid, *running.workers()]
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


async def test_calls_that_nobody_waits_for(running: Stage, report: Report) -> None:
    await _gone(running, report, 400, 10_000)


@pytest.mark.torture
async def test_calls_that_nobody_waits_for_in_full(running: Stage, report: Report) -> None:
    await _gone(running, report, 10_000, 20_000)
