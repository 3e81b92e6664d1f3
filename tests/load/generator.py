"""A lean load generator: raw sockets and one `select`, no event loop, no HTTP library.

Open loop: requests start at fixed times whatever the service does, and latency counts from
when a request should have started, so that a service that stalls is charged for all the
requests that it kept from being sent (no coordinated omission). Closed loop: each connection
sends its next request when it has its answer.
"""

import ctypes
import gc
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Load", "Outcome", "closed_loop", "open_loop"]

_PATIENCE = 2.0  # seconds to wait for the last answers
_SET_TIMER_SLACK = 29  # of prctl(2)


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """What to send where. `requests` are sent in order, over and over."""

    address: tuple[str, int]
    requests: Sequence[bytes]
    connections: int


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of a load.

    `latencies` are seconds, of an open loop from the intended start. A request that was not
    answered in the end is one of `failed` and counts with the time it had waited by then.
    `late` are the seconds by which the generator itself began too late, of an open loop with
    a connection free: its own share in the latencies.
    """

    latencies: npt.NDArray[np.float64]
    seconds: float
    failed: int
    late: npt.NDArray[np.float64]

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (len(self.latencies) - self.failed) / self.seconds

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies, in seconds."""
        return float(np.percentile(self.latencies, percent))


def open_loop(load: Load, *, rate: float, seconds: float) -> Outcome:
    """Start `rate` requests a second, evenly, for so many seconds."""
    with _connections(load) as sockets, _undisturbed():
        return _Run(load, sockets).at_times(round(rate * seconds), 1.0 / rate)


def closed_loop(load: Load, *, seconds: float | None = None, count: int | None = None) -> Outcome:
    """Keep all connections busy, for some seconds or for a number of requests."""
    with _connections(load) as sockets, _undisturbed():
        return _Run(load, sockets).back_to_back(seconds, count)


class _Run:
    """One run over open connections."""

    def __init__(self, load: Load, sockets: list[socket.socket]) -> None:
        self.requests = load.requests
        self.idle = sockets
        self.busy: dict[int, tuple[socket.socket, float]] = {}  # by descriptor, with the start
        self.parts: dict[int, bytes] = {}
        self.latencies: list[float] = []
        self.failed = 0
        self.sent = 0

    def at_times(self, count: int, interval: float) -> Outcome:
        """Run an open loop."""
        late: list[float] = []
        clock = time.perf_counter
        start = clock()
        end = start + count * interval + _PATIENCE
        while (self.sent < count or self.busy) and (now := clock()) < end:
            due = start + self.sent * interval
            waited = not self.idle
            while self.sent < count and due <= now and self.idle:
                self._send(due)
                if not waited:
                    late.append(now - due)
                due = start + self.sent * interval
            until = due if self.sent < count and self.idle else end
            self._receive(max(until - clock(), 0.0))
        # What is left was never sent, or never answered.
        self._give_up([start + number * interval for number in range(self.sent, count)])
        return self._outcome(start, late)

    def back_to_back(self, seconds: float | None, count: int | None) -> Outcome:
        """Run a closed loop."""
        clock = time.perf_counter
        start = clock()
        end = start + (float("inf") if seconds is None else seconds)
        left = float("inf") if count is None else count
        while (now := clock()) < end and self.sent < left:
            while self.idle and self.sent < left:
                self._send(now)
                now = clock()
            self._receive(_PATIENCE)
        last = clock() + _PATIENCE
        while self.busy and clock() < last:
            self._receive(_PATIENCE)
        self._give_up([])
        return self._outcome(start, [])

    def _send(self, start: float) -> None:
        connection = self.idle.pop()
        connection.send(self.requests[self.sent % len(self.requests)])
        self.busy[connection.fileno()] = (connection, start)
        self.sent += 1

    def _receive(self, timeout: float) -> None:
        for descriptor in select.select(self.busy, (), (), timeout)[0]:
            connection, start = self.busy[descriptor]
            data = self.parts.pop(descriptor, b"") + connection.recv(65_536)
            if not data:
                raise ConnectionError("the service closed a connection")
            if not _whole(data):
                self.parts[descriptor] = data
                continue
            self.latencies.append(time.perf_counter() - start)
            self.failed += data[9:12] != b"200"
            del self.busy[descriptor]
            self.idle.append(connection)

    def _give_up(self, never_sent: list[float]) -> None:
        now = time.perf_counter()
        starts = [start for _, start in self.busy.values()] + never_sent
        self.latencies += [now - start for start in starts]
        self.failed += len(starts)

    def _outcome(self, start: float, late: list[float]) -> Outcome:
        seconds = time.perf_counter() - start
        return Outcome(np.array(self.latencies), seconds, self.failed, np.array(late))


def _whole(data: bytes) -> bool:
    """Tell whether an answer has come to its end; it must say its length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = data[:end].lower()
    at = head.index(b"content-length:") + 15
    stop = head.find(b"\r\n", at)
    return len(data) - end - 4 >= int(head[at : stop if stop >= 0 else end])


@contextmanager
def _connections(load: Load) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = []
        for _ in range(load.connections):
            connection = stack.enter_context(socket.create_connection(load.address, timeout=5.0))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sockets.append(connection)
        yield sockets


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep our own pauses out: no garbage collection, timers exact to the microsecond."""
    prctl: Any = getattr(ctypes.CDLL(None), "prctl", lambda *_: 0)
    gc.collect()
    gc.disable()
    prctl(_SET_TIMER_SLACK, 1_000, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_TIMER_SLACK, 0, 0, 0, 0)  # zero is the default
        gc.enable()
