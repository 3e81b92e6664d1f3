"""Errors as `application/problem+json` (RFC 9457), for every way a call can fail."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from recsvc.api.json import JSONResponse
from recsvc.errors import (
    ArtifactError,
    NotPublishedError,
    RecsvcError,
    StoreUnavailableError,
)

__all__ = [
    "Fault",
    "FieldFault",
    "Problem",
    "ProblemError",
    "add_handlers",
    "clean",
    "describe",
    "of_error",
    "of_validation",
    "pointer",
    "render",
    "responses",
]

_log = logging.getLogger(__name__)


class FieldFault(BaseModel):
    """One thing wrong with the input: where (a JSON pointer), and what."""

    pointer: str
    detail: str


class Fault(BaseModel):
    """The body of every error."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Unprocessable Content",
                "status": 422,
                "detail": "time: Input should be less than or equal to 1",
                "errors": [
                    {"pointer": "/time", "detail": "Input should be less than or equal to 1"}
                ],
            }
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldFault] = []


# `Fault` is a component because POST /next may answer with it in place of an item.
_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Fault"}}}
_DESCRIBED = {
    400: "The body is not JSON.",
    401: "A key is needed, and there is none or an unknown one.",
    403: "The key is not for this, or no admin key is set.",
    404: "There is nothing of that name.",
    409: "There is no such table, or it was refused.",
    413: "The body is too large.",
    422: "A value is not what it must be.",
    503: "The session store does not answer, or too many requests are in progress.",
}


class ProblemError(Exception):
    """Raised inside the API to end a call with an error."""

    def __init__(
        self, status: int, detail: str, errors: list[FieldFault] | None = None, **headers: str
    ) -> None:
        super().__init__(detail)
        self.fault = Fault(
            title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or []
        )
        self.headers = {name.replace("_", "-").lower(): value for name, value in headers.items()}

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers as they go over the wire."""
        return [(name.encode(), value.encode()) for name, value in self.headers.items()]


def describe(fault: Fault) -> dict[str, Any]:
    """Return a fault as it is written: without a list of errors where there is none."""
    return {"type": fault.type, **fault.model_dump(exclude_defaults=True)}


def render(fault: Fault) -> bytes:
    """Return a fault as JSON."""
    return orjson.dumps(describe(fault))


class Problem(JSONResponse):
    """A response that is a `Fault`."""

    media_type = "application/problem+json"

    def __init__(self, fault: Fault, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(describe(fault), fault.status, headers)


def of_validation(error: ValidationError | RequestValidationError, skip: int = 0) -> ProblemError:
    """Describe what validation found, without repeating the input.

    `skip` leaves out the first parts of each place, where the framework put its own.
    """
    if isinstance(error, ValidationError):
        found = error.errors(include_input=False, include_url=False, include_context=False)
    else:
        found = error.errors()  # type: ignore[assignment]
    faults = [_field(entry["loc"][skip:], entry["type"], entry["msg"]) for entry in found[:20]]
    if any(entry["type"] == "json_invalid" for entry in found):
        return ProblemError(400, "the body is not valid JSON")
    detail = "; ".join(f"{f.pointer.lstrip('/') or 'body'}: {f.detail}" for f in faults[:3])
    return ProblemError(422, detail, faults)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe a route's errors for its OpenAPI entry."""
    return {status: {"description": _DESCRIBED[status], "content": _CONTENT} for status in statuses}


def add_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem."""
    app.add_exception_handler(RequestValidationError, _of_request)
    app.add_exception_handler(HTTPException, _of_http)
    for kind in (ProblemError, RecsvcError, Exception):
        app.add_exception_handler(kind, _of_error)


def _field(place: tuple[Any, ...], kind: str, message: str) -> FieldFault:
    text = "it is missing" if kind == "missing" else message
    return FieldFault(pointer=pointer(*place), detail=text)


def pointer(*parts: object) -> str:
    """Write a place as a JSON pointer (RFC 6901)."""
    escaped = (clean(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)


def clean(part: object) -> str:
    """Make a part of a place fit for JSON: names come from the caller."""
    return str(part).encode(errors="replace").decode()[:64]


def of_error(error: Exception) -> ProblemError:
    """Return the problem that stands for an error raised below the API."""
    match error:
        case ProblemError():
            return error
        case StoreUnavailableError():
            return ProblemError(503, "the session store does not answer", Retry_After="1")
        case NotPublishedError():
            return ProblemError(409, str(error))
        case ArtifactError():
            return ProblemError(409, f"the table was refused: {error}")
        case _:
            return ProblemError(500, "an error inside the service; its log has more")


async def _of_error(_: Request, error: Exception) -> Response:
    problem = of_error(error)
    if problem.fault.status == 500:
        _log.error("a bug", exc_info=error)
    return Problem(problem.fault, problem.headers)


async def _of_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (tells the type checker)
    return Problem(of_validation(error, skip=1).fault)


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (tells the type checker)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        headers["allow"] = ", ".join(sorted(_methods(request)))
    return Problem(ProblemError(error.status_code, error.detail).fault, headers)


def _methods(request: Request) -> set[str]:
    """Return what a path can be asked with, by all of its routes: the framework names one's."""
    routes = _plain(request.app.routes)
    found = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in found for method in route.methods or ()}
    return methods | {"HEAD"} if "GET" in methods else methods


def _plain(routes: Iterable[Any]) -> Iterator[Route]:
    """Yield the routes, and those of the routers among them, one by one."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        elif router := getattr(route, "original_router", None):
            yield from _plain(router.routes)
