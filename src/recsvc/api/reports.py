"""Reads what players report.

What well-behaved players send is read by a few plain checks; whatever they do not pass goes
to pydantic, which knows what is wrong with it, or that nothing is.
"""

import re
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from recsvc.api import schemas
from recsvc.api.body import refuse_repeats
from recsvc.api.problems import ProblemError, of_validation
from recsvc.ids import fresh_id
from recsvc.session import Report
from recsvc.table import MAX_ID

__all__ = ["LONGEST_KEY", "check_key", "read_item", "read_report", "request_id"]

LONGEST_KEY = 255
"""Characters that an Idempotency-Key may have."""

_REPORT = TypeAdapter(schemas.Report)
_ITEM = TypeAdapter(schemas.BatchItem)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def read_report(user: int, body: bytes, given_id: str, key: str | None) -> Report:
    """Read a report from the body of a request; raises `ProblemError` 400 or 422."""
    check_key(key)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    # With four quotes an object has two names and nothing else, so none of them twice.
    if body.count(b'"') != 4 or not _is_plain(found, 2):
        return _read_strictly(user, body, given_id, key)
    return Report(user, found["track"], float(found["time"]), request_id(given_id), key)


def check_key(key: str | None) -> None:
    """Raise `ProblemError` 422 for an Idempotency-Key that is none."""
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise ProblemError(422, f"an Idempotency-Key has 1 to {LONGEST_KEY} characters")


def read_item(item: Any, name: str) -> Report:
    """Read an item of a batch; raises `ProblemError` 422."""
    if isinstance(item, ProblemError):
        raise item
    if _is_plain(item, 3) and _is_id(item.get("user")):
        return Report(item["user"], item["track"], float(item["time"]), name)
    try:
        read = _ITEM.validate_python(item)
    except ValidationError as error:
        raise of_validation(error) from error
    return Report(read.user, read.track, read.time, name)


def request_id(given: str) -> str:
    """Keep the caller's X-Request-ID where it is harmless to log; else make one."""
    return given if given and _REQUEST_ID.fullmatch(given) else fresh_id()


def _read_strictly(user: int, body: bytes, given_id: str, key: str | None) -> Report:
    try:
        read = _REPORT.validate_json(body)
    except ValidationError as error:
        raise of_validation(error) from error
    refuse_repeats(body)
    return Report(user, read.track, read.time, request_id(given_id), key)


def _is_plain(found: Any, names: int) -> bool:
    """Tell whether this is an object of so many names with a valid track and time."""
    if type(found) is not dict or len(found) != names or not _is_id(found.get("track")):
        return False
    time = found.get("time")
    return (type(time) is float or type(time) is int) and 0 <= time <= 1


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_ID
