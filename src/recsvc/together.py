"""Calls that are at hand at the same time, answered together.

Under load, some calls come in with each turn of the event loop. To answer eight of them together
costs little more than half of what it costs one by one (see `answering`).
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from recsvc.answer import Answer
from recsvc.answering import Told
from recsvc.call import Call

__all__ = ["Asker", "Together"]

_CROWD = 4  # calls in progress: with fewer, all would stand still until the end of the turn
_MOST = 8  # with more, the store has nothing to do while they are written


class Asker(Protocol):
    """Who made a call. Once it has been told something it takes no notice of more."""

    def answered(self, answer: Answer) -> None:
        """Hear the answer."""

    def failed(self, error: BaseException) -> None:
        """Hear that there will be none."""


class _Answers(Protocol):
    """What answers calls: the service."""

    def bundles(self, calls: Sequence[Call]) -> list[list[int]]:
        """Sort calls of different listeners into bundles, as lists of places."""

    def begin(self, calls: Sequence[Call], told: Sequence[Told]) -> Coroutine[Any, Any, None]:
        """Ask for the answers of a bundle; what is returned ends when all have been told."""


class Together:
    """Gathers calls for the rest of a turn of the event loop, or until there are enough.

    Below a `crowd` of calls in progress nothing waits: the store would have nothing to do.
    """

    def __init__(self, service: _Answers, *, crowd: int = _CROWD) -> None:
        self.service = service
        self.crowd = crowd
        self._in_progress = 0
        self._gathered: dict[int, tuple[Call, Asker]] = {}  # by listener
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, call: Call, asker: Asker) -> None:
        """Answer a call that has no key; returns before `asker` hears of it."""
        self._in_progress += 1
        user = call.report.user
        # A listener can be in a bundle just once.
        if self._in_progress < self.crowd or user in self._gathered:
            self._begin([(call, asker)])
            return
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._send)
        self._gathered[user] = call, asker
        if len(self._gathered) == _MOST:
            self._send()

    async def aclose(self) -> None:
        """Return when all that was asked is answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _send(self) -> None:
        """Begin to answer what has been gathered, if that was not done before."""
        asked, self._gathered = list(self._gathered.values()), {}
        for places in self.service.bundles([call for call, _ in asked]):
            self._begin([asked[place] for place in places])

    def _begin(self, asked: Sequence[tuple[Call, Asker]]) -> None:
        calls = [call for call, _ in asked]
        try:
            answers = self.service.begin(calls, [asker.answered for _, asker in asked])
        except Exception as error:
            if len(asked) > 1:  # it is of one of them, and must not cost the others their answers
                for one in asked:
                    self._begin([one])
                return
            asyncio.get_running_loop().call_soon(self._fail, asked, error)
            return
        task = asyncio.create_task(self._finish(asked, answers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(
        self, asked: Sequence[tuple[Call, Asker]], answers: Coroutine[Any, Any, None]
    ) -> None:
        try:
            await answers
        except Exception as error:
            self._fail(asked, error)
        except BaseException as error:
            self._fail(asked, error)
            raise
        else:
            self._in_progress -= len(asked)

    def _fail(self, asked: Sequence[tuple[Call, Asker]], error: BaseException) -> None:
        self._in_progress -= len(asked)
        for _, asker in asked:
            asker.failed(error)
