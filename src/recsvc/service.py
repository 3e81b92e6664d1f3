"""What the service does with a call: load, decide, record.

Awaits what must be awaited and leaves every choice to the policy. It knows nothing of
HTTP or Redis: what it needs from outside are the ports `Sessions` and `Tables`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from recsvc.errors import StoreUnavailableError
from recsvc.policy import (
    CATALOGUE,
    OLDEST,
    Candidates,
    Decision,
    Plan,
    Pool,
    Sample,
    probabilities,
    settle,
)
from recsvc.recommenders.catalogue import plan_among, plan_oldest, plan_sample
from recsvc.recommenders.registry import Policy
from recsvc.recommenders.source import Source
from recsvc.session import Claim, Claimed, Exhausted, Moved, Receipt, Report, Session, Sessions

__all__ = ["Answer", "Explanation", "Observer", "PoolExplanation", "Service", "Tables"]

T = TypeVar("T")

_ATTEMPTS = 8  # rounds of a claim that other calls of the same listener keep overtaking


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
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class PoolExplanation:
    """One recommender's candidates as /next would see them; rows heaviest first.

    A row is (track, weight, heard, probability). A sample lists only its proposals.
    """

    recommender: str
    answers: bool
    population: int
    rows: list[tuple[int, float, bool, float]]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What /next would do now, and why. `pools` are in the order they would be asked."""

    policy: str
    table_version: str
    last_recommender: str | None
    first: str
    answered_by: str
    pools: list[PoolExplanation]


