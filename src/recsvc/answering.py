"""Answers calls from the session store, and without it when it fails.

Calls of different listeners that are at hand at the same time go to the store together: for
eight of them the store does little more than half of what it does for them one by one, and so
does this process, whose caches find the same work eight times in a row.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any, Protocol

from recsvc.answer import Answer
from recsvc.call import Attempt, Call
from recsvc.claiming import Claiming
from recsvc.deadlines import Deadlines
from recsvc.errors import NotAskedError, StoreUnavailableError
from recsvc.outage.standby import Standby
from recsvc.session import Claimed

__all__ = ["Answering", "Observer", "Told"]

# Of the deadline: how long the store is waited for, then for the event of an answer without it to
# be on disk. The rest is for the answer to go out, among others that were late too.
_PATIENCE, _KEEPING = 0.8, 0.95

_LATE = "no answer within the deadline"

Told = Callable[[Answer], None]
"""Hears an answer, as soon as there is one."""


class Observer(Protocol):
    """What the service tells whoever counts."""

    def answered(self, answer: Answer) -> None:
        """An answer goes out."""

    def store_failed(self, why: str) -> None:
        """The session store failed a call."""


class Answering:
    """Answers calls by `claiming` within the `deadline` (seconds), or else by `standby`."""

    def __init__(
        self, claiming: Claiming, standby: Standby, observer: Observer, deadline: float
    ) -> None:
        self.claiming = claiming
        self.standby = standby
        self.observer = observer
        self.patience = _PATIENCE * deadline
        self.keeping = _KEEPING * deadline
        self.deadlines = Deadlines(self.patience)

    async def alone(self, call: Call, rng: Random) -> Answer:
        """Answer a call."""
        attempt = Attempt(call, rng)
        if not call.recalls:
            attempt.planned()
        deadline = self.deadlines.enter()
        try:
            with deadline:
                answer = _answer(call, await self.claiming.claim(attempt))
        except (TimeoutError, StoreUnavailableError) as error:
            answer = await self._without_store(attempt, error, deadline.began)
        else:
            if call.report.key is not None:
                self.standby.remember(call, answer)
        self.observer.answered(answer)
        return answer

    def begin(
        self, calls: Sequence[Call], rngs: Sequence[Random], told: Sequence[Told]
    ) -> Coroutine[Any, Any, None]:
        """Answer the calls of one bundle, which have no keys; `told` of each hears the answer.

        All of them recall or none does. What the store is asked for goes out before this returns;
        what is returned ends when all are answered. It raises what nobody foresaw, and then some
        may have been told nothing.
        """
        attempts = [Attempt(call, rng) for call, rng in zip(calls, rngs, strict=True)]
        asked: Awaitable[None] | StoreUnavailableError
        try:
            asked = self.claiming.begin(attempts)
        except StoreUnavailableError as error:
            asked = _bare(error)
        return self._finish(attempts, told, asked)

    async def _finish(
        self,
        attempts: Sequence[Attempt],
        told: Sequence[Told],
        asked: Awaitable[None] | StoreUnavailableError,
    ) -> None:
        deadline = self.deadlines.enter()
        fault: StoreUnavailableError | None = None
        try:
            with deadline:
                if isinstance(asked, StoreUnavailableError):
                    fault = asked
                else:
                    await asked
        except (TimeoutError, StoreUnavailableError) as error:
            fault = _bare(error)
        left = []
        for attempt, tell in zip(attempts, told, strict=True):
            if isinstance(attempt.outcome, Claimed):
                answer = _answer(attempt.call, attempt.outcome)
                tell(answer)
                self.observer.answered(answer)
            else:
                left.append(self._go_on(attempt, tell, fault, deadline.began))
        if left:
            await _all(left)

    async def _go_on(
        self, attempt: Attempt, tell: Told, fault: StoreUnavailableError | None, began: float
    ) -> None:
        """Answer after a first try that did not; the deadline is still that of `began`."""
        if fault is None:
            try:
                async with asyncio.timeout_at(began + self.patience):
                    answer = _answer(attempt.call, await self.claiming.claim(attempt))
            except (TimeoutError, StoreUnavailableError) as error:
                answer = await self._without_store(attempt, error, began)
        else:
            answer = await self._without_store(attempt, fault, began)
        tell(answer)
        self.observer.answered(answer)

    async def _without_store(self, attempt: Attempt, error: Exception, began: float) -> Answer:
        return await self.standby.next(
            attempt.call,
            attempt.planned(),
            attempt.rng,
            until=began + self.keeping,
            unsure=self.failed(error),
        )

    def failed(self, error: Exception) -> bool:
        """Count a fault of the store; tell whether it may all the same have done what it was to."""
        self.observer.store_failed(str(error) or _LATE)
        return not isinstance(error, NotAskedError)


def _bare(error: Exception) -> StoreUnavailableError:
    """Return a fault without its traceback, which leads to whoever keeps it: a cycle."""
    kind = NotAskedError if isinstance(error, NotAskedError) else StoreUnavailableError
    return kind(str(error) or _LATE)


async def _all(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all of some works side by side; raise what went wrong with the first that did."""
    if len(works) == 1:
        await works[0]
        return
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _answer(call: Call, claimed: Claimed) -> Answer:
    return Answer(
        call.report.user,
        claimed.track,
        claimed.recommender,
        claimed.propensity,
        claimed.policy,
        claimed.table_version,
        claimed.request_id,
        None if claimed.degraded else claimed.session,
        None if claimed.degraded else claimed.position,
        claimed.fallback,
        call.treatments,
        claimed.degraded,
    )
