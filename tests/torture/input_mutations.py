"""Requests that were good until their bytes were tampered with, and what comes of them."""

import json
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.wire import Reply, Wire, request

__all__ = ["Tally", "hostile", "mutated", "send"]

REPORT = b'{"track": 3, "time": 0.5}'
ITEM = b'{"user": 7, "track": 3, "time": 0.5}'

SEEDS = [
    request("/next/7", REPORT),
    request("/next/7", REPORT, b"Content-Type: application/json", b"Accept: */*"),
    request("/next/7", REPORT, b"Idempotency-Key: k"),
    request("/next/7", b"19\r\n" + REPORT + b"\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    request("/last/7", REPORT),
    request("/explain/7", REPORT),
    request("/next", b"[" + ITEM + b", " + ITEM + b"]"),
    request("/track/3", method=b"GET"),
    request("/track/3/neighbours", method=b"GET"),
    request("/user/7", method=b"GET"),
    request("/user/7", method=b"DELETE"),
    request("/table", method=b"GET"),
    request("/table/reload"),
    request("/table/rollback", b"", b"Authorization: Bearer x"),
]

TOKENS = [
    *(b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"-0", b"-0.0"),
    *(b"1180591620717411303424", b"9223372036854775807", b"9223372036854775808", b"-1", b"1.5"),
    *(
        b"+1",
        b"1_0",
        b"01",
        b"0x1",
        b"1e3",
        b"true",
        b"false",
        b"null",
        b'""',
        b'"1"',
        b"[]",
        b"{}",
    ),
    *(
        b'"\\ud800"',
        b'"\\udfff\\ud800"',
        b'"\\u0000"',
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\x00",
    ),
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b"%00",
        b"%2e%2e",
        b"%ff",
        b"%0d%0a",
        b"/../",
    ),
    *(b'"track": 4,', b'"time": 0.1,', b'"tr\\u0061ck": 4,', b'{"track"', b"}{", b"][", b"," * 50),
    *(b"[" * 900, b'{"a":' * 900, b"9" * 400, b"0." + b"1" * 5000, b"\xd9\xa1", b"\xef\xbb\xbf"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"Content-Length: 99999999\r\n"),
    *(
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"GET ",
        b"HEAD ",
        b"OPTIONS ",
        b"X" * 3000,
        b"Idempotency-Key: \r\n",
    ),
]

# Each is sent as it stands: what a mutation would hardly come upon.
_DEEP = b"[" * 900 + b"]" * 900
HOSTILE = [
    *(request("/next/7", b'{"track": 3, "time": ' + t + b"}") for t in TOKENS),
    *(request("/next/7", b'{"track": ' + t + b', "time": 0.5}') for t in TOKENS),
    *(
        request(b"/next/" + t.strip().replace(b" ", b"%20"), REPORT)
        for t in TOKENS
        if b"\n" not in t
    ),
    *(request("/next/7", b'{"track": 3, "time": 0.5, "x": ' + t + b"}") for t in TOKENS),
    request("/next/7", b'{"track": 3, "track": 4, "time": 0.5}'),
    request("/next/7", b'{"track": 3, "time": 0.5, "tim\\u0065": 0.6}'),
    request("/next/7", _DEEP),
    request("/next/7", b'{"track": ' + _DEEP + b', "time": 0.5}'),
    request("/next", _DEEP),
    request("/next", b"[" + b'{"user": 7, "track": 3, "time": 0.5, "user": 8}' + b"]"),
    request("/next/7", b"\xff\xfe" + REPORT.decode().encode("utf-16-le")),
    request("/next/" + "7" * 60_000, REPORT),
    request("/" + "a/" * 30_000, REPORT),
    request("/track/" + "%39" * 15_000, method=b"GET"),
]


def hostile() -> list[bytes]:
    """Return the requests of the issue's list, each once."""
    return HOSTILE


def mutated(rng: Random) -> bytes:
    """Return a good request after one to four changes, in its body only or anywhere."""
    data = bytearray(rng.choice(SEEDS))
    if rng.random() < 0.5:
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        changed = _mutate(bytearray(body), rng)
        lines = [x for x in head.split(b"\r\n") if not x.startswith((b"Content-L", b"Transfer"))]
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(changed), b"", bytes(changed)])
    return bytes(_mutate(data, rng))


def _mutate(data: bytearray, rng: Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        rng.choice(_WAYS)(data, rng.randrange(len(data) + 1), rng)
    return data


def _flip(data: bytearray, at: int, rng: Random) -> None:
    if at < len(data):
        data[at] ^= 1 << rng.randrange(8)


def _replace(data: bytearray, at: int, rng: Random) -> None:
    data[at : at + 1] = bytes([rng.randrange(256)])


def _insert(data: bytearray, at: int, rng: Random) -> None:
    data[at:at] = rng.choice(TOKENS)


def _cut(data: bytearray, at: int, rng: Random) -> None:
    del data[at : at + rng.randint(1, 12)]


def _repeat(data: bytearray, at: int, rng: Random) -> None:
    data[at:at] = data[at : at + rng.randint(1, 40)]


def _overwrite_number(data: bytearray, at: int, rng: Random) -> None:
    digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    if digits:
        place = rng.choice(digits)
        data[place : place + 1] = rng.choice(TOKENS)


_WAYS: list[Callable[[bytearray, int, Random], None]] = [
    *(_flip, _replace, _insert, _insert, _cut, _repeat, _overwrite_number)
]


@dataclass(slots=True)
class Tally:
    """What became of the requests sent."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    served: set[str] = field(default_factory=set)
    """The ids of the answers: one that is given again, by its key, has no second event."""
    others: int = 0

    @property
    def events(self) -> int:
        """How many events the answers acknowledge."""
        return len(self.served) + self.others

    def add(self, data: bytes, replies: list[Reply]) -> None:
        """Count what one request came to; raises `AssertionError` for what must not be."""
        self.sent += 1
        self.unanswered += not replies
        for reply in replies:
            self.statuses[reply.status] += 1
            assert reply.status < 500, (data[:3000], reply)
            if reply.status >= 400:
                assert reply.is_problem() or data.startswith(b"HEAD"), (data[:3000], reply)
            elif reply.headers.get("content-type") == "application/json" and reply.body:
                self._acknowledge(json.loads(reply.body))

    def _acknowledge(self, found: Any) -> None:
        for item in found if isinstance(found, list) else [found]:
            if "request_id" in item:
                self.served.add(item["request_id"])
            elif item.keys() == {"user"} or "found" in item:
                self.others += 1


def send(url: str, data: bytes) -> list[Reply]:
    """Send bytes on a connection of their own, say that no more come, return all replies."""
    with Wire(url) as wire:
        wire.send(data)
        with suppress(OSError):  # it may have been refused before its end
            wire.socket.shutdown(socket.SHUT_WR)
        return [reply for reply in wire.replies() if reply.status != 100]
