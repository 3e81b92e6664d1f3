"""Reads request bodies: bounded, and as JSON whatever the content type says.

FastAPI's own way insists on a content type and, on input it refuses, repeats it; the
clients that this service must answer send plain JSON with none.
"""

from typing import TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from recsvc.api.problems import ProblemError, of_validation

__all__ = ["read_body", "read_json"]

T = TypeVar("T")


async def read_body(request: Request, most: int) -> bytes:
    """Read a body of at most `most` bytes; longer ones are refused as early as can be."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced[:20]) > most:
        raise _too_large(most)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


async def read_json(request: Request, adapter: TypeAdapter[T], most: int) -> T:
    """Read a body and validate it; raises `ProblemError` 400, 413 or 422."""
    body = await read_body(request, most)
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise of_validation(error) from error


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, f"a body may have at most {most} bytes", Connection="close")
