"""Reads request bodies: bounded, and as JSON whatever the content type says.

FastAPI's own way insists on a content type and, on input it refuses, repeats it; the
clients that this service must answer send plain JSON with none.
"""

import json
from collections import Counter
from typing import Any

import orjson
from fastapi import Request

from recsvc.api.problems import FieldFault, ProblemError, clean, pointer

__all__ = ["read_body", "read_items", "refuse_repeats", "too_large"]

_MOST_DIGITS = 20  # no id has more


async def read_body(request: Request, most: int) -> bytes:
    """Read a body of at most `most` bytes; longer ones are refused as early as can be."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced[:20]) > most:
        raise too_large(most)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
    return b"".join(parts)


def read_items(body: bytes) -> list[Any]:
    """Read a list whose items are to be judged one by one; raises `ProblemError` 400 or 422.

    What is not quite JSON inside one item (NaN, half a surrogate pair, a number of a
    thousand digits) must not spoil the others, so a lenient parser has the last word. An
    item that has a name twice is returned as a `ProblemError`.
    """
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError:
        items = None
    if items is None or _may_repeat(items, body):
        try:
            items = _load_leniently(body)
        except (ValueError, RecursionError) as error:
            raise ProblemError(400, "the body is not valid JSON") from error
    if not isinstance(items, list):
        raise ProblemError(422, "the body must be a list")
    return items


def refuse_repeats(body: bytes) -> None:
    """Raise `ProblemError` 422 if an object has a name twice.

    Which of the two counts is anybody's guess (RFC 8259, section 4), so neither does.
    `body` is a valid report: with four quotes it has its two names, and nothing else.
    """
    if body.count(b'"') != 4:
        read = _load_leniently(body)
        if isinstance(read, ProblemError):
            raise read


def _may_repeat(items: object, body: bytes) -> bool:
    """Tell whether there are more quotes than the names of the items account for."""
    if not isinstance(items, list):
        return False
    names = sum(len(item) for item in items if isinstance(item, dict))
    return body.count(b'"') != 2 * names


def _load_leniently(body: bytes) -> Any:
    # Decoded here: `json` takes UTF-16 and UTF-32 as well, which JSON between systems is not.
    text = body.decode("utf-8", "surrogatepass")
    return json.loads(text, parse_int=_parse_int, object_pairs_hook=_unless_repeated)


def _unless_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any] | ProblemError:
    """Make an object, or, in its place, the problem that it has a name twice."""
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    times = Counter(name for name, _ in pairs)
    twice = next(name for name, count in times.items() if count > 1)
    fault = FieldFault(pointer=pointer(twice), detail="it is there twice")
    return ProblemError(422, f"{clean(twice)}: it is there twice", [fault])


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MOST_DIGITS else digits


def too_large(most: int) -> ProblemError:
    """Make the error of a body that is too long."""
    return ProblemError(413, f"a body may have at most {most} bytes", Connection="close")
