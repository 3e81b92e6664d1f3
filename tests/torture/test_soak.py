"""A million requests: what the service holds must not grow with what it has done."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.torture.conftest import Report
from tests.torture.stage import Stage, stage

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks in /proc")

_LONGEST = 480.0  # seconds; a slow machine does not get to the end


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with stage() as running:
        yield running


def memory(process: int) -> float:
    """The resident memory of a process, in megabytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise AssertionError("no such process")


def files(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


async def _soak(running: Stage, report: Report, requests: int, every: int) -> None:
    process, done, wrong = running.served.process.pid, 0, 0
    samples: list[tuple[int, float, int]] = []
    until = time.monotonic() + _LONGEST
    async with running.playing(players=24, listeners=400):
        while done < requests and time.monotonic() < until:
            await asyncio.sleep(0.1)
            if len(running.log.calls) >= every:
                calls, running.log.calls = running.log.calls, []
                done += len(calls)
                wrong += sum(c.status != 200 or c.answer["user"] != c.user for c in calls)
                samples.append((done, memory(process), files(process)))
    settled = samples[len(samples) // 5 :]  # what is kept is kept by then
    counts, sizes, opened = (np.array(column) for column in zip(*settled, strict=True))
    slope = np.polyfit(counts, sizes, 1)[0] * 100_000
    report(
        "Soak", f"{done:,} requests, 24 players, 9,600 listeners",
        f"{slope:+.2f} MB in 100,000 requests, {sizes[-1]:.0f} MB in the end; open files "
        f"{opened.min()} to {opened.max()}; {wrong} wrong answers",
    )  # fmt: skip
    assert wrong == 0
    assert opened.max() - opened.min() <= 5
    assert slope <= 1.0


@pytest.mark.torture
async def test_soak(running: Stage, report: Report) -> None:
    await _soak(running, report, 1_000_000, 25_000)
