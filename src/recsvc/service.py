"""What the service does with a call: load, decide, record.

Awaits what must be awaited and leaves every choice to the policy. It knows nothing of
HTTP or Redis: what it needs from outside are the ports `Sessions` and `Tables`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from random import Random
from typing import Protocol, TypeVar

from recsvc.answer import Answer
from recsvc.claiming import Call, Claiming, event, recalls
from recsvc.deadlines import Deadlines
from recsvc.draws import Draws
from recsvc.errors import NotAskedError, StoreUnavailableError
from recsvc.explaining import Explaining
from recsvc.explanation import Explanation
from recsvc.policy import Plan
from recsvc.recommenders.registry import Policies
from recsvc.recommenders.source import Source
from recsvc.session import (
    Claimed,
    Exhausted,
    Moved,
    Receipt,
    Report,
    Session,
    Sessions,
)
from recsvc.standby import Standby
from recsvc.together import Together

__all__ = ["Answer", "Observer", "Service", "Tables"]

T = TypeVar("T")

_PATIENCE = 0.8  # of the deadline; the rest is for an answer without the store, and its event

_AT_ONCE = 100  # listeners of one batch whose time begins together


class Tables(Protocol):
    """The port to the tables."""

    @property
    def source(self) -> Source:
        """The live table; read once a request, so that no answer mixes two."""


class Observer(Protocol):
    """What the service tells whoever counts."""

    def answered(self, answer: "Answer") -> None:
        """An answer went out."""

    def store_failed(self, why: str) -> None:
        """The session store failed a call."""


class Service:
    """Answers the calls of players.

    `clock` returns Unix seconds, `draws` the randomness, `deadline` is in seconds.
    `standby` answers when `sessions` does not.
    """

    def __init__(
        self,
        sessions: Sessions,
        tables: Tables,
        policies: Policies,
        observer: Observer,
        standby: Standby,
        *,
        draws: Draws,
        clock: Callable[[], float],
        deadline: float,
    ) -> None:
        self.sessions = sessions
        self.tables = tables
        self.policies = policies
        self.observer = observer
        self.standby = standby
        self.draws = draws
        self.clock = clock
        self._explaining = Explaining(sessions)
        self.deadline = deadline
        self.patience = _PATIENCE * deadline
        self._deadlines = Deadlines(self.patience)
        self.claiming = Claiming(sessions, Together(sessions, self._deadlines), clock)

    async def next_all(self, reports: Sequence[Report]) -> list[Answer]:
        """Choose the next track for each report, as `next` does; those of a listener in order.

        What different listeners claim goes to the store together.
        """
        answers: list[Answer | None] = [None] * len(reports)
        for places in _rounds(reports):
            found = await self._next_each([reports[place] for place in places])
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    async def next(self, report: Report) -> Answer:
        """Choose the next track, and record that it was served.

        Never fails for want of Redis: when it does not answer within the deadline, the
        tables in memory do, and the answer says `degraded`.
        """
        call, rng = self._call(report), self.draws.of(report.user)
        plan = None if call.recalls else call.plan(rng)
        deadline = self._deadlines.enter()
        try:
            with deadline:
                answer = _answer(call, await self.claiming.claim(call, plan, rng))
        except (TimeoutError, StoreUnavailableError) as error:
            answer = await self.standby.next(
                call,
                plan or call.plan(rng),
                rng,
                until=deadline.began + self.deadline,
                unsure=self._unsure(error),
            )
        else:
            if report.key is not None:
                self.standby.remember(call, answer)
        self.observer.answered(answer)
        return answer

    async def last(self, report: Report) -> None:
        """End the session, later if need be.

        Raises `StoreUnavailableError` when that can be recorded neither in the session store
        nor on disk.
        """
        call = self._call(report)
        ending = event(call, "last", self.clock())
        deadline = self._deadlines.enter()
        try:
            with deadline:
                await self.sessions.finish(report, ending, call.expires_ms)
        except (TimeoutError, StoreUnavailableError) as error:
            unsure = self._unsure(error)
            await self.standby.last(call, until=deadline.began + self.deadline, unsure=unsure)

    async def session(self, user: int) -> Session | None:
        """Return a listener's session as stored."""
        return await self._within_deadline(self.sessions.read(user))

    async def erase(self, user: int) -> Receipt:
        """Remove everything held on a listener."""
        return await self._within_deadline(self.sessions.erase(user))

    async def ping(self) -> None:
        """Return if the session store answers; raise `StoreUnavailableError` if not."""
        await self._within_deadline(self.sessions.ping())

    async def explain(self, report: Report) -> Explanation:
        """Say what `next` would do now, and why, changing nothing."""
        return await self._within_deadline(self._explaining.explain(self._call(report)))

    async def _next_each(self, reports: Sequence[Report]) -> list[Answer]:
        """Answer different listeners side by side."""
        alone = [at for at, report in enumerate(reports) if self._is_alone(report)]
        rest = [at for at, report in enumerate(reports) if not self._is_alone(report)]
        bundles = [
            [rest[at] for at in bundle]
            for bundle in self.sessions.bundles([reports[at].user for at in rest])
        ]
        found = await asyncio.gather(
            *(self._next_bundle([reports[at] for at in bundle]) for bundle in bundles),
            *(self._next_alone(reports[at]) for at in alone),
        )
        answers = dict(zip([*chain(*bundles), *alone], chain(*found), strict=True))
        return [answers[at] for at in range(len(reports))]

    def _is_alone(self, report: Report) -> bool:
        # A key is asked for again where the store fails, and who recalls looks first.
        return report.key is not None or recalls(self.policies.of(report.user)[0])

    async def _next_alone(self, report: Report) -> list[Answer]:
        return [await self.next(report)]

    async def _next_bundle(self, reports: Sequence[Report]) -> list[Answer]:
        """Answer what the store can be asked at once; what it cannot settle so, one by one."""
        # Nothing of this is done beforehand: the store is at work as soon as the first is done.
        calls = [self._call(report) for report in reports]
        rngs = [self.draws.of(report.user) for report in reports]
        plans = [call.plan(rng) for call, rng in zip(calls, rngs, strict=True)]
        deadline = self._deadlines.enter()
        outcomes: Sequence[Claimed | Exhausted | Moved | Exception]
        try:
            with deadline:
                outcomes = await self.claiming.claim_all(calls, plans)
        except (TimeoutError, StoreUnavailableError) as error:
            outcomes = [error] * len(calls)
        answers: list[Answer | None] = [
            self._count(_answer(call, outcome)) if isinstance(outcome, Claimed) else None
            for call, outcome in zip(calls, outcomes, strict=True)
        ]
        left = [at for at, answer in enumerate(answers) if answer is None]
        found = await asyncio.gather(
            *(
                self._go_on(calls[at], plans[at], rngs[at], outcomes[at], deadline.began)
                for at in left
            )
        )
        for at, answer in zip(left, found, strict=True):
            answers[at] = answer
        return [answer for answer in answers if answer is not None]

    async def _go_on(
        self,
        call: Call,
        plan: Plan,
        rng: Random,
        outcome: Claimed | Exhausted | Moved | Exception,
        began: float,
    ) -> Answer:
        """Answer after a first try that did not; the deadline is still that of `began`."""
        try:
            if isinstance(outcome, Exception):
                raise outcome
            async with asyncio.timeout_at(began + self.patience):
                return self._count(
                    _answer(call, await self.claiming.go_on(call, plan, rng, outcome))
                )
        except (TimeoutError, StoreUnavailableError) as error:
            unsure, until = self._unsure(error), began + self.deadline
        return self._count(await self.standby.next(call, plan, rng, until=until, unsure=unsure))

    def _count(self, answer: Answer) -> Answer:
        self.observer.answered(answer)
        return answer

    def _call(self, report: Report) -> Call:
        policy, treatments = self.policies.of(report.user)
        expires = int((self.clock() + self.patience) * 1000)
        return Call(report, self.tables.source, policy, treatments, expires_ms=expires)

    def _unsure(self, error: Exception) -> bool:
        """Count a fault of the store; tell whether it may all the same have done what it was to."""
        self.observer.store_failed(str(error) or "no answer within the deadline")
        return not isinstance(error, NotAskedError)

    async def _within_deadline(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self.deadline):
                return await work
        except TimeoutError as error:
            failure = StoreUnavailableError("no answer within the deadline")
            self.observer.store_failed(str(failure))
            raise failure from error
        except StoreUnavailableError as error:
            self.observer.store_failed(str(error))
            raise


def _rounds(reports: Sequence[Report]) -> list[list[int]]:
    """Sort reports into rounds, as lists of places: each listener once, in the order given."""
    rounds: list[list[int]] = []
    before: dict[int, int] = {}
    for place, report in enumerate(reports):
        nth = before[report.user] = before.get(report.user, -1) + 1
        if nth == len(rounds):
            rounds.append([])
        rounds[nth].append(place)
    return [
        places[start : start + _AT_ONCE]
        for places in rounds
        for start in range(0, len(places), _AT_ONCE)
    ]


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
