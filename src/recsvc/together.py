"""What is asked of the session store at the same time for different listeners, asked in one step.

Under load, some calls are at hand in each turn of the event loop. What the store, and this
process, do for eight of them together costs little more than half of what it costs one by one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from recsvc.deadlines import Deadlines
from recsvc.errors import StoreUnavailableError
from recsvc.session import Claim, Claimed, Exhausted, Moved, Recalled, Sessions

__all__ = ["Together"]

_log = logging.getLogger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")

_CROWD = 8  # calls in progress: below, the store would rather begin at once
_MOST = 8  # with more, the store has nothing to do while they are written


class Together:
    """Asks `sessions`, gathering what is asked for the rest of a turn of the event loop.

    Below a `crowd` of calls in progress nothing waits: then the store would rather begin at once.
    `deadlines` are for what is asked together, which goes on when one of those who wait for it
    has gone. All may raise `StoreUnavailableError`.
    """

    def __init__(self, sessions: Sessions, deadlines: Deadlines, *, crowd: int = _CROWD) -> None:
        self.sessions = sessions
        self.crowd = crowd
        self._in_progress = 0
        self._claims = _Gathering[Claim, Claimed | Exhausted | Moved](
            sessions.bundles,
            lambda claims, wanted: sessions.claim_all(claims, wanted=wanted),
            deadlines,
        )
        self._recalls = _Gathering[int, Recalled | None](
            sessions.bundles, lambda users, _: sessions.recall_all(users), deadlines
        )

    async def claim(self, claim: Claim) -> Claimed | Exhausted | Moved:
        """Settle a plan, record the answer and its event."""
        self._in_progress += 1
        try:
            user = claim.report.user
            # A key is asked for again where the store fails.
            if claim.report.key is None and self._may_wait(user, self._claims):
                outcome = await self._claims.ask(user, claim)
                # `Moved`, too, may only say that it has to be made alone.
                if outcome is not None and not isinstance(outcome, Moved):
                    return outcome
            return await self.sessions.claim(claim)
        finally:
            self._in_progress -= 1

    async def recall(self, user: int) -> Recalled:
        """Return what a policy that infers needs of a listener's session."""
        self._in_progress += 1
        try:
            if self._may_wait(user, self._recalls):
                recalled = await self._recalls.ask(user, user)
                if recalled is not None:
                    return recalled
            return await self.sessions.recall(user)
        finally:
            self._in_progress -= 1

    def _may_wait(self, user: int, gathering: "_Gathering[Q, A]") -> bool:
        # A listener can be there just once.
        return self._in_progress >= self.crowd and user not in gathering.asked


class _Gathering(Generic[Q, A]):
    """Gathers questions and asks them together.

    They are asked at the end of the turn, or as soon as there are enough, in as many bundles as
    `parted` makes of their listeners. `ask` sends before it returns; it is also given what tells,
    once the answers are there, of each by its place whether somebody still waits.
    """

    def __init__(
        self,
        parted: Callable[[Sequence[int]], list[list[int]]],
        ask: Callable[[Sequence[Q], Callable[[int], bool]], Awaitable[Sequence[A]]],
        deadlines: Deadlines,
    ) -> None:
        self.asked: dict[int, tuple[Q, asyncio.Future[A | None]]] = {}  # by listener
        self._parted = parted
        self._ask = ask
        self._deadlines = deadlines
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, user: int, question: Q) -> A | None:
        """Ask for a listener; returns the answer, or None: ask alone."""
        loop = asyncio.get_running_loop()
        if not self.asked:
            loop.call_soon(self._send)
        future: asyncio.Future[A | None] = loop.create_future()
        self.asked[user] = question, future
        if len(self.asked) == _MOST:
            self._send()
        try:
            return await future
        except asyncio.CancelledError:
            # Time was up in the very turn in which the answer came. It was noted as given.
            if future.done() and not future.cancelled():
                return future.result()
            raise

    def _send(self) -> None:
        gathered, self.asked = self.asked, {}
        asked = list(gathered.values())
        for places in self._parted(list(gathered)):
            questions, futures = zip(*[asked[place] for place in places], strict=True)
            try:
                answers = self._ask(questions, partial(_waits, futures))
            except StoreUnavailableError as error:
                _fail(futures, error)
            except Exception:  # of one of them, and it must not cost the others their answers
                _log.exception("a bug")
                _tell(futures, [None] * len(futures))
            else:
                task = asyncio.create_task(self._await(answers, futures))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _await(
        self, awaited: Awaitable[Sequence[A]], futures: Sequence["asyncio.Future[A | None]"]
    ) -> None:
        try:
            with self._deadlines.enter():
                answers = await awaited
        except (TimeoutError, StoreUnavailableError) as error:
            _fail(futures, error)
        except BaseException:
            _fail(futures, StoreUnavailableError("whatever asked for all was stopped"))
            raise
        else:
            _tell(futures, answers)


def _waits(futures: Sequence["asyncio.Future[A]"], place: int) -> bool:
    return not futures[place].done()


def _tell(futures: Sequence["asyncio.Future[A]"], answers: Sequence[A]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if not future.done():  # else whoever waited has gone
            future.set_result(answer)


def _fail(futures: Sequence["asyncio.Future[A]"], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(type(error)(str(error)))  # each gets its own
