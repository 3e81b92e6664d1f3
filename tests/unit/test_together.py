"""What comes at the same time is answered together, and nobody notices but by the time it takes."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import pytest

from recsvc.answer import Answer
from recsvc.answering import Told
from recsvc.call import Call
from recsvc.session import Report
from recsvc.together import Together


def answer(user: int) -> Answer:
    return Answer(user, 7, "popular", 1.0, "popular", "v1", "request", "s", 0, False, {})


def call(user: int) -> Call:
    return cast("Call", _Call(Report(user, 3, 0.5, "request")))


class _Call:
    def __init__(self, report: Report) -> None:
        self.report = report


class Service:
    """Answers every call when it may go on, and notes who came together."""

    def __init__(self) -> None:
        self.begun: list[list[int]] = []
        self.gone_on = asyncio.Event()
        self.gone_on.set()
        self.bug: Callable[[Sequence[int]], Exception | None] = lambda _: None
        self.late_bug: BaseException | None = None

    def bundles(self, calls: Sequence[Call]) -> list[list[int]]:
        """Two partitions: even listeners, odd ones."""
        parts = [
            [at for at, call in enumerate(calls) if call.report.user % 2 == part] for part in (0, 1)
        ]
        return [part for part in parts if part]

    def begin(self, calls: Sequence[Call], told: Sequence[Told]) -> Coroutine[Any, Any, None]:
        users = [call.report.user for call in calls]
        if error := self.bug(users):
            raise error
        self.begun.append(users)
        return self._answer(users, told)

    async def _answer(self, users: Sequence[int], told: Sequence[Told]) -> None:
        await self.gone_on.wait()
        for at, (user, tell) in enumerate(zip(users, told, strict=True)):
            if at and self.late_bug is not None:
                raise self.late_bug
            tell(answer(user))


class Asker:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told = asyncio.get_running_loop().create_future()
        self.errors: list[BaseException] = []

    def answered(self, answer: Answer) -> None:
        self.told.set_result(answer.user)

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)
        if not self.told.done():
            self.told.set_result(None)


@pytest.fixture
async def service() -> Service:
    return Service()


@pytest.fixture
async def together(service: Service) -> Together:
    return Together(service, crowd=4)


def ask(together: Together, users: Sequence[int]) -> list[Asker]:
    askers = []
    for user in users:
        askers.append(Asker())
        together.ask(call(user), askers[-1])
    return askers


async def told(askers: Sequence[Asker]) -> list[int | None]:
    async with asyncio.timeout(5):
        return [await asker.told for asker in askers]


async def test_a_few_are_asked_for_at_once_and_alone(service: Service, together: Together) -> None:
    askers = ask(together, [0, 2, 4])
    assert service.begun == [[0], [2], [4]]
    assert not any(asker.told.done() for asker in askers)
    assert await told(askers) == [0, 2, 4]


async def test_those_of_one_turn_are_asked_for_together(
    service: Service, together: Together
) -> None:
    users = list(range(0, 18, 2))
    assert await told(ask(together, users)) == users
    assert service.begun == [[0], [2], [4], users[3:]]


async def test_there_are_never_more_than_eight_and_eight_do_not_wait(
    service: Service, together: Together
) -> None:
    users = list(range(0, 48, 2))
    askers = ask(together, users)
    assert service.begun[3:] == [users[3:11], users[11:19]]  # before the end of the turn
    assert await told(askers) == users
    assert service.begun[5:] == [users[19:]]


async def test_once_answered_nobody_is_in_progress_any_more(
    service: Service, together: Together
) -> None:
    for _ in range(3):
        await told(ask(together, range(0, 12, 2)))
        await together.aclose()
    assert service.begun == [[0], [2], [4], [6, 8, 10]] * 3


async def test_each_partition_is_asked_for_itself(service: Service, together: Together) -> None:
    assert await told(ask(together, range(9))) == list(range(9))
    assert service.begun[3:] == [[4, 6, 8], [3, 5, 7]]


async def test_a_listener_who_is_there_already_is_asked_for_alone(
    service: Service, together: Together
) -> None:
    assert await told(ask(together, [0, 2, 4, 6, 6, 8])) == [0, 2, 4, 6, 6, 8]
    assert service.begun == [[0], [2], [4], [6], [6, 8]]


async def test_what_is_wrong_with_one_is_no_matter_of_the_others(
    service: Service, together: Together
) -> None:
    service.bug = lambda users: ZeroDivisionError("of one") if 8 in users else None
    askers = ask(together, range(0, 14, 2))
    assert await told(askers) == [0, 2, 4, 6, None, 10, 12]
    assert [len(asker.errors) for asker in askers] == [0, 0, 0, 0, 1, 0, 0]
    assert isinstance(askers[4].errors[0], ZeroDivisionError)
    service.bug = lambda _: None
    await together.aclose()
    assert await told(ask(together, [0, 2, 4])) == [0, 2, 4]
    assert service.begun[-3:] == [[0], [2], [4]]  # nothing is thought to be in progress still


async def test_an_asker_is_not_told_of_a_fault_before_it_has_asked(
    service: Service, together: Together
) -> None:
    service.bug = lambda _: ZeroDivisionError()
    (asker,) = ask(together, [1])
    assert not asker.told.done()
    assert await told([asker]) == [None]


async def test_what_goes_wrong_later_is_told_to_all_of_them(
    service: Service, together: Together
) -> None:
    service.late_bug = ZeroDivisionError()
    askers = ask(together, range(0, 14, 2))
    assert await told(askers) == [0, 2, 4, 6, None, None, None]
    await together.aclose()
    assert [len(asker.errors) for asker in askers] == [0, 0, 0, 1, 1, 1, 1]


async def test_at_the_end_all_that_was_asked_is_answered(
    service: Service, together: Together
) -> None:
    service.gone_on.clear()
    askers = ask(together, range(0, 10, 2))
    closing = asyncio.create_task(together.aclose())
    await asyncio.sleep(0.01)
    assert not closing.done()
    service.gone_on.set()
    await closing
    assert all(asker.told.done() for asker in askers)
