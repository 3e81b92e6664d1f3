"""Whether the session store works, and what is done about it when it does not.

It is probed while it is away, and used again when it works and knows what it had lost.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from recsvc.errors import StoreUnavailableError
from recsvc.outage.breaker import Breaker
from recsvc.outage.recovery import Recovery

__all__ = ["Outages"]

_log = logging.getLogger(__name__)

_IDLE = 1.0  # seconds between rounds when there is nothing to do


class _Probed(Protocol):
    """What is probed."""

    async def ping(self) -> None:
        """Return if it answers; raise `StoreUnavailableError` if not."""


class Outages:
    """Opens and closes the breaker of a store. `run` is to be running.

    `clock` returns Unix seconds, `monotonic` seconds that never go back; `patience` is how
    many of them a probe may take.
    """

    def __init__(
        self,
        probed: _Probed,
        recovery: Recovery,
        breaker: Breaker,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        patience: float,
    ) -> None:
        self.recovery = recovery
        self.breaker = breaker
        self.patience = patience
        self._probed = probed
        self._clock = clock
        self._monotonic = monotonic
        self._closed_at = 0.0
        self._why = ""
        self._suspicion = ""
        self._reported = False
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Find out whether the store works, and bring it up to date if it does."""
        began = self._monotonic()
        if await self._try_to_close():
            await self._catch_up()
        else:
            self.breaker.open(began)  # not before: each opening counts as an outage
            self._report(self._why)

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

    async def _try_to_close(self) -> bool:
        """Probe the store; if it works, write what it has lost, and use it again.

        Tells whether it works.
        """
        try:
            async with asyncio.timeout(self.patience):
                await self._probed.ping()
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
            return True
        return False

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
                await self._probed.ping()
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