class Service:
    """Answers the calls of players.

    `clock` returns Unix seconds, `rng` makes the draws, `deadline` is in seconds.
    """

    def __init__(
        self,
        sessions: Sessions,
        tables: Tables,
        policy: Policy,
        observer: Observer,
        *,
        rng: Random,
        clock: Callable[[], float],
        deadline: float,
    ) -> None:
        self.sessions = sessions
        self.tables = tables
        self.policy = policy
        self.observer = observer
        self.rng = rng
        self.clock = clock
        self.deadline = deadline

    async def next(self, report: Report) -> Answer:
        """Choose the next track, and record that it was served.

        Never fails for want of Redis: when it does not answer within the deadline, the
        tables in memory do, and the answer says `degraded`.
        """
        source = self.tables.source
        plan = self.policy.plan(source, report.user, report.track, report.time, self.rng)
        try:
            async with asyncio.timeout(self.deadline):
                claimed = await self._claim(report, plan, source)
        except TimeoutError:
            answer = self._degraded(report, plan, source, "no answer within the deadline")
        except StoreUnavailableError as error:
            answer = self._degraded(report, plan, source, str(error))
        else:
            answer = _answer(report, claimed)
        self.observer.answered(answer)
        return answer

    async def last(self, report: Report) -> None:
        """End the session. Raises `StoreUnavailableError` when that cannot be recorded."""
        await self._within_deadline(
            self.sessions.finish(report, self._event(report, "last", self.tables.source))
        )

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
        source = self.tables.source
        plan = self.policy.plan(source, report.user, report.track, report.time, self.rng)
        return await self._within_deadline(self._explain(report, plan, source))

    # --- the claim, from the usual case to the rarest -------------------------------------

    async def _claim(self, report: Report, plan: Plan, source: Source) -> Claimed:
        outcome: Claimed | Exhausted | Moved = await self._try(report, plan, source)
        for _ in range(_ATTEMPTS):
            if isinstance(outcome, Claimed):
                return outcome
            if isinstance(outcome, Moved):
                outcome = await self._try(report, plan, source)
            else:
                outcome = await self._beyond(report, outcome, source)
        raise StoreUnavailableError("the listener's session changes faster than it can be read")

    async def _beyond(
        self, report: Report, exhausted: Exhausted, source: Source
    ) -> Claimed | Exhausted | Moved:
        """Claim a track when the recommenders have nothing left."""
        if exhausted.heard is not None:
            sample = plan_sample(source, exhausted.heard, self.rng)
            if sample is not None:
                outcome = await self._try(report, sample, source)
                if not isinstance(outcome, Exhausted):
                    return outcome
            elif exhausted.heard >= len(source.table):
                listened = await self.sessions.listened(report.user, most=64)
                oldest = _oldest(listened, report.track, source)
                if oldest is not None:
                    return await self._try(
                        report, plan_oldest(oldest), source, position=exhausted.position
                    )
        return await self._beyond_counting(report, source, exhausted.position)

    async def _beyond_counting(
        self, report: Report, source: Source, position: int
    ) -> Claimed | Exhausted | Moved:
        """Look at every track of the session: exact in every case, but slow in long ones."""
        listened = await self.sessions.listened(report.user)
        gone = {*listened, report.track}
        unheard = [track for track in source.table.tracks.tolist() if track not in gone]
        outside = sum(source.table.index(track) is None for track in listened)
        if unheard:
            plan = plan_among(source, unheard, self.rng)
        else:
            oldest = _oldest(listened, report.track, source)
            # With an empty catalogue all that is known is what the player reported.
            plan = plan_oldest(report.track if oldest is None else oldest)
        return await self._try(report, plan, source, position=position, recount=outside)

    async def _try(
        self,
        report: Report,
        plan: Plan,
        source: Source,
        *,
        position: int | None = None,
        recount: int | None = None,
    ) -> Claimed | Exhausted | Moved:
        event = self._event(report, "next", source)
        return await self.sessions.claim(
            Claim(
                report=report,
                plan=plan,
                known=source.table.index(report.track) is not None,
                at_ms=event["timestamp"],
                policy=self.policy.name,
                table_version=source.version,
                event=event,
                position=position,
                recount=recount,
            )
        )

    def _event(self, report: Report, message: str, source: Source) -> dict[str, Any]:
        return {
            "timestamp": int(self.clock() * 1000),
            "message": message,
            "user": report.user,
            "track": report.track,
            "time": report.time,
            "request_id": report.request_id,
            "policy": self.policy.name,
            "table_version": source.version,
            "experiments": {},
        }

    def _degraded(self, report: Report, plan: Plan, source: Source, why: str) -> Answer:
        """Answer from the tables alone, as in a session that has heard this one track."""
        self.observer.store_failed(why)
        heard = _only(report.track)
        decision = settle(plan, None, heard, 1)
        if decision is None:
            sample = plan_sample(source, 1, self.rng) or plan_oldest(report.track)
            decision = settle(sample, None, heard, 1)
        if decision is None:
            decision = Decision(report.track, OLDEST, 1.0, fallback=True)
        return Answer(
            user=report.user,
            track=decision.track,
            recommender=decision.recommender,
            propensity=decision.propensity,
            policy=self.policy.name,
            table_version=source.version,
            request_id=report.request_id,
            session=None,
            position=None,
            fallback=decision.fallback,
            degraded=True,
        )

    async def _explain(self, report: Report, plan: Plan, source: Source) -> Explanation:
        session = await self.sessions.read(report.user)
        last = session.recommender if session else None
        pools: list[PoolExplanation] = []
        answered_by = None
        for index in plan.route(last):
            pool = plan.pools[index]
            flags = await self._heard(report, pool)
            answers = answered_by is None and not all(flags)
            if answers:
                answered_by = pool.recommender
            pools.append(_explain_pool(pool, flags, answers=answers))
        return Explanation(
            policy=self.policy.name,
            table_version=source.version,
            last_recommender=last,
            first=pools[0].recommender,
            answered_by=answered_by or CATALOGUE,
            pools=pools,
        )

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


def _answer(report: Report, claimed: Claimed) -> Answer:
    return Answer(
        user=report.user,
        track=claimed.track,
        recommender=claimed.recommender,
        propensity=claimed.propensity,
        policy=claimed.policy,
        table_version=claimed.table_version,
        request_id=claimed.request_id,
        session=claimed.session,
        position=claimed.position,
        fallback=claimed.fallback,
    )


def _explain_pool(pool: Pool | Sample, heard: list[bool], *, answers: bool) -> PoolExplanation:
    if isinstance(pool, Sample):
        candidates = Candidates(pool.proposals, [1.0] * len(pool.proposals))
        size = pool.size
    else:
        candidates, size = pool.candidates, len(pool.candidates)
    chances = probabilities(candidates, heard)
    rows = zip(candidates.tracks, candidates.weights, heard, chances, strict=True)
    return PoolExplanation(pool.recommender, answers, size, list(rows))


def _oldest(listened: Sequence[int], reported: int, source: Source) -> int | None:
    """Return the catalogue's track heard longest ago; the reported one was heard just now."""
    known = [track for track in listened if source.table.index(track) is not None]
    if source.table.index(reported) is not None:
        known.append(reported)
    return next((track for track in known if track != reported), known[0] if known else None)


def _only(track: int) -> Callable[[Sequence[int]], list[bool]]:
    return lambda tracks: [t == track for t in tracks]
