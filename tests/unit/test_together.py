"""What comes at the same time is asked together, and nobody notices but by the time it takes."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from recsvc.deadlines import Deadlines
from recsvc.errors import NotAskedError, StoreUnavailableError
from recsvc.session import UNSURE, Claim, Claimed, Exhausted, Moved, Recalled, Sessions
from recsvc.together import Together
from tests.support import claim, three_pools

Outcome = Claimed | Exhausted | Moved


class Store:
    """Answers by the listener's number, and notes what it is asked for at once."""

    def __init__(self) -> None:
        self.together: list[list[int]] = []
        self.alone: list[int] = []
        self.gone_on = asyncio.Event()
        self.gone_on.set()
        self.fault: Exception | None = None
        self.late_fault: Exception | None = None
        self.cancelled = 0
        self.left: set[int] = set()
        self.noted: list[int] = []
        self.turn: Callable[[], object] | None = None

    def bundles(self, users: Sequence[int]) -> list[list[int]]:
        """Two partitions: even listeners, odd ones."""
        parts = [[at for at, user in enumerate(users) if user % 2 == part] for part in (0, 1)]
        return [part for part in parts if part]

    async def claim(self, asked: Claim, last: str | None = UNSURE) -> Outcome:
        self.alone.append(asked.report.user)
        await asyncio.sleep(0.001)
        await self.gone_on.wait()
        return Exhausted(asked.report.user, 1)

    def claim_all(
        self,
        claims: Sequence[Claim],
        lasts: Sequence[str | None] = (),
        wanted: Callable[[int], bool] = lambda _: True,
    ) -> Awaitable[list[Outcome]]:
        users = [one.report.user for one in claims]
        self.together.append(users)
        if self.fault is not None:
            raise self.fault
        return self._outcomes(users, wanted)

    async def _outcomes(self, users: Sequence[int], wanted: Callable[[int], bool]) -> list[Outcome]:
        try:
            await self.gone_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.late_fault is not None:
            raise self.late_fault
        self.noted += [user for at, user in enumerate(users) if wanted(at)]
        if self.turn is not None:
            asyncio.get_running_loop().call_soon(self.turn)
        return [Moved() if user in self.left else Exhausted(user, 0) for user in users]

    async def recall(self, user: int) -> Recalled:
        self.alone.append(user)
        await asyncio.sleep(0.001)
        await self.gone_on.wait()
        return Recalled(user, 1, b"")

    def recall_all(self, users: Sequence[int]) -> Awaitable[list[Recalled | None]]:
        self.together.append(list(users))
        return self._recalled(users)

    async def _recalled(self, users: Sequence[int]) -> list[Recalled | None]:
        await self.gone_on.wait()
        return [None if user in self.left else Recalled(user, 0, b"") for user in users]


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def together(store: Store) -> Together:
    return Together(cast("Sessions", store), Deadlines(0.1), crowd=4)


def ask(together: Together, users: Sequence[int]) -> "list[asyncio.Task[Outcome]]":
    return [asyncio.create_task(together.claim(claim(three_pools(), user=u))) for u in users]


async def test_a_few_are_asked_for_at_once_and_alone(store: Store, together: Together) -> None:
    assert await asyncio.gather(*ask(together, [0, 2, 4])) == [Exhausted(u, 1) for u in (0, 2, 4)]
    assert store.alone == [0, 2, 4]
    assert store.together == []


async def test_those_of_one_turn_are_asked_for_together(store: Store, together: Together) -> None:
    users = list(range(0, 18, 2))
    found = await asyncio.gather(*ask(together, users))
    assert found == [Exhausted(user, user < 6) for user in users]
    assert store.alone == users[:3]
    assert store.together == [users[3:]]


async def test_there_are_never_more_than_eight_and_eight_do_not_wait(
    store: Store, together: Together
) -> None:
    tasks = ask(together, range(0, 48, 2))
    seen = list[int]()
    asyncio.get_running_loop().call_soon(lambda: seen.append(len(store.together)))
    await asyncio.gather(*tasks)
    assert store.together == [list(range(6, 22, 2)), list(range(22, 38, 2)), list(range(38, 48, 2))]
    assert seen == [2]  # before the end of the turn in which they came


