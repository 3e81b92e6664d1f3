"""Says what a call would be answered, from the session as it is, and changes nothing."""

from random import Random

from recsvc.call import Call
from recsvc.explanation import Explanation, PoolExplanation, explain_pool
from recsvc.policy import CATALOGUE, CONTEXTUAL, OLDEST, PERSONAL, Pool, Sample
from recsvc.session import NOT_RECALLED, Report, Session, Sessions

__all__ = ["Explaining"]


class Explaining:
    """Explains calls from what `sessions` holds."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    async def explain(self, call: Call) -> Explanation:
        """Explain a call; raises `StoreUnavailableError`."""
        session = await self.sessions.read(call.report.user)
        recalled = await self.sessions.recall(call.report.user) if call.recalls else NOT_RECALLED
        # Draws of its own: those of `next` are not to be moved on.
        plan, _ = call.recall(recalled, Random())
        last = session.recommender if session else None
        gone = await self._heard_of_catalogue(call, session)
        pools: list[PoolExplanation] = []
        answered_by = None
        for index in plan.routes.after(last):
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
            answered_by=answered_by or (CATALOGUE if gone < len(call.source.table) else OLDEST),
            pools=pools,
            switches=plan.routes.after(CONTEXTUAL) != plan.routes.after(PERSONAL),
            reasons=call.reasons(recalled),
        )

    async def _heard_of_catalogue(self, call: Call, session: Session | None) -> int:
        """Count the catalogue's tracks that the session has heard, this report included."""
        track, index = call.report.track, call.source.table.index
        (stored,) = await self.sessions.heard(call.report.user, [track])
        new = not stored and index(track) is not None
        if session is None:
            return new
        if session.counted == call.source.version:
            return session.listened - session.outside + new
        listened = await self.sessions.listened(call.report.user)
        return sum(index(one) is not None for one in listened) + new

    async def _heard(self, report: Report, pool: Pool | Sample) -> list[bool]:
        tracks = pool.proposals if isinstance(pool, Sample) else pool.candidates.tracks
        if isinstance(pool, Pool) and not pool.memory:
            return [False] * len(tracks)
        stored = await self.sessions.heard(report.user, tracks)
        return [known or t == report.track for t, known in zip(tracks, stored, strict=True)]
