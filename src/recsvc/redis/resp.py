"""Commands as bytes, in Redis' own protocol (RESP2), and what its error replies become.

A command is an array of byte strings. Whoever sends the same words again and again writes
them once, with `words`, and puts the pieces together, with `framed`.
"""

from typing import Any

import hiredis

from recsvc.errors import RefusedError, StoreUnavailableError

__all__ = [
    "NoScriptError",
    "Word",
    "command",
    "error_reply",
    "framed",
    "refuses",
    "split",
    "word",
    "words",
]

Word = bytes | str | int | float


class NoScriptError(StoreUnavailableError):
    """The server does not know a script by its digest; nothing was run."""


def command(*parts: Word) -> bytes:
    """Write a command."""
    return framed(len(parts), words(*parts))


def framed(count: int, body: bytes) -> bytes:
    """Put the head of a command before its `count` words, which `words` wrote."""
    return b"*%d\r\n%s" % (count, body)


def words(*parts: Word) -> bytes:
    """Write some words of a command. Numbers become the shortest decimal that reads back equal."""
    return b"".join([word(part) for part in parts])


def word(part: Word) -> bytes:
    """Write one word of a command."""
    if not isinstance(part, bytes):
        part = (part if isinstance(part, str) else repr(part)).encode()
    return b"$%d\r\n%s\r\n" % (len(part), part)


def split(written: bytes) -> list[bytes]:
    """Return the words of a command, for a client that writes commands itself."""
    reader = hiredis.Reader()
    reader.feed(written)
    found: list[bytes] = reader.gets()
    return found


def error_reply(text: str) -> Exception:
    """Return what an error reply means.

    The server lacks a script; or it will never do this; or, as with all other codes (it is loading,
    full, a replica, busy), it cannot just now.
    """
    if text.startswith("NOSCRIPT"):
        kind: type[StoreUnavailableError] = NoScriptError
    else:
        kind = RefusedError if refuses(text) else StoreUnavailableError
    return kind(f"the server says: {_printable(text)}")


def refuses(text: str) -> bool:
    """Tell whether an error reply is the same whenever it is asked for.

    Not when it is about what somebody may do: that can be mended.
    """
    code = text.partition(" ")[0]
    # redis-py takes the code ERR away.
    final = code in ("ERR", "WRONGTYPE") or not code.isupper()
    return final and not any(right in text for right in ("ACL failure", "unknown command"))


def _printable(text: Any) -> str:
    """Cut what a server says to what is fit for a log."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:200])