async def test_each_partition_is_asked_for_itself(store: Store, together: Together) -> None:
    found = await asyncio.gather(*ask(together, range(9)))
    assert store.together == [[4, 6, 8], [3, 5, 7]]
    assert [cast("Exhausted", one).position for one in found] == list(range(9))


async def test_who_has_a_key_or_is_there_already_is_asked_for_alone(
    store: Store, together: Together
) -> None:
    tasks = ask(together, [0, 2, 4, 6, 6])
    tasks.append(asyncio.create_task(together.claim(claim(three_pools(), user=8, key="k"))))
    await asyncio.gather(*tasks)
    assert store.alone == [0, 2, 4, 6, 8]
    assert store.together == [[6]]


async def test_what_has_to_be_made_alone_is(store: Store, together: Together) -> None:
    store.left = {10}
    found = await asyncio.gather(*ask(together, [0, 2, 4, 6, 8, 10, 12]))
    assert found[4:] == [Exhausted(8, 0), Exhausted(10, 1), Exhausted(12, 0)]
    assert store.alone == [0, 2, 4, 10]


async def test_what_is_wrong_with_one_is_no_matter_of_the_others(
    store: Store, together: Together, caplog: pytest.LogCaptureFixture
) -> None:
    store.fault = ZeroDivisionError("of one of them")
    found = await asyncio.gather(*ask(together, range(0, 14, 2)))
    assert found == [Exhausted(user, 1) for user in range(0, 14, 2)]  # asked for alone
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_fault_is_everybodys_and_each_has_its_own(
    store: Store, together: Together, when: str
) -> None:
    fault = NotAskedError("it is away")
    store.fault, store.late_fault = (fault, None) if when == "at once" else (None, fault)
    found = await asyncio.gather(*ask(together, range(0, 14, 2)), return_exceptions=True)
    errors = [error for error in found if isinstance(error, NotAskedError)]
    assert len({id(error) for error in errors}) == 4
    assert {str(error) for error in errors} == {"it is away"}


async def test_who_goes_keeps_nobody_from_an_answer(store: Store, together: Together) -> None:
    store.gone_on.clear()
    tasks = ask(together, range(0, 14, 2))
    await asyncio.sleep(0.01)
    for task in (tasks[3], tasks[6]):  # the first and the last of those asked for together
        task.cancel()
    store.gone_on.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found[4:6] == [Exhausted(8, 0), Exhausted(10, 0)]
    assert [type(found[at]) for at in (3, 6)] == [asyncio.CancelledError] * 2
    assert store.noted == [8, 10]  # those who have gone are not told that they have an answer


async def test_an_answer_that_was_noted_goes_out_though_time_is_up_in_the_same_turn(
    store: Store, together: Together
) -> None:
    store.gone_on.clear()
    tasks = ask(together, range(0, 14, 2))
    await asyncio.sleep(0.01)
    store.turn = tasks[4].cancel  # when the futures have their results, and nobody has read them
    store.gone_on.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert store.noted == [6, 8, 10, 12]
    assert found[3:] == [Exhausted(user, 0) for user in (6, 8, 10, 12)]


async def test_what_takes_too_long_ends_for_all(store: Store, together: Together) -> None:
    store.gone_on.clear()
    tasks = ask(together, range(0, 14, 2))
    found = await asyncio.gather(*tasks[3:], return_exceptions=True)
    assert [type(error) for error in found] == [TimeoutError] * 4
    assert store.cancelled == 1
    store.gone_on.set()
    await asyncio.gather(*tasks[:3])


async def test_what_is_wrong_with_us_is_told_to_those_who_wait(
    store: Store, together: Together
) -> None:
    store.late_fault = ZeroDivisionError()
    tasks = ask(together, range(0, 14, 2))
    told: list[object] = []
    handle = asyncio.get_running_loop().set_exception_handler
    handle(lambda _, context: told.append(type(context["exception"])))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in found[3:]] == [StoreUnavailableError] * 4
    gc.collect()  # when the task that failed goes, it is told of
    assert told == [ZeroDivisionError]


async def test_sessions_are_recalled_together_too(store: Store, together: Together) -> None:
    store.left = {8}
    users = list(range(0, 14, 2))
    found = await asyncio.gather(*(together.recall(user) for user in users))
    assert [one.position for one in found] == users
    assert store.together == [[6, 8, 10, 12]]
    assert store.alone == [0, 2, 4, 8]
