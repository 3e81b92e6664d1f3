"""One call of a player under way, from what was reported to the claim that is made of it."""

from dataclasses import field
from random import Random
from typing import Any

from recsvc.evidence import unpack
from recsvc.ids import fresh_id
from recsvc.policy import Plan
from recsvc.recommenders.inference import infer
from recsvc.recommenders.reasons import Reasons, reasons
from recsvc.recommenders.registry import Policy
from recsvc.recommenders.session import SessionPolicy
from recsvc.recommenders.source import Source
from recsvc.session import Claim, Claimed, Exhausted, Moved, Recalled, Report
from recsvc.values import value

__all__ = ["Attempt", "Call", "claim_of", "event"]


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
        return isinstance(self.policy, SessionPolicy)

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


class Attempt:
    """A call on its way to an answer. `plan` and `outcome` are None until there are any.

    What is drawn for it comes from `rng`.
    """

    __slots__ = ("call", "outcome", "plan", "rng")

    def __init__(self, call: Call, rng: Random) -> None:
        self.call = call
        self.rng = rng
        self.plan: Plan | None = None
        self.outcome: Claimed | Exhausted | Moved | None = None

    def planned(self) -> Plan:
        """Return the plan; where there is none yet, that of a session of which nothing is known."""
        if self.plan is None:
            self.plan = self.call.plan(self.rng)
        return self.plan


def claim_of(
    call: Call,
    plan: Plan,
    now: float,
    position: int | None = None,
    recount: int | None = None,
    evidence: bytes = b"",
) -> Claim:
    """Make a claim of a call; `now` in Unix seconds, the others as `Claim` has them."""
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
