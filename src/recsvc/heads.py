"""The heads of requests as bytes, where a parser is too much or does not help."""

from collections.abc import Iterable
from functools import lru_cache

__all__ = ["is_simple", "without_upgrade"]

_HOP = {b"connection", b"upgrade", b"http2-settings"}
_LONGEST = 1024  # bytes of headers; what is remembered of requests is to be bounded


def is_simple(data: bytes) -> bool:
    """Tell whether this is one whole POST with nothing special about it.

    Such a request can be turned away without being parsed: when most must be, what that costs
    is what the others lack.
    """
    line = data.find(b"\r\n")
    end = data.find(b"\r\n\r\n", line)
    return (
        0 < end < line + _LONGEST
        and data.startswith(b"POST /")
        and data.endswith(b" HTTP/1.1", 0, line)
        and _body_length(data[line:end]) == len(data) - end - 4
    )


@lru_cache(maxsize=256)
def _body_length(headers: bytes) -> int:
    """Return how long the body is behind such headers, -1 if there is more to them.

    A caller sends much the same ones with each request.
    """
    headers = headers.lower() + b"\r\n"
    found = headers.find(b"\r\ncontent-length: ") + 18
    length = headers[found : headers.find(b"\r", found)]
    simple = (
        found > 17
        and length.isdigit()
        and len(length) < 8
        and headers.count(b"\r\ncontent-length") == 1
        and b"\r\ntransfer-encoding" not in headers
        and (b"\r\nconnection" not in headers or b"\r\nconnection: keep-alive\r\n" in headers)
        and b"\r\nexpect" not in headers
    )
    return int(length) if simple else -1


def without_upgrade(
    method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Write the head of a request again, but for its wish for another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    lines += [b"%b: %b" % pair for pair in headers if pair[0] not in _HOP]
    return b"\r\n".join([*lines, b"", b""])
