"""Callers that send a byte at a time: sockets that cost them nothing and us, we hope, little."""

import select
import socket
import time
from urllib.parse import urlsplit

from tests.wire import request

__all__ = ["drip"]

_BODY = b'{"track": 3, "time": 0.5}'
_HEADERS = b"POST /next/1 HTTP/1.1\r\nHost: test\r\n" + b"X-Slow: yes\r\n" * 100
_BODIES = request("/next/1", b" " * 500 + _BODY)


def drip(url: str, sockets: int, seconds: float) -> list[float]:
    """Open sockets, half with slow headers and half with slow bodies; a byte a second each.

    Returns for each how many seconds after its opening it was closed, as far as it was
    within `seconds`.
    """
    parts = urlsplit(url)
    open_: dict[int, tuple[socket.socket, float]] = {}
    poll, lives = select.epoll(), []
    for number in range(sockets):
        connection = socket.create_connection((parts.hostname, parts.port), 5)
        connection.setblocking(False)
        start = _HEADERS[:20] if number % 2 else _BODIES[: _BODIES.index(b"\r\n\r\n") + 10]
        connection.send(start)
        open_[connection.fileno()] = connection, time.monotonic()
        poll.register(connection.fileno(), select.EPOLLIN)
    ends, beat = time.monotonic() + seconds, time.monotonic() + 1
    while open_ and (now := time.monotonic()) < ends:
        for number, _ in poll.poll(0.1):
            connection, since = open_[number]
            if not _takes(connection):
                lives.append(now - since)
                poll.unregister(number)
                open_.pop(number)[0].close()
        if now >= beat:
            beat = now + 1
            for connection, _ in open_.values():
                _send(connection, b"x")
    for connection, _ in open_.values():
        connection.close()
    poll.close()
    return lives


def _takes(connection: socket.socket) -> bool:
    """Read what is there; tell whether the other side is still open."""
    try:
        return bool(connection.recv(4096))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.send(data)
    except OSError:
        return  # it is closed; reading will tell
