"""How much of a caller one worker bears with: how slow, how large, how many at once."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from recsvc.heads import Familiar

__all__ = ["Connection", "Guard", "Limits", "Room"]

_log = logging.getLogger(__name__)

_BEAT_SECONDS = 0.01
_SWEEP_SECONDS = 0.5
_LATE_SECONDS = 0.005  # about a third of a turn of the event loop
_STANDING_SECONDS = 0.1
_CALM_SECONDS = 0.5
_TURN_SECONDS = 0.015  # what a turn may take; a 503 takes one
_TURNING_COSTS = 0.15  # of what a request costs that is let in
_LEAST_ROOM = 16
_LINGER_SECONDS = 2.0
_LIGHT = 128  # bytes of a body that weigh as much as a request: those of three in a batch


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may ask of one worker."""

    requests_max: int = 512
    """Requests in progress; beyond, and beyond what `Room` finds good, 503 at once."""
    body_max: int = 262_144
    """Bytes of a body."""
    head_max: int = 65_536
    """Bytes of a request line and its headers, about: up to twice as many if in pieces."""
    headers_max: int = 256
    """Headers of one request."""
    receive_timeout: float = 8.0
    """Seconds within which a request arrives whole, and a response is taken."""
    keep_alive: float = 75.0
    """Seconds that a connection may be idle after a response."""


class Connection(Protocol):
    """What a guard does to connections whose time is up."""

    def too_slow(self) -> None:
        """A request has not arrived whole in time, or is not even begun."""

    def drop(self) -> None:
        """The response is not being taken, or what was refused still comes in."""


class Guard:
    """Watches the connections of one worker, and how much is in progress.

    `refused` hears the status of the requests that are turned away before the application
    sees them, and how many there were; of a 503 not before the next beat.
    """

    def __init__(self, limits: Limits, refused: Callable[[int, int], None]) -> None:
        self.limits = limits
        self.refused = refused
        self.room = Room(limits.requests_max)
        self.in_progress = 0
        """What the requests in progress weigh."""
        self.most = 0
        """What they weighed at most since the last beat."""
        self.begun = self.turned_away = 0
        """What was let in weighed, and requests answered 503, since the last beat."""
        self.familiar = Familiar()
        """The headers that come again and again."""
        self.receiving = _Waiting(limits.receive_timeout)
        """Connections with half a request."""
        self.stalled = _Waiting(limits.receive_timeout)
        """Connections that do not take their response."""
        self.idle = _Waiting(limits.keep_alive)
        """Connections between two requests."""
        self.lingering = _Waiting(_LINGER_SECONDS)
        """Connections that are closed as soon as the caller has read why."""

    def full(self) -> bool:
        """Tell whether one more request would be too many."""
        return self.in_progress >= self.room.limit

    def let_in(self, body: int) -> int:
        """Note that a request is in progress; return what it weighs by the length of its body."""
        weight = 1
        if body > _LIGHT:
            # Half of the room is the most, or there would be none for others beside it.
            weight += min(body // _LIGHT, self.limits.requests_max // 2)
        self.begun += weight
        self.in_progress += weight
        self.most = max(self.most, self.in_progress)
        return weight

    def let_out(self, weight: int) -> None:
        """Note that it is not any more."""
        self.in_progress -= weight

    def forget(self, connection: Connection) -> None:
        """Stop watching a connection that has gone."""
        for waiting in (self.receiving, self.idle, self.stalled, self.lingering):
            waiting.stop(connection)

    async def run(self) -> None:
        """Feel the pulse of the event loop and close what is overdue; cancel to stop."""
        swept = due = time.monotonic()
        while True:
            due += _BEAT_SECONDS
            await asyncio.sleep(due - time.monotonic())
            now = time.monotonic()
            # In a turn, all that is let in may be answered too: it is how much at once that counts.
            self.room.feel(now, now - due, self.most, self.begun, self.turned_away)
            due, self.most = now, self.in_progress
            if self.turned_away:
                self.refused(503, self.turned_away)
            self.begun = self.turned_away = 0
            if now - swept > _SWEEP_SECONDS:
                swept = now
                self._sweep(now)

    def _sweep(self, now: float) -> None:
        overdue = [one.too_slow for w in (self.receiving, self.idle) for one in w.expired(now)]
        overdue += [one.drop for w in (self.stalled, self.lingering) for one in w.expired(now)]
        for give_up in overdue:
            try:
                give_up()
            except Exception:  # one connection's fault must not keep the others open for ever
                _log.exception("a bug")


class Room:
    """How many requests may be in progress at a time.

    All that `most` allows, while they do not queue. A burst is let in whole and drains. But
    when the event loop is late and stays so, a queue is standing in front of it in which
    everybody only waits (CoDel, RFC 8289, with the lateness of a timer for the sojourn
    time). From then on as many are let in as are done in one turn of the loop that is still
    short: more would wait longer, and with fewer the turns would go by in turning others
    away. That the loop is in time again is then what was wanted, and no reason to let in
    more; that nobody was turned away for a while is.
    """

    def __init__(self, most: int) -> None:
        self.limit = most
        self._most, self._exact = most, float(most)
        self._rate = 0.0  # requests done a second, smoothed; one turned away is a part of one
        self._late = 0.0  # seconds, smoothed
        self._at = 0.0
        self._since: float | None = None  # when it began to be late
        self._crowded = False
        self._turned_at = 0.0  # when somebody was turned away

    def feel(self, now: float, late: float, in_progress: int, begun: int, turned: int) -> None:
        """Note that a timer fired `late` (seconds), with so many requests in progress.

        So many were `begun`, and so many `turned` away, since it was told the last time.
        """
        elapsed, self._at = max(now - self._at, 0.001), now
        self._rate += ((begun + turned * _TURNING_COSTS) / elapsed - self._rate) / 10
        self._late += (late - self._late) / 5
        if turned:
            self._turned_at = now
        if self._late < _LATE_SECONDS or in_progress < self._exact / 2:
            self._since = None
            self._crowded = self._crowded and now - self._turned_at < _CALM_SECONDS
        elif self._since is None:
            self._since = now
        elif now - self._since > _STANDING_SECONDS:
            self._crowded = True
        room = self._rate * _TURN_SECONDS if self._crowded else self._exact * 1.05
        self._exact = min(max(room, _LEAST_ROOM), self._most)
        self.limit = round(self._exact)


class _Waiting:
    """Connections that wait for their caller, in the order in which they began to."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[Connection, float] = {}

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._since

    def start(self, connection: Connection) -> None:
        """Note that a connection waits; that it began to is not noted twice."""
        if connection not in self._since:
            self._since[connection] = time.monotonic()

    def stop(self, connection: Connection) -> None:
        """Note that it waits no longer."""
        self._since.pop(connection, None)

    def expired(self, now: float) -> Iterator[Connection]:
        """Take out those whose time is up."""
        while self._since:
            connection, since = next(iter(self._since.items()))
            if now - since < self._seconds:
                return
            del self._since[connection]
            yield connection
