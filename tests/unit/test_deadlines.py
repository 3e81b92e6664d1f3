import asyncio

import pytest

from recsvc.deadlines import Deadlines


async def test_what_is_done_in_time_is_left_alone() -> None:
    deadlines = Deadlines(5.0)
    with deadlines.enter():
        await asyncio.sleep(0)
        done = True
    assert done


async def test_what_is_not_done_in_time_is_cancelled() -> None:
    deadlines = Deadlines(0.01)
    with pytest.raises(TimeoutError), deadlines.enter():
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_call_has_its_own_time() -> None:
    deadlines = Deadlines(0.02)
    loop = asyncio.get_running_loop()

    async def call(pause: float) -> float:
        await asyncio.sleep(pause)
        began = loop.time()
        try:
            with deadlines.enter():
                await asyncio.Event().wait()
        except TimeoutError:
            return loop.time() - began
        raise AssertionError

    async def quick() -> None:
        with deadlines.enter():
            await asyncio.sleep(0.001)

    others = [asyncio.create_task(quick()) for _ in range(20)]
    waited = await asyncio.gather(*(call(i / 1000) for i in range(20)))
    await asyncio.gather(*others)
    assert all(seconds >= 0.019 for seconds in waited)
    await quick()  # and it still works when all timers have been used up


async def test_a_cancellation_from_outside_stays_one() -> None:
    deadlines = Deadlines(5.0)

    async def call() -> None:
        with deadlines.enter():
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_at_the_same_time_as_the_deadline_goes_on() -> None:
    deadlines = Deadlines(0.01)

    async def call() -> None:
        with deadlines.enter():
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.create_task(call())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_errors_pass() -> None:
    deadlines = Deadlines(5.0)
    with pytest.raises(ZeroDivisionError), deadlines.enter():
        raise ZeroDivisionError


async def test_a_deadline_within_another_ends_the_inner_call_only() -> None:
    outer, inner = Deadlines(5.0), Deadlines(0.01)
    with outer.enter():
        with pytest.raises(TimeoutError), inner.enter():
            await asyncio.Event().wait()
        await asyncio.sleep(0)


async def test_what_came_while_the_process_was_busy_counts() -> None:
    deadlines = Deadlines(0.01)
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def busy() -> None:
        until = loop.time() + 0.03
        while loop.time() < until:
            pass
        loop.call_soon(arrived.set)  # as a socket would be read after the timers

    loop.call_later(0.005, busy)
    with deadlines.enter():
        await arrived.wait()
