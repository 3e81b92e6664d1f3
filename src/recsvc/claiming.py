"""Claims a track for a call: the plan first, and what comes when it is exhausted.

From the usual case to the rarest: one settled plan; random tracks of the catalogue; a
look at every track of the session; the track heard longest ago.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from random import Random
from typing import Any

from recsvc.errors import StoreUnavailableError
from recsvc.evidence import unpack
from recsvc.ids import fresh_id
from recsvc.policy import Plan
from recsvc.recommenders.catalogue import plan_among, plan_oldest, plan_sample
from recsvc.recommenders.inference import infer
from recsvc.recommenders.reasons import Reasons, reasons
from recsvc.recommenders.registry import Policy
from recsvc.recommenders.session import SessionPolicy
from recsvc.recommenders.source import Source
from recsvc.session import Claim, Claimed, Exhausted, Moved, Recalled, Report, Sessions
from recsvc.together import Together
from recsvc.values import value

__all__ = ["Call", "Claiming", "event", "recalls"]

_RECALLS = 3  # looks at a session that other calls of the same listener keep changing
_ATTEMPTS = 8  # rounds of a claim that other calls of the same listener keep overtaking


@value
class Call:
    """One call under way: what was reported, and what was fixed at its start.

    `id` names it. After `expires_ms` (Unix time; 0 is never) the session store is not to
    record it any more.
    """

    report: Report
    source: Source
    policy: Policy
    treatments: dict[str, str]
    id: str = field(default_factory=fresh_id)
    expires_ms: int = 0

    @property
    def recalls(self) -> bool:
        """Whether the plan depends on what the session has heard."""
        return recalls(self.policy)

    def plan(self, rng: Random) -> Plan:
        """Plan the answer; what is drawn in advance comes from `rng`.

        A policy that recalls plans as in a session of which nothing is known.
        """
        report = self.report
        return self.policy.plan(self.source, report.user, report.track, report.time, rng)

    def reasons(self, recalled: Recalled) -> Reasons | None:
        """Say why the answer would be what it would be; None from a policy that infers nothing."""
        policy, report = self.policy, self.report
        if not isinstance(policy, SessionPolicy) or self.source.session_model is None:
            return None
        found, kept = infer(
            self.source,
            recalled.evidence,
            report.track,
            report.time,
            recalled.out,
            policy.candidates,
        )
        return reasons(self.source, unpack(kept), found)

    def recall(self, recalled: Recalled, rng: Random) -> tuple[Plan, bytes]:
        """Plan the answer from what the session has heard; return also what it is to keep."""
        if not isinstance(self.policy, SessionPolicy):
            return self.plan(rng), b""
        report = self.report
        return self.policy.recall(
            self.source,
            report.user,
            report.track,
            report.time,
            rng,
            recalled.evidence,
            recalled.out,
        )


class Claiming:
    """Claims tracks from the session store, what single calls ask for by way of `together`.

    `clock` returns Unix seconds.
    """

    def __init__(self, sessions: Sessions, together: Together, clock: Callable[[], float]) -> None:
        self.sessions = sessions
        self.together = together
        self.clock = clock

    async def claim(self, call: Call, plan: Plan | None, rng: Random) -> Claimed:
        """Settle the plan, or whatever plan comes after it; record the answer.

        Without a plan one is made from what the session has heard. Raises
        `StoreUnavailableError`.
        """
        outcome: Claimed | Exhausted | Moved
        if plan is None:
            plan, outcome = await self._recall(call, rng)
        else:
            outcome = await self._try(call, plan)
        return await self.go_on(call, plan, rng, outcome)

    async def go_on(
        self, call: Call, plan: Plan, rng: Random, outcome: Claimed | Exhausted | Moved
    ) -> Claimed:
        """Claim a track after a first try; raises `StoreUnavailableError`."""
        for _ in range(_ATTEMPTS):
            if isinstance(outcome, Claimed):
                return outcome
            if isinstance(outcome, Moved):
                outcome = await self._try(call, plan)
            else:
                outcome = await self._beyond(call, outcome, rng)
        raise StoreUnavailableError("the listener's session changes faster than it can be read")

    async def claim_all(
        self, calls: Sequence[Call], plans: Sequence[Plan]
    ) -> list[Claimed | Exhausted | Moved]:
        """Try the plans of the calls of one bundle; what is not `Claimed` goes on by `go_on`."""
        now = self.clock()
        claims = [_claim(call, plan, now) for call, plan in zip(calls, plans, strict=True)]
        return await self.sessions.claim_all(claims)

    async def _recall(self, call: Call, rng: Random) -> tuple[Plan, Claimed | Exhausted | Moved]:
        """Look at the session, plan, and claim if the session is still as it was then.

        Where other calls keep coming in between, the last plan goes on as any other does: what
        is served is still nothing heard, but this report is not learnt from.
        """
        for _ in range(_RECALLS):
            recalled = await self.together.recall(call.report.user)
            plan, evidence = call.recall(recalled, rng)
            outcome = await self._try(call, plan, position=recalled.position, evidence=evidence)
            if not isinstance(outcome, Moved):
                break
        return plan, outcome

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
        evidence: bytes = b"",
    ) -> Claimed | Exhausted | Moved:
        return await self.together.claim(
            _claim(call, plan, self.clock(), position, recount, evidence)
        )


def _claim(
    call: Call,
    plan: Plan,
    now: float,
    position: int | None = None,
    recount: int | None = None,
    evidence: bytes = b"",
) -> Claim:
    fields = event(call, "next", now)
    return Claim(
        call.report,
        plan,
        call.source.table.index(call.report.track) is not None,
        fields["timestamp"],
        call.policy.name,
        call.source.version,
        fields,
        position,
        recount,
        call.id,
        call.expires_ms,
        evidence,
    )


def recalls(policy: Policy) -> bool:
    """Tell whether a policy's plans depend on what the session has heard."""
    return isinstance(policy, SessionPolicy)


def event(call: Call, message: str, now: float) -> dict[str, Any]:
    """Return what an event says of a call before its answer is known; `now` in Unix seconds."""
    return {
        "id": call.id,  # first, where `RedisReplay` looks for it
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
