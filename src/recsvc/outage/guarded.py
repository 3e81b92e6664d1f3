"""The session store, so guarded that its faults stay its own.

A store that fails is soon not asked any more, and answers nothing in no time; it is probed
by one, and used again when it works and knows what it had lost. What it acknowledged in the
last seconds is in the journal. Listeners of whom it has yet to learn what was answered
without it wait until it has.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from recsvc.errors import NotAskedError, StoreUnavailableError
from recsvc.outage.breaker import Breaker
from recsvc.outage.memory import Memory, Place
from recsvc.outage.outages import Outages
from recsvc.outage.record import Record, forgetting, pack, record_of
from recsvc.outage.recovery import Recovery
from recsvc.session import (
    UNSURE,
    Claim,
    Claimed,
    Exhausted,
    Finished,
    Last,
    Moved,
    Recalled,
    Receipt,
    Report,
    Session,
    Sessions,
    idempotency_field,
)

__all__ = ["GuardedSessions"]

T = TypeVar("T")

_KNOWN = "it is known to be away"
_LATE = "no answer within the deadline"
_WAIT = 0.75  # of the patience, for a listener to have caught up
_LOOK = 0.005  # seconds between looks at whether a listener has caught up
_ALONE: Claimed | Exhausted | Moved = Moved()
_LONGEST_PENDING = 30.0  # seconds after an outage; whatever is still pending was miscounted


class Store(Sessions, Protocol):
    """What is guarded. It may be told which recommender is thought to have answered last.

    A wrong guess changes no answer, but to be right saves time.
    """

    async def claim(self, claim: Claim, last: Last = UNSURE) -> Claimed | Exhausted | Moved:
        """Settle a plan, record the answer and its event, all in one step."""

    def claim_all(
        self, claims: Sequence[Claim], lasts: Sequence[Last] = ()
    ) -> Awaitable[Sequence[Claimed | Exhausted | Moved]]:
        """Claim for the listeners of one bundle."""


class GuardedSessions(Outages):
    """The `Sessions` port around another one, `store`.

    `clock` returns Unix seconds, `monotonic` seconds that never go back; `patience` is how
    many of them a probe may take. `run` is to be running.
    """

    def __init__(
        self,
        store: Store,
        recovery: Recovery,
        memory: Memory,
        breaker: Breaker,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        patience: float,
    ) -> None:
        super().__init__(
            store, recovery, breaker, clock=clock, monotonic=monotonic, patience=patience
        )
        self.store = store
        self.memory = memory

    # --- the port ---------------------------------------------------------------------------

    async def claim(self, claim: Claim) -> Claimed | Exhausted | Moved:
        """Settle a plan, record the answer and its event, all in one step."""
        report, memory = claim.report, self.memory
        place = memory.place(report.user, claim.at_ms / 1000)
        if memory.pending(place):
            place = await self._caught_up(report.user)
        if self.breaker.is_open:
            raise NotAskedError(_KNOWN)
        insisted = False
        try:
            outcome = await self.store.claim(claim, self._last(place))
        except asyncio.CancelledError:
            self._failed(_LATE)
            raise
        except StoreUnavailableError as error:
            self._failed(str(error))
            if report.key is None:
                raise
            outcome = await self._claim_again(claim, error)
            insisted = True
        self.breaker.succeeded()
        if isinstance(outcome, Claimed):
            if outcome.entry:  # else the answer was given before
                self.recovery.journal.append(pack(record_of(claim, outcome)))
            # One that was given before was noted then, unless nobody heard of it until now. Noted
            # once more it would be taken for the latest, and for one of this session.
            if outcome.entry or insisted:
                self._note(claim, outcome, place)
        return outcome

    def bundles(self, users: Sequence[int]) -> list[list[int]]:
        """Sort different listeners into lists of places whose claims may go out together."""
        return self.store.bundles(users)

    def claim_all(self, claims: Sequence[Claim]) -> Awaitable[list[Claimed | Exhausted | Moved]]:
        """Claim for the listeners of one bundle, each in one step, all in one round trip.

        Those of whom the store has something to learn yet are left to `claim`, which waits.
        """
        memory = self.memory
        places = [memory.place(claim.report.user, claim.at_ms / 1000) for claim in claims]
        ready = [at for at, place in enumerate(places) if not memory.pending(place)]
        asked = (
            self._send(
                self.store.claim_all,
                [claims[at] for at in ready],
                [self._last(places[at]) for at in ready],
            )
            if ready
            else _nothing()
        )
        return self._noted(claims, places, ready, asked)

    async def _noted(
        self,
        claims: Sequence[Claim],
        places: Sequence[Place],
        ready: Sequence[int],
        asked: Awaitable[Sequence[Claimed | Exhausted | Moved]],
    ) -> list[Claimed | Exhausted | Moved]:
        """Return what comes of claims, those that were `ready` to be asked for, and note it.

        Whoever waits has it in the same turn, so what is noted goes out. If they gave up, nothing
        is noted: in the journal, it would be written again although it was taken back.
        """
        outcomes, records = [_ALONE] * len(claims), list[bytes]()
        for at, outcome in zip(ready, await self._reply(asked), strict=True):
            outcomes[at] = outcome
            if isinstance(outcome, Claimed):
                if outcome.entry:
                    records.append(pack(record_of(claims[at], outcome)))
                self._note(claims[at], outcome, places[at])
        self.recovery.journal.append_all(records)
        return outcomes

    async def finish(
        self, report: Report, event: Mapping[str, Any], expires_ms: int = 0
    ) -> Finished | None:
        """End a session and record its last event, in one step; None if that was done before."""
        await self._caught_up(report.user)
        finished = await self._ask(self.store.finish, report, event, expires_ms)
        if finished is not None:
            record = Record(
                event,
                known=True,
                field=idempotency_field("last", report),
                track=None,
                entry=finished.entry,
                session=finished.session,
                position=finished.position,
            )
            self.recovery.journal.append(pack(record))
            # Else that session ended before, and what is remembered is of the next.
            self._forget(report.user)
        return finished

    async def read(self, user: int) -> Session | None:
        """Return a listener's session, None when there is none."""
        await self._caught_up(user)
        return await self._ask(self.store.read, user)

    async def recall(self, user: int) -> Recalled:
        """Return what a policy that infers needs of a listener's session."""
        if self.memory.pending(self.memory.place(user, self._clock())):
            await self._caught_up(user)
        return await self._ask(self.store.recall, user)

    def recall_all(self, users: Sequence[int]) -> Awaitable[Sequence[Recalled | None]]:
        """Return the same for the listeners of one bundle.

        Those of whom the store has something to learn yet are left to `recall`, which waits.
        """
        memory, now = self.memory, self._clock()
        pending = [memory.pending(memory.place(user, now)) > 0 for user in users]
        return self._recalled(self._send(self.store.recall_all, users), pending)

    async def _recalled(
        self, asked: Awaitable[Sequence[Recalled | None]], pending: Sequence[bool]
    ) -> list[Recalled | None]:
        recalled = await self._reply(asked)
        return [None if late else one for one, late in zip(recalled, pending, strict=True)]

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        """Tell which of some tracks the session has heard."""
        return await self._ask(self.store.heard, user, tracks)

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        """Return the tracks of the session, or `most` of them, longest ago first."""
        return await self._ask(self.store.listened, user, most)

    async def erase(self, user: int, expires_ms: int = 0) -> Receipt:
        """Remove everything held on a listener; nothing after that time (Unix ms; 0: never)."""
        await self._caught_up(user)
        receipt = await self._ask(self.store.erase, user, expires_ms)
        self.recovery.journal.append(pack(forgetting(user, receipt)))
        self._forget(user)
        return receipt

    async def ping(self) -> None:
        """Return if the store answers."""
        await self._ask(self.store.ping)

    # --- how it is asked ------------------------------------------------------------------------

    def _last(self, place: Place) -> Last:
        """Say who answered last, as far as is remembered."""
        return self.memory.last(place) if self.memory.answers(place) else UNSURE

    def _note(self, claim: Claim, claimed: Claimed, place: Place) -> None:
        """Remember what the store has acknowledged."""
        report, memory, now = claim.report, self.memory, claim.at_ms / 1000
        if not memory.holds(place, report.user):
            place = memory.place(report.user, now)
        memory.note(
            place,
            now,
            report.track,
            claimed.track,
            claimed.recommender,
            new=claimed.entry != "" and claimed.position == 0,
            spent=claimed.spent,
        )

    def _forget(self, user: int) -> None:
        now = self._clock()
        self.memory.forget(self.memory.place(user, now), now)

    async def _claim_again(
        self, claim: Claim, first: StoreUnavailableError
    ) -> Claimed | Exhausted | Moved:
        """Ask once more: with a key, what was done is not done twice, but told."""
        try:
            return await self._ask(self.store.claim, claim)
        except NotAskedError:
            raise first from None

    async def _ask(self, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Ask the store, unless it is known to be away; count how it goes."""
        return await self._reply(self._send(ask, *arguments))

    def _send(self, ask: Callable[..., Awaitable[T]], *arguments: Any) -> Awaitable[T]:
        if self.breaker.is_open:
            raise NotAskedError(_KNOWN)
        try:
            return ask(*arguments)
        except StoreUnavailableError as error:
            self._failed(str(error))
            raise

    async def _reply(self, asked: Awaitable[T]) -> T:
        try:
            answer = await asked
        except asyncio.CancelledError:
            self._failed(_LATE)
            raise
        except StoreUnavailableError as error:
            self._failed(str(error))
            raise
        self.breaker.succeeded()
        return answer

    async def _caught_up(self, user: int) -> Place:
        """Wait until the store knows all that was answered to a listener without it."""
        place = self.memory.place(user, self._clock())
        until = self._monotonic() + _WAIT * self.patience
        while self.memory.pending(place) and not self.breaker.is_open:
            since = max(self.memory.pending_since(place), self._closed_at)
            if self._clock() - since > _LONGEST_PENDING:
                self.memory.settle(place)
                break
            if self._monotonic() > until:  # nothing has been asked, and that is worth knowing
                raise NotAskedError("it has yet to learn what the listener was served")
            self._wake.set()
            await asyncio.sleep(_LOOK)
            place = self.memory.place(user, self._clock())
        return place


async def _nothing() -> Sequence[Claimed | Exhausted | Moved]:
    return ()
