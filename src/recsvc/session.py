"""What the service says to the session store, and what it hears back."""

import hashlib
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from recsvc.ids import fresh_id
from recsvc.policy import Plan
from recsvc.tracks import pack_tracks
from recsvc.values import value

__all__ = [
    "NOT_RECALLED",
    "UNSURE",
    "Claim",
    "Claimed",
    "Exhausted",
    "Finished",
    "Last",
    "Moved",
    "Recalled",
    "Receipt",
    "Report",
    "Session",
    "Sessions",
    "idempotency_field",
]


@value
class Report:
    """What a player reports: the listener, the track just heard, the fraction played.

    `key` is the caller's Idempotency-Key, `request_id` names the call in logs.
    """

    user: int
    track: int
    time: float
    request_id: str
    key: str | None = None


def idempotency_field(message: str, report: Report) -> str:
    """Name an idempotency key: of fixed length, whatever the caller sent; empty without one."""
    if report.key is None:
        return ""
    digest = hashlib.sha256(report.key.encode(errors="surrogateescape")).hexdigest()
    return f"{message}:{digest[:32]}"


@value
class Claim:
    """A plan to settle against a session, and all that is recorded if it succeeds.

    `known` tells whether the catalogue has the reported track. `event` holds the fields
    known so far. `position` makes the claim fail if the session has moved on; `recount`
    is the number of heard tracks outside the catalogue, when it had to be counted anew.
    `id` names the call, and the session if one begins. After `expires_ms` (Unix time; 0 is
    never) nothing is to be changed any more: something else has been served. `evidence` is
    what the session is to keep for the policy, which alone can read it; empty leaves it be.
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
    id: str = field(default_factory=fresh_id)
    expires_ms: int = 0
    evidence: bytes = b""


@value
class Claimed:
    """The answer, recorded. `position` counts the answers of the session from 0.

    `entry` is where in the stream its event is; empty for an answer that was given before,
    which may have been a `degraded` one. `spent` tells that the session has heard all of the
    listener's personal tracks.
    """

    track: int
    recommender: str
    propensity: float
    position: int
    session: str
    fallback: bool
    policy: str
    table_version: str
    request_id: str
    entry: str = field(default="", compare=False)
    degraded: bool = False
    spent: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a session, recorded. Both are None when there was no session to end."""

    entry: str
    session: str | None
    position: int | None


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

    Of the `listened` tracks, `outside` were not in the catalogue when they were reported, if that
    of the table `counted` is meant; it is empty when more than one has answered since.
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
    counted: str = ""


@value
class Recalled:
    """What a policy that infers needs of a session before it can plan.

    A claim with this `position` fails if the session has moved on since. `served` is the
    track that went out last, None in a new session; `evidence` is what was kept; `heard` are all
    tracks that went out or were reported, of a session that is not long, packed.
    """

    position: int
    served: int | None
    evidence: bytes
    heard: bytes = b""

    @property
    def out(self) -> bytes:
        """Tracks that went out, for not every player plays, and reports, what it was served."""
        return self.heard or (b"" if self.served is None else pack_tracks([self.served]))


NOT_RECALLED = Recalled(0, None, b"")


class Last(NamedTuple):
    """What is thought of a session: who answered last, and whether the personal list is `spent`."""

    recommender: str | None
    spent: bool = False


UNSURE = Last("")
"""Nobody knows who answered last, or whether anybody did."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure removed; `at` is the time of the mark in the events, in Unix ms.

    `entry` is where in the stream that mark is.
    """

    session: bool
    listened: int
    at: int
    entry: str = ""


class Sessions(Protocol):
    """The port to the session store. Every method may raise `StoreUnavailableError`."""

    async def claim(self, claim: Claim) -> Claimed | Exhausted | Moved:
        """Settle a plan, record the answer and its event, all in one step."""

    def bundles(self, users: Sequence[int]) -> list[list[int]]:
        """Sort different listeners into lists of places whose claims may go out together."""

    def claim_all(
        self, claims: Sequence[Claim]
    ) -> Awaitable[Sequence[Claimed | Exhausted | Moved]]:
        """Claim for the listeners of one bundle, each as `claim` does, but in one round trip.

        The claims go out before this returns, where the store can do that; an error may be raised
        at once or when the outcomes are awaited, and holds for all of them. `Moved` also stands
        for a claim that has to be made alone: nothing was changed by it.
        """

    async def finish(
        self, report: Report, event: Mapping[str, Any], expires_ms: int = 0
    ) -> Finished | None:
        """End a session and record its last event, in one step; None if that was done before.

        After `expires_ms` (Unix time; 0 is never) nothing is changed any more.
        """

    async def read(self, user: int) -> Session | None:
        """Return a listener's session, None when there is none."""

    async def recall(self, user: int) -> Recalled:
        """Return what a policy that infers needs of a listener's session."""

    def recall_all(self, users: Sequence[int]) -> Awaitable[Sequence[Recalled | None]]:
        """Return the same for the listeners of one bundle; None for one to be asked for alone.

        It is asked for and fails as with `claim_all`.
        """

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        """Tell which of some tracks the session has heard."""

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        """Return the tracks of the session, or `most` of them, longest ago first."""

    async def erase(self, user: int, expires_ms: int = 0) -> Receipt:
        """Remove everything held on a listener; nothing after that time (Unix ms; 0: never)."""

    async def ping(self) -> None:
        """Return if the store answers."""
