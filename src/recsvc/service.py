"""What the service does with a call: load, decide, record.

Awaits what must be awaited and leaves every choice to the policy. It knows nothing of
HTTP or Redis: what it needs from outside are the ports `Sessions` and `Tables`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar

from recsvc.claiming import Call, Claiming, event
from recsvc.draws import Draws
from recsvc.errors import StoreUnavailableError
from recsvc.explanation import Explanation, PoolExplanation, explain_pool
from recsvc.policy import (
    CATALOGUE,
    OLDEST,
    Decision,
    Plan,
    Pool,
    Sample,
    settle,
)
from recsvc.recommenders.catalogue import plan_oldest, plan_sample
from recsvc.recommenders.registry import Policies
from recsvc.recommenders.source import Source
from recsvc.session import Claimed, Receipt, Report, Session, Sessions

__all__ = ["Answer", "Observer", "Service", "Tables"]

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a player gets. A degraded answer was made without the session."""

    user: int
    track: int
    recommender: str
    propensity: float
    policy: str
    table_version: str
    request_id: str
    session: str | None
    position: int | None
    fallback: bool
    experiments: dict[str, str]
    degraded: bool = False


class Service:
    """Answers the calls of players.

    `clock` returns Unix seconds, `draws` the randomness, `deadline` is in seconds.
    """

    def __init__(
        self,
        sessions: Sessions,
        tables: Tables,
        policies: Policies,
        observer: Observer,
        *,
        draws: Draws,
        clock: Callable[[], float],
        deadline: float,
    ) -> None:
        self.sessions = sessions
        self.tables = tables
        self.policies = policies
        self.observer = observer
        self.draws = draws
        self.clock = clock
        self.claiming = Claiming(sessions, clock)
        self.deadline = deadline

    async def next(self, report: Report) -> Answer:
        """Choose the next track, and record that it was served.

        Never fails for want of Redis: when it does not answer within the deadline, the
        tables in memory do, and the answer says `degraded`.
        """
        call, rng = self._call(report), self.draws.of(report.user)
        plan = call.plan(rng)
        try:
            async with asyncio.timeout(self.deadline):
                answer = _answer(call, await self.claiming.claim(call, plan, rng))
        except TimeoutError:
            answer = self._degraded(call, plan, rng, "no answer within the deadline")
        except StoreUnavailableError as error:
            answer = self._degraded(call, plan, rng, str(error))
        self.observer.answered(answer)
        return answer

    async def last(self, report: Report) -> None:
        """End the session. Raises `StoreUnavailableError` when that cannot be recorded."""
        call = self._call(report)
        await self._within_deadline(self.sessions.finish(report, event(call, "last", self.clock())))

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
        return Call(report, self.tables.source, policy, treatments)

    def _degraded(self, call: Call, plan: Plan, rng: Random, why: str) -> Answer:
        """Answer from the tables alone, as in a session that has heard this one track."""
        self.observer.store_failed(why)
        report, source = call.report, call.source
        heard, known = _only(report.track), int(source.table.index(report.track) is not None)
        decision = settle(plan, None, heard, known)
        if decision is None:
            sample = plan_sample(source, known, rng) or plan_oldest(report.track)
            decision = settle(sample, None, heard, known)
        if decision is None:
            decision = Decision(report.track, OLDEST, 1.0, fallback=True)
        return Answer(
            user=report.user,
            track=decision.track,
            recommender=decision.recommender,
            propensity=decision.propensity,
            policy=call.policy.name,
            table_version=call.source.version,
            request_id=report.request_id,
            session=None,
            position=None,
            fallback=decision.fallback,
            experiments=call.treatments,
            degraded=True,
        )

    async def _explain(self, call: Call) -> Explanation:
        # Draws of its own: those of `next` are not to be moved on.
        plan = call.plan(Random())
        session = await self.sessions.read(call.report.user)
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
        user=call.report.user,
        track=claimed.track,
        recommender=claimed.recommender,
        propensity=claimed.propensity,
        policy=claimed.policy,
        table_version=claimed.table_version,
        request_id=claimed.request_id,
        session=claimed.session,
        position=claimed.position,
        fallback=claimed.fallback,
        experiments=call.treatments,
    )


def _only(track: int) -> Callable[[Sequence[int]], list[bool]]:
    return lambda tracks: [t == track for t in tracks]
