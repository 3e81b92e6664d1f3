"""An open-loop load of short requests: it keeps its pace whatever the service does.

Latency counts from when a request was due, so a service that stalls cannot hide it. One
thread over epoll, for the load must be cheaper than what it measures.
"""

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Outcome", "offer"]


@dataclass(slots=True)
class Outcome:
    """What became of the requests; latencies in seconds, by status."""

    seconds: float
    offered: int = 0
    unsent: int = 0
    """Requests that were due and never found a connection."""
    lost: int = 0
    """Requests whose connection ended before the answer."""
    latencies: dict[int, list[float]] = field(default_factory=dict)
    without_retry_after: int = 0

    def rate(self, status: int) -> float:
        """Return how many answers of a status came each second."""
        return len(self.latencies.get(status, [])) / self.seconds

    def percentile(self, status: int, share: float) -> float:
        """Return a percentile of the latency of a status, in milliseconds."""
        found = sorted(self.latencies.get(status, [0.0]))
        return 1000 * found[min(int(share * len(found)), len(found) - 1)]


class _Load:
    def __init__(self, url: str, requests: Iterator[bytes], connections: int) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.requests = requests
        self.epoll = select.epoll()
        self.open: dict[int, socket.socket] = {}
        self.due: dict[int, float] = {}
        self.begun: dict[int, bytes] = {}
        self.free: list[int] = []
        for _ in range(connections):
            self.connect()

    def connect(self) -> None:
        connection = socket.create_connection(self.address, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        number = connection.fileno()
        self.epoll.register(number, select.EPOLLIN)
        self.open[number] = connection
        self.free.append(number)

    def drop(self, number: int) -> None:
        self.epoll.unregister(number)
        self.open.pop(number).close()

    def receive(self, number: int, outcome: Outcome) -> None:
        try:
            more = self.open[number].recv(8192)
        except ConnectionError:
            more = b""
        data = self.begun.pop(number, b"") + more
        if more and not _whole(data):
            self.begun[number] = data
            return
        due = self.due.pop(number, None)
        if not more or due is None:
            outcome.lost += due is not None
            self.drop(number)
            self.connect()
            return
        status = int(data[9:12])
        outcome.latencies.setdefault(status, []).append(time.perf_counter() - due)
        outcome.without_retry_after += status == 503 and b"\r\nretry-after:" not in data
        self.free.append(number)

    def run(self, rate: float, seconds: float) -> Outcome:
        outcome, step = Outcome(seconds), 1 / rate
        started = time.perf_counter()
        ends, due = started + seconds, started
        while (now := time.perf_counter()) < ends + 1.0 and (now < ends or self.due):
            # Nothing after the end, also where the pace could not be kept: a rate that is out of
            # reach measures what can be done, and what is done later would be counted too.
            while due <= now < ends and self.free:
                number = self.free.pop()
                self.due[number] = due
                self.open[number].send(next(self.requests))
                outcome.offered += 1
                due += step
            wait = max(due - time.perf_counter(), 0) if self.free and now < ends else 0.01
            for number, _ in self.epoll.poll(min(wait, 0.01), 1024):
                self.receive(number, outcome)
        outcome.unsent = max(int((ends - due) * rate), 0)
        outcome.lost += len(self.due)
        return outcome


def _whole(data: bytes) -> bool:
    """Tell whether a response has arrived to its end."""
    head = data.find(b"\r\n\r\n")
    at = data.find(b"content-length: ", 0, head) + 16
    return head >= 0 and len(data) - head - 4 >= int(data[at : data.find(b"\r", at)])


def offer(
    url: str, requests: Iterator[bytes], *, rate: float, seconds: float, connections: int = 400
) -> Outcome:
    """Send `rate` requests a second, the next of those given, for so many seconds."""
    load = _Load(url, requests, connections)
    try:
        return load.run(rate, seconds)
    finally:
        for number in list(load.open):
            load.drop(number)
        load.epoll.close()
