"""The heads of requests as bytes, where a parser is too much or does not help."""

from collections.abc import Iterable
from functools import lru_cache

__all__ = ["Familiar", "Received", "is_simple", "without_upgrade"]

Received = list[tuple[bytes, bytes]]
"""Headers as they came, their names in small letters."""

_MOST = 256
_STRANGERS = 64  # requests in a row whose headers are new, after which that is no surprise
_UPGRADE = {b"upgrade", b"http2-settings"}
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
        and headers.count(b"\r\nconnection") < 2
        and b"\r\ntransfer-encoding" not in headers
        and (b"\r\nconnection" not in headers or b"\r\nconnection: keep-alive\r\n" in headers)
        and b"\r\nexpect" not in headers
    )
    return int(length) if simple else -1


class Familiar:
    """Headers that callers send again and again, and what the parser made of them.

    From one call of a listener's to the next, a request differs in its track and its time. So the
    parser need not read the same headers once more: with its callbacks, that is a tenth of what
    an answer costs.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Received, int]] = {}
        self._strangers = 0

    def read(self, data: bytes) -> tuple[bytes, Received, bytes] | None:
        """Return path, headers and body of one whole simple POST to a plain path.

        None if it is not that, or if its headers are new.
        """
        line = data.find(b"\r\n")
        end = data.find(b"\r\n\r\n", line)
        known = self._known.get(data[line:end])
        if known is None:
            return None
        headers, length = known
        path = data[5 : line - 9]
        if (
            length != len(data) - end - 4
            or not data.startswith(b"POST /")
            or not data.endswith(b" HTTP/1.1", 0, line)
            or not path.replace(b"/", b"").isalnum()
        ):
            return None
        self._strangers = 0
        return path, headers, data[end + 4 :]

    def learn(self, data: bytes, headers: Received, body: bytes) -> None:
        """Note the headers of a request, if it is a simple one and all of `data`.

        The parser has read such headers and such a body in it.
        """
        self._strangers += 1
        if self._strangers > _STRANGERS and self._strangers % _STRANGERS:
            return  # somebody gives each request another number
        end = data.find(b"\r\n\r\n")
        if is_simple(data) and data[end + 4 :] == body:
            if len(self._known) == _MOST:
                self._known.clear()
            self._known[data[data.find(b"\r\n") : end]] = headers, len(body)


def without_upgrade(
    method: bytes, url: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Write the head of a request again, but for its wish for another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    for name, value in headers:
        if name not in _UPGRADE:
            kept = _without_options(value) if name == b"connection" else value
            lines.append(b"%b: %b" % (name, kept))
    return b"\r\n".join([*lines, b"", b""])


def _without_options(value: bytes) -> bytes:
    options = [option.strip() for option in value.split(b",")]
    return b", ".join(option for option in options if option.lower() not in _UPGRADE)
