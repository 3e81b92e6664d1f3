"""The session store, so guarded that its faults stay its own.

A store that fails is soon not asked any more, and answers nothing in no time; it is probed
by one, and used again when it works and knows what it had lost. What it acknowledged in the
last seconds is in the journal. Listeners of whom it has yet to learn what was answered
without it wait until it has.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from recsvc.breaker import Breaker
from recsvc.errors import NotAskedError, StoreUnavailableError
from recsvc.memory import Memory, Place
from recsvc.record import Record, forgetting, pack, record_of
from recsvc.recovery import Recovery
from recsvc.session import (
    Claim,
    Claimed,
    Exhausted,
    Finished,
    Moved,
    Recalled,
    Receipt,
    Report,
    Session,
    Sessions,
    idempotency_field,
)

__all__ = ["GuardedSessions"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_KNOWN = "it is known to be away"
_LATE = "no answer within the deadline"
_WAIT = 0.75  # of the patience, for a listener to have caught up
_LOOK = 0.005  # seconds between looks at whether a listener has caught up
_IDLE = 1.0  # seconds between rounds when there is nothing to do
_LONGEST_PENDING = 30.0  # seconds after an outage; whatever is still pending was miscounted


class GuardedSessions:
    """The `Sessions` port around another one, `store`.

    `clock` returns Unix seconds, `monotonic` seconds that never go back; `patience` is how
    many of them a probe may take. `run` is to be running.
    """

    def __init__(
        self,
        store: Sessions,
        recovery: Recovery,
        memory: Memory,
        breaker: Breaker,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        patience: float,
    ) -> None:
        self.store = store
        self.recovery = recovery
        self.memory = memory
        self.breaker = breaker
        self.patience = patience
        self._clock = clock
        self._monotonic = monotonic
        self._closed_at = 0.0
        self._why = ""
        self._suspicion = ""
        self._reported = False
        self._wake = asyncio.Event()

    # --- the port ---------------------------------------------------------------------------

    async def claim(self, claim: Claim) -> Claimed | Exhausted | Moved:
        """Settle a plan, record the answer and its event, all in one step."""
        report, memory, now = claim.report, self.memory, claim.at_ms / 1000
        place = memory.place(report.user, now)
        if memory.pending(place):
            place = await self._caught_up(report.user)
        if self.breaker.is_open:
            raise NotAskedError(_KNOWN)
        try:
            outcome = await self.store.claim(claim)
        except asyncio.CancelledError:
            self._failed(_LATE)
            raise
        except StoreUnavailableError as error:
            self._failed(str(error))
            if report.key is None:
                raise
            outcome = await self._claim_again(claim, error)
        self.breaker.succeeded()
        if isinstance(outcome, Claimed):
            first = outcome.entry != ""  # else the answer was given before
            if first:
                self.recovery.journal.append(pack(record_of(claim, outcome)))
            if not memory.holds(place, report.user):
                place = memory.place(report.user, now)
            memory.note(
                place,
                now,
                report.track,
                outcome.track,
                outcome.recommender,
                new=first and outcome.position == 0,
            )
        return outcome

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
        self.memory.forget(self.memory.place(report.user, self._clock()))
        return finished

    async def read(self, user: int) -> Session | None:
        """Return a listener's session, None when there is none."""
        await self._caught_up(user)
        return await self._ask(self.store.read, user)

    async def recall(self, user: int) -> Recalled:
        """Return what a policy that infers needs of a listener's session."""
        await self._caught_up(user)
        return await self._ask(self.store.recall, user)

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        """Tell which of some tracks the session has heard."""
        return await self._ask(self.store.heard, user, tracks)

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        """Return the tracks of the session, or `most` of them, longest ago first."""
        return await self._ask(self.store.listened, user, most)

    async def erase(self, user: int) -> Receipt:
        """Remove everything held on a listener."""
        await self._caught_up(user)
        receipt = await self._ask(self.store.erase, user)
        self.recovery.journal.append(pack(forgetting(user, receipt)))
        self.memory.forget(self.memory.place(user, self._clock()))
        return receipt

    async def ping(self) -> None:
        """Return if the store answers."""
        await self._ask(self.store.ping)

    # --- outages ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Find out whether the store works, and bring it up to date if it does."""
        self.breaker.open(self._monotonic())
        await self._try_to_close()
        if self.breaker.is_open:
            self._report(self._why)
        else:
            await self._catch_up()

    async def run(self) -> None:
        """Probe while the store is away, catch up when it is back; cancel to stop."""
        while True:
            try:
                if self._suspicion:
                    await self._verify()
                if self.breaker.is_open:
                    await asyncio.sleep(self.breaker.pause())
                    await self._try_to_close()
                    continue
                self._wake.clear()
                await self._catch_up()
            except Exception:  # the disk, most likely; this task must outlive whatever it is
                _log.exception("cannot catch up with what Redis has to learn")
                self._wake.clear()
            await self._idle()

    def restarted(self) -> None:
        """Hear that the store was restarted: what it has lost is to be written first."""
        self._open("it was restarted")

    def spooled(self) -> None:
        """Hear that there is something to catch up with."""
        self._wake.set()

    async def _catch_up(self) -> None:
        try:
            await self.recovery.tidy()
            if self.recovery.behind:
                await self.recovery.drain()
        except StoreUnavailableError as error:
            self._failed(str(error))

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(_IDLE):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _try_to_close(self) -> None:
        """Probe the store; if it works, write what it has lost, and use it again."""
        try:
            async with asyncio.timeout(self.patience):
                await self.store.ping()
            await self.recovery.restore()
        except TimeoutError:
            self._why = "no answer to a probe"
        except StoreUnavailableError as error:
            self._why = str(error)
        else:
            now, since = self._monotonic(), self.breaker.since
            self.breaker.close(now)
            self._closed_at = self._clock()
            if self._reported:
                self._reported = False
                _log.warning("Redis is back after %.1f s", now - since)

    def _report(self, why: str) -> None:
        self._reported = True
        _log.warning("Redis is away, the tables in memory answer: %s", why)

    def _failed(self, why: str) -> None:
        if self.breaker.failed() and not self.breaker.is_open:
            self._suspicion = why
            self._wake.set()

    async def _verify(self) -> None:
        """Find out whether it is the store that failed, or a stall of our own."""
        why, self._suspicion = self._suspicion, ""
        try:
            async with asyncio.timeout(self.patience):
                await self.store.ping()
        except (TimeoutError, StoreUnavailableError):
            self._open(why)
        else:
            self.breaker.succeeded()

    def _open(self, why: str) -> None:
        """Stop asking the store; to be on the safe side, all it learned lately is in doubt."""
        if self.breaker.open(self._monotonic()):
            self._report(why)
            self.recovery.go_back()
            self._wake.set()

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
        if self.breaker.is_open:
            raise NotAskedError(_KNOWN)
        try:
            answer = await ask(*arguments)
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
