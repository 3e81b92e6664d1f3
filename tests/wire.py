"""HTTP by hand: requests that no client library would send, and what comes back."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Reply", "Wire", "request"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_problem(self) -> bool:
        """Tell whether this is a whole problem (RFC 9457) that names its own status."""
        return (
            self.headers.get("content-type") == "application/problem+json"
            and self.json["status"] == self.status
            and bool(self.json["detail"])
        )


class Wire:
    """A connection to a service."""

    def __init__(self, url: str, timeout: float = 15.0) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout)
        self._rest = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send as much as the other side takes: it may refuse before the end."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def reply(self) -> Reply | None:
        """Read one response; None when the connection ends before one."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                assert not self._rest, self._rest
                return None
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        length = int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            assert self._more(), "the body was cut off"
        body, self._rest = self._rest[:length], self._rest[length:]
        return Reply(int(first.split()[1]), headers, body)

    def replies(self) -> Iterator[Reply]:
        """Read responses until the connection ends."""
        while (reply := self.reply()) is not None:
            yield reply

    def closed_after(self) -> float:
        """Wait until the other side has closed; return the seconds that it took."""
        started = time.monotonic()
        while self._more():
            pass
        return time.monotonic() - started

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._rest += data
        return bool(data)


def request(
    path: str | bytes = "/next/1", body: bytes = b"", *headers: bytes, method: bytes = b"POST"
) -> bytes:
    """Write a request; its length is announced unless a header does so itself."""
    raw = path.encode() if isinstance(path, str) else path
    lines = [method + b" " + raw + b" HTTP/1.1", b"Host: test", *headers]
    if not any(h.lower().startswith((b"content-length", b"transfer-encoding")) for h in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])
