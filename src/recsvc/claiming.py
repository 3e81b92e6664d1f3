"""Claims a track for a call: the plan first, and what comes when it is exhausted.

From the usual case to the rarest: one settled plan; random tracks of the catalogue; a
look at every track of the session; the track heard longest ago.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from recsvc.errors import StoreUnavailableError
from recsvc.policy import Plan
from recsvc.recommenders.catalogue import plan_among, plan_oldest, plan_sample
from recsvc.recommenders.registry import Policy
from recsvc.recommenders.source import Source
from recsvc.session import Claim, Claimed, Exhausted, Moved, Report, Sessions

__all__ = ["Call", "Claiming", "event"]

_ATTEMPTS = 8  # rounds of a claim that other calls of the same listener keep overtaking


@dataclass(frozen=True, slots=True)
class Call:
    """One call under way: what was reported, and what was fixed at its start."""

    report: Report
    source: Source
    policy: Policy
    treatments: dict[str, str]

    def plan(self, rng: Random) -> Plan:
        """Plan the answer; what is drawn in advance comes from `rng`."""
        report = self.report
        return self.policy.plan(self.source, report.user, report.track, report.time, rng)


class Claiming:
    """Claims tracks from the session store. `clock` returns Unix seconds."""

    def __init__(self, sessions: Sessions, clock: Callable[[], float]) -> None:
        self.sessions = sessions
        self.clock = clock

    async def claim(self, call: Call, plan: Plan, rng: Random) -> Claimed:
        """Settle the plan, or whatever plan comes after it; record the answer.

        Raises `StoreUnavailableError`.
        """
        outcome: Claimed | Exhausted | Moved = await self._try(call, plan)
        for _ in range(_ATTEMPTS):
            if isinstance(outcome, Claimed):
                return outcome
            if isinstance(outcome, Moved):
                outcome = await self._try(call, plan)
            else:
                outcome = await self._beyond(call, outcome, rng)
        raise StoreUnavailableError("the listener's session changes faster than it can be read")

    async def _beyond(
        self, call: Call, exhausted: Exhausted, rng: Random
    ) -> Claimed | Exhausted | Moved:
        """Claim a track when the recommenders have nothing left."""
        if exhausted.heard is not None:
            sample = plan_sample(call.source, exhausted.heard, rng)
            if sample is not None:
                outcome = await self._try(call, sample)
                if not isinstance(outcome, Exhausted):
                    return outcome
            elif exhausted.heard >= len(call.source.table):
                listened = await self.sessions.listened(call.report.user, most=64)
                oldest = _oldest(listened, call.report.track, call.source)
                if oldest is not None:
                    return await self._try(call, plan_oldest(oldest), position=exhausted.position)
        return await self._beyond_counting(call, exhausted.position, rng)

    async def _beyond_counting(
        self, call: Call, position: int, rng: Random
    ) -> Claimed | Exhausted | Moved:
        """Look at every track of the session: exact in every case, but slow in long ones."""
        listened = await self.sessions.listened(call.report.user)
        report, source = call.report, call.source
        gone = {*listened, report.track}
        unheard = [track for track in source.table.tracks.tolist() if track not in gone]
        outside = sum(source.table.index(track) is None for track in listened)
        if unheard:
            plan = plan_among(source, unheard, rng)
        else:
            oldest = _oldest(listened, report.track, source)
            # With an empty catalogue all that is known is what the player reported.
            plan = plan_oldest(report.track if oldest is None else oldest)
        return await self._try(call, plan, position=position, recount=outside)

    async def _try(
        self,
        call: Call,
        plan: Plan,
        *,
        position: int | None = None,
        recount: int | None = None,
    ) -> Claimed | Exhausted | Moved:
        fields = event(call, "next", self.clock())
        return await self.sessions.claim(
            Claim(
                report=call.report,
                plan=plan,
                known=call.source.table.index(call.report.track) is not None,
                at_ms=fields["timestamp"],
                policy=call.policy.name,
                table_version=call.source.version,
                event=fields,
                position=position,
                recount=recount,
            )
        )


def event(call: Call, message: str, now: float) -> dict[str, Any]:
    """Return what an event says of a call before its answer is known; `now` in Unix seconds."""
    return {
        "timestamp": int(now * 1000),
        "message": message,
        "user": call.report.user,
        "track": call.report.track,
        "time": call.report.time,
        "request_id": call.report.request_id,
        "policy": call.policy.name,
        "table_version": call.source.version,
        "experiments": call.treatments,
    }


def _oldest(listened: Sequence[int], reported: int, source: Source) -> int | None:
    """Return the catalogue's track heard longest ago; the reported one was heard just now."""
    known = [track for track in listened if source.table.index(track) is not None]
    if source.table.index(reported) is not None:
        known.append(reported)
    return next((track for track in known if track != reported), known[0] if known else None)
