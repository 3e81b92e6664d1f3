"""The heads of requests as bytes, where a parser is too much or does not help."""

from collections.abc import Iterable

__all__ = ["is_simple", "without_upgrade"]

_HOP = {b"connection", b"upgrade", b"http2-settings"}


def is_simple(data: bytes) -> bool:
    """Tell whether this is one whole POST with nothing special about it.

    Such a request can be turned away without being parsed, which costs a quarter as much:
    when most must be, that is what is left for the others.
    """
    end = data.find(b"\r\n\r\n")
    head = data[: end + 2].lower()
    found = head.find(b"\r\ncontent-length: ") + 18
    length = head[found : head.find(b"\r", found)]
    return (
        head.startswith(b"post /")
        and found > 17
        and length.isdigit()
        and len(length) < 8
        and int(length) == len(data) - end - 4
        and b"\r\ntransfer-encoding" not in head
        and (b"\r\nconnection" not in head or b"\r\nconnection: keep-alive\r\n" in head)
        and b"\r\nexpect" not in head
        and head.endswith(b" http/1.1\r\n", 0, head.find(b"\r\n") + 2)
    )


def without_upgrade(
    method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Write the head of a request again, but for its wish for another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    lines += [b"%b: %b" % pair for pair in headers if pair[0] not in _HOP]
    return b"\r\n".join([*lines, b"", b""])
