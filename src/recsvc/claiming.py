"""Claims a track for a call: the plan first, and what comes when it is exhausted.

From the usual case to the rarest: one settled plan; random tracks of the catalogue; a
look at every track of the session; the track heard longest ago.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

from recsvc.call import Attempt, claim_of
from recsvc.errors import StoreUnavailableError
from recsvc.policy import Plan
from recsvc.recommenders.catalogue import plan_among, plan_oldest, plan_sample
from recsvc.recommenders.source import Source
from recsvc.session import Claimed, Exhausted, Moved, Recalled, Sessions

__all__ = ["Claiming"]

_log = logging.getLogger(__name__)

_RECALLS = 3  # looks at a session that other calls of the same listener keep changing
_LOOKS = 64, 512  # tracks heard longest ago: as a rule among the first is one of the catalogue
_ATTEMPTS = 8  # rounds of a claim that other calls of the same listener keep overtaking


class Claiming:
    """Claims tracks from the session store. `clock` returns Unix seconds."""

    def __init__(self, sessions: Sessions, clock: Callable[[], float]) -> None:
        self.sessions = sessions
        self.clock = clock

    def begin(self, attempts: Sequence[Attempt]) -> Awaitable[None]:
        """Try the plans of the calls of one bundle; what comes of them is their `outcome`.

        All of them recall or none does. What the store is asked for first goes out before this
        returns. Raises `StoreUnavailableError`, at once or when awaited. Those that have not
        claimed a track are for `claim`.
        """
        if attempts[0].call.recalls:
            users = [attempt.call.report.user for attempt in attempts]
            return self._plan_and_try(attempts, self.sessions.recall_all(users))
        now = self.clock()
        claims = [claim_of(attempt.call, attempt.planned(), now) for attempt in attempts]
        return _note_outcomes(attempts, self.sessions.claim_all(claims))

    async def claim(self, attempt: Attempt) -> Claimed:
        """Settle the plan, or whatever plan comes after it; record the answer.

        Raises `StoreUnavailableError`.
        """
        outcome = attempt.outcome
        if attempt.call.recalls and not isinstance(outcome, Exhausted):
            outcome = await self._recall(attempt)
        for _ in range(_ATTEMPTS):
            if isinstance(outcome, Claimed):
                return outcome
            if isinstance(outcome, Exhausted):
                outcome = await self._beyond(attempt, outcome)
            else:
                outcome = await self._try(attempt, attempt.planned())
        raise StoreUnavailableError("the listener's session changes faster than it can be read")

    async def _plan_and_try(
        self, attempts: Sequence[Attempt], recalled: Awaitable[Sequence[Recalled | None]]
    ) -> None:
        """Plan from what the sessions have heard, and claim where they are still as they were."""
        ready, claims = [], []
        for attempt, found in zip(attempts, await recalled, strict=True):
            if found is None:
                continue
            try:
                plan, evidence = attempt.call.recall(found, attempt.rng)
            except Exception:  # of one session, and it must not cost the others their answers
                _log.exception("a bug")
                continue
            attempt.plan = plan
            ready.append(attempt)
            now = self.clock()
            claims.append(claim_of(attempt.call, plan, now, found.position, evidence=evidence))
        if ready:
            await _note_outcomes(ready, self.sessions.claim_all(claims))

    async def _recall(self, attempt: Attempt) -> Claimed | Exhausted | Moved:
        """Look at the session, plan, and claim if the session is still as it was then.

        Where other calls keep coming in between, the last plan goes on as any other does: what
        is served is still nothing heard, but this report is not learnt from.
        """
        call = attempt.call
        for _ in range(_RECALLS):
            recalled = await self.sessions.recall(call.report.user)
            attempt.plan, evidence = call.recall(recalled, attempt.rng)
            outcome = await self._try(
                attempt, attempt.plan, position=recalled.position, evidence=evidence
            )
            if not isinstance(outcome, Moved):
                break
        return outcome

    async def _beyond(self, attempt: Attempt, exhausted: Exhausted) -> Claimed | Exhausted | Moved:
        """Claim a track when the recommenders have nothing left."""
        report, source = attempt.call.report, attempt.call.source
        if exhausted.heard is not None:
            sample = plan_sample(source, exhausted.heard, attempt.rng)
            if sample is not None:
                outcome = await self._try(attempt, sample)
                if not isinstance(outcome, Exhausted):
                    return outcome
            elif exhausted.heard >= len(source.table):
                for most in _LOOKS:
                    listened = await self.sessions.listened(report.user, most=most)
                    oldest = _oldest(listened, report.track, source)
                    if oldest is not None:
                        plan = plan_oldest(oldest)
                        return await self._try(attempt, plan, position=exhausted.position)
        return await self._beyond_counting(attempt, exhausted.position)

    async def _beyond_counting(
        self, attempt: Attempt, position: int
    ) -> Claimed | Exhausted | Moved:
        """Look at every track of the session: exact in every case, but slow in long ones."""
        report, source = attempt.call.report, attempt.call.source
        listened = await self.sessions.listened(report.user)
        gone = {*listened, report.track}
        unheard = [track for track in source.table.tracks.tolist() if track not in gone]
        outside = sum(source.table.index(track) is None for track in listened)
        if unheard:
            plan = plan_among(source, unheard, attempt.rng)
        else:
            oldest = _oldest(listened, report.track, source)
            # Of a catalogue with one track or none, what the player reported is all that is known.
            plan = plan_oldest(report.track if oldest is None else oldest)
        return await self._try(attempt, plan, position=position, recount=outside)

    async def _try(
        self,
        attempt: Attempt,
        plan: Plan,
        *,
        position: int | None = None,
        recount: int | None = None,
        evidence: bytes = b"",
    ) -> Claimed | Exhausted | Moved:
        claim = claim_of(attempt.call, plan, self.clock(), position, recount, evidence)
        return await self.sessions.claim(claim)


async def _note_outcomes(
    attempts: Sequence[Attempt], outcomes: Awaitable[Sequence[Claimed | Exhausted | Moved]]
) -> None:
    for attempt, outcome in zip(attempts, await outcomes, strict=True):
        attempt.outcome = outcome


def _oldest(listened: Sequence[int], reported: int, source: Source) -> int | None:
    """Return the first that the catalogue has; not the reported one, which was heard just now."""
    index = source.table.index
    return next((t for t in listened if t != reported and index(t) is not None), None)
