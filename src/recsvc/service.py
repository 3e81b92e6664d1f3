"""What the service does with a call: load, decide, record.

Awaits what must be awaited and leaves every choice to the policy. It knows nothing of
HTTP or Redis: what it needs from outside are the ports `Sessions` and `Tables`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol, TypeVar

from recsvc.answer import Answer
from recsvc.claiming import Call, Claiming, event
from recsvc.deadlines import Deadlines
from recsvc.draws import Draws
from recsvc.errors import NotAskedError, StoreUnavailableError
from recsvc.explanation import Explanation, PoolExplanation, explain_pool
from recsvc.policy import (
    CATALOGUE,
    Pool,
    Sample,
)
from recsvc.recommenders.registry import Policies
from recsvc.recommenders.source import Source
from recsvc.session import NOT_RECALLED, Claimed, Receipt, Report, Session, Sessions
from recsvc.standby import Standby

__all__ = ["Answer", "Observer", "Service", "Tables"]

T = TypeVar("T")

_PATIENCE = 0.8  # of the deadline; the rest is for an answer without the store, and its event


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
        self.claiming = Claiming(sessions, clock)
        self.deadline = deadline
        self.patience = _PATIENCE * deadline
        self._deadlines = Deadlines(self.patience)

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
        return await self._within_deadline(self._explain(self._call(report)))

    def _call(self, report: Report) -> Call:
        policy, treatments = self.policies.of(report.user)
        expires = int((self.clock() + self.patience) * 1000)
        return Call(report, self.tables.source, policy, treatments, expires_ms=expires)

    def _unsure(self, error: Exception) -> bool:
        """Count a fault of the store; tell whether it may all the same have done what it was to."""
        self.observer.store_failed(str(error) or "no answer within the deadline")
        return not isinstance(error, NotAskedError)

    async def _explain(self, call: Call) -> Explanation:
        session = await self.sessions.read(call.report.user)
        recalled = await self.sessions.recall(call.report.user) if call.recalls else NOT_RECALLED
        # Draws of its own: those of `next` are not to be moved on.
        plan, _ = call.recall(recalled, Random())
        last = session.recommender if session else None
        gone = await self._heard_of_catalogue(call, session)
        pools: list[PoolExplanation] = []
        answered_by = None
        for index in plan.route(last):
            pool = plan.pools[index]
            flags = await self._heard(call.report, pool)
            answers = answered_by is None and not all(flags)
            if answers:
                answered_by = pool.recommender
            pools.append(explain_pool(pool, flags, gone, answers=answers))
        return Explanation(
            policy=call.policy.name,
            table_version=call.source.version,
            last_recommender=last,
            first=pools[0].recommender,
            answered_by=answered_by or CATALOGUE,
            pools=pools,
            reasons=call.reasons(recalled),
        )

    async def _heard_of_catalogue(self, call: Call, session: Session | None) -> int:
        """Count the catalogue's tracks that the session has heard, this report included."""
        track = call.report.track
        (stored,) = await self.sessions.heard(call.report.user, [track])
        new = not stored and call.source.table.index(track) is not None
        return (session.listened - session.outside if session else 0) + new

    async def _heard(self, report: Report, pool: Pool | Sample) -> list[bool]:
        tracks = pool.proposals if isinstance(pool, Sample) else pool.candidates.tracks
        if isinstance(pool, Pool) and not pool.memory:
            return [False] * len(tracks)
        stored = await self.sessions.heard(report.user, tracks)
        return [known or t == report.track for t, known in zip(tracks, stored, strict=True)]

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
