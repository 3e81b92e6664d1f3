"""What runs beside the service, and goes on."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from recsvc.store import run_beside


async def test_work_that_a_bug_ended_is_reported_and_begun_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise KeyError("a bug")
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack, asyncio.timeout(5):
        run_beside(work, "odd jobs", stack)
        while begun < 2:
            await asyncio.sleep(0.01)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("ERROR", "a bug ended the task odd jobs; it begins again")
    ]
