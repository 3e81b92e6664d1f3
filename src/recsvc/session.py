"""What the service says to the session store, and what it hears back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from recsvc.policy import Plan

__all__ = [
    "Claim",
    "Claimed",
    "Exhausted",
    "Moved",
    "Receipt",
    "Report",
    "Session",
    "Sessions",
]


@dataclass(frozen=True, slots=True)
class Report:
    """What a player reports: the listener, the track just heard, the fraction played.

    `key` is the caller's Idempotency-Key, `request_id` names the call in logs.
    """

    user: int
    track: int
    time: float
    request_id: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A plan to settle against a session, and all that is recorded if it succeeds.

    `known` tells whether the catalogue has the reported track. `event` holds the fields
    known so far. `position` makes the claim fail if the session has moved on; `recount`
    is the number of heard tracks outside the catalogue, when it had to be counted anew.
    """

    report: Report
    plan: Plan
    known: bool
    at_ms: int
    policy: str
    table_version: str
    event: Mapping[str, Any] = field(default_factory=dict)
    position: int | None = None
    recount: int | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer, recorded. `position` counts the answers of the session from 0."""

    track: int
    recommender: str
    propensity: float
    position: int
    session: str
    fallback: bool
    policy: str
    table_version: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Every candidate of the plan has been heard; nothing was changed.

    `heard` counts the catalogue's tracks that the session has heard, the reported one
    included; None when only a look at all of them can tell.
    """

    position: int
    heard: int | None


@dataclass(frozen=True, slots=True)
class Moved:
    """Another call changed the session first; nothing was changed by this one."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as stored. Times of day are Unix milliseconds.

    Of the `listened` tracks, `outside` were not in the catalogue when they were reported.
    """

    id: str
    recommender: str
    position: int
    track: int
    time: float
    served: int
    started: int
    at: int
    policy: str
    table_version: str
    listened: int
    expires_in: float
    outside: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure removed."""

    session: bool
    listened: int


class Sessions(Protocol):
    """The port to the session store. Every method may raise `StoreUnavailableError`."""

    async def claim(self, claim: Claim) -> Claimed | Exhausted | Moved:
        """Settle a plan, record the answer and its event, all in one step."""

    async def finish(self, report: Report, event: Mapping[str, Any]) -> None:
        """End a session and record its last event, in one step."""

    async def read(self, user: int) -> Session | None:
        """Return a listener's session, None when there is none."""

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        """Tell which of some tracks the session has heard."""

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        """Return the tracks of the session, or `most` of them, longest ago first."""

    async def erase(self, user: int) -> Receipt:
        """Remove everything held on a listener."""

    async def ping(self) -> None:
        """Return if the store answers."""
