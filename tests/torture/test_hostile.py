"""Hostile clients: slow ones by the hundred, and three times what the service can do."""

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from tests.load.machine import on
from tests.load.procfs import cpu_seconds
from tests.load.servers import valkey
from tests.load.synthetic import make_table
from tests.processes import Served, recsvc, serve, write_artifact
from tests.torture.conftest import Report
from tests.torture.hostile_load import Outcome, offer
from tests.torture.hostile_slow import drip
from tests.wire import request

pytestmark = pytest.mark.torture

REPORT = b'{"track": 3, "time": 0.5}'
_ITEM = b'{"user": %d, "track": 3, "time": 0.5}'
LISTENERS = 1_000_000
"""So many that none is asked again soon: with the length of a session an answer costs more, and
what the service can do would be less at the end than it was found to be at first."""


def calls(items: int) -> Iterator[bytes]:
    """Requests without end, of one listener after another."""
    if items == 1:
        return cycle([request(f"/next/{user}", REPORT) for user in range(LISTENERS)])
    return cycle(
        request("/next", b"[%b]" % b",".join(_ITEM % user for user in range(start, start + items)))
        for start in range(0, LISTENERS, items)
    )


@pytest.fixture(scope="module", autouse=True)
def many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # This one does not rewrite its append-only file: a second of that would fall into what
        # is offered for long, and not into what was the most that a shorter load got.
        url = stack.enter_context(valkey(directory))
        write_artifact(directory / "artifact", make_table(2000, neighbours=50))
        recsvc(directory, "publish", "--force", directory / "artifact", redis_url=url)
        served = stack.enter_context(serve(directory, redis_url=url))
        # Each on a core of its own, where there are two: the load is not to take from
        # the service what it then is said to lack.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(served.process.pid, cores[:1])
        stack.enter_context(on(frozenset(cores[-1:])))
        offer(served.url, calls(1), rate=500, seconds=2, connections=50)  # warm
        yield served


def p99(outcome: Outcome) -> float:
    return outcome.percentile(200, 0.99)


def honest(served: Served) -> Outcome:
    """A load that leaves the service plenty of time."""
    return offer(served.url, calls(1), rate=300, seconds=4, connections=50)


def test_500_slow_sockets(served: Served, report: Report) -> None:
    before = [honest(served) for _ in range(3)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        slow = pool.submit(drip, served.url, 500, 15.0)
        during = [honest(served) for _ in range(3)]
        lives = slow.result()
    after = [honest(served) for _ in range(3)]
    first, stirred, last = (sorted(map(p99, outcomes))[1] for outcomes in (before, during, after))
    calm = max(first, last)  # the machine has moods of its own
    report(
        "hostile clients",
        "500 sockets, half with slow headers, half with slow bodies",
        f"{len(lives)} closed, the last after {max(lives):.1f} s; honest p99 {first:.1f} ms "
        f"before, {stirred:.1f} ms during, {last:.1f} ms after",
    )
    assert len(lives) == 500
    assert max(lives) < 10
    assert not any(outcome.lost or outcome.rate(503) for outcome in during)
    assert stirred <= 2 * calm + 20


@pytest.mark.parametrize("items", [1, 20])
def test_three_times_the_capacity(served: Served, report: Report, items: int) -> None:
    asked = calls(items)
    pid = served.process.pid
    # Closed-loop, as many at a time as keep it busy and no more: what it can do at most.
    connections = 64 if items == 1 else 16
    began = cpu_seconds(pid)
    peaks = [
        offer(served.url, asked, rate=1e6, seconds=4, connections=connections) for _ in range(3)
    ]
    busy = cpu_seconds(pid)
    peak = max(outcome.rate(200) for outcome in peaks)
    outcome = offer(served.url, asked, rate=3 * peak, seconds=10, connections=2000)
    good, turned = outcome.rate(200), outcome.rate(503)
    answer = (busy - began) / sum(len(outcome.latencies[200]) for outcome in peaks)
    used = (cpu_seconds(pid) - busy) / outcome.seconds
    report(
        "hostile clients",
        f"{outcome.offered / outcome.seconds / peak:.1f} times the peak of {peak:,.0f} calls/s, "
        f"of {items} each, offered for 10 s",
        f"goodput {good:,.0f}/s ({100 * good / peak:.0f}% of peak); {turned:,.0f}/s answered 503, "
        f"p50 {outcome.percentile(503, 0.5):.1f} ms, p99 {outcome.percentile(503, 0.99):.1f} ms; "
        f"{1e6 * answer:.0f} us of a core for an answer at the peak, {used:.2f} cores used now",
    )
    assert set(outcome.latencies) <= {200, 503}
    assert not outcome.without_retry_after
    assert turned
    until = time.monotonic() + 10  # what was spooled meanwhile is replayed first
    while httpx.post(f"{served.url}/next/1", content=REPORT).json().get("degraded", True):
        assert time.monotonic() < until
