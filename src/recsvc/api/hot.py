"""The calls that are made for every track heard, without a framework in between.

`POST /next/{user}` and `POST /last/{user}` with a well-formed id, and `POST /next`, are
answered here, beside FastAPI, whose routing, dependencies and middleware cost more than the
answer. `recsvc serve` asks here first (see `exchange`).
The routes of the same paths in `listeners` describe these calls in the OpenAPI document
and get what is left: an id that is none, another method, and all that comes by a server
that only speaks ASGI. What is answered, and how, is the same function for both.
"""

import logging
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI

from recsvc.api.auth import Role
from recsvc.api.body import too_large
from recsvc.api.context import Context
from recsvc.api.listeners import answer_last, answer_many, answer_next
from recsvc.api.problems import of_error, render
from recsvc.exchange import Headers, Received, Response
from recsvc.table import MAX_ID

__all__ = ["App"]

_log = logging.getLogger(__name__)

_JSON: Headers = ((b"content-type", b"application/json"),)
_PROBLEM = (b"content-type", b"application/problem+json")

Answer = Callable[[Context, int, bytes, str, str | None], Awaitable[bytes]]


class App(FastAPI):
    """A FastAPI application with the hot calls beside it."""

    context: Context
    """What a call needs; there while the application runs."""

    async def answer(
        self, method: str, path: str, headers: Received, body: bytes
    ) -> Response | None:
        """Answer a hot call; None for any other."""
        if method != "POST":
            return None
        if path == "/next":
            return await _respond(self.context, path, _answer_many, 0, headers, body)
        hot = _HOT.get(path[:6])
        if hot is None or not _is_id(path[6:]):
            return None
        route, answer = hot
        return await _respond(self.context, route, answer, int(path[6:]), headers, body)


async def _answer_many(ctx: Context, _: int, body: bytes, given_id: str, __: str | None) -> bytes:
    return await answer_many(ctx, body, given_id)


_HOT: dict[str, tuple[str, Answer]] = {
    "/next/": ("/next/{user}", answer_next),
    "/last/": ("/last/{user}", answer_last),
}


async def _respond(
    ctx: Context, route: str, answer: Answer, user: int, received: Received, body: bytes
) -> Response:
    started = time.perf_counter()
    try:
        if ctx.keyring.closed:
            ctx.keyring.check(received, Role.PLAY)
        if len(body) > ctx.settings.body_max:
            raise too_large(ctx.settings.body_max)
        key, request_id = _read_headers(received)
        content = await answer(ctx, user, body, request_id, key)
        status, headers = 200, _JSON
    except Exception as error:  # the edge: whatever it is, the caller gets a problem
        problem = of_error(error)
        content, status = render(problem.fault), problem.fault.status
        headers = (*problem.raw_headers(), _PROBLEM)
        if status == 500:
            _log.exception("a bug")
    ctx.metrics.responded(route, status, started)
    return status, headers, content


def _read_headers(headers: Received) -> tuple[str | None, str]:
    """Return what a hot call looks at: the Idempotency-Key, the X-Request-ID."""
    key, request_id = None, ""
    for name, value in headers:
        if name == b"idempotency-key":
            key = value.decode("latin-1")
        elif name == b"x-request-id":
            request_id = value.decode("latin-1")
    return key, request_id


def _is_id(text: str) -> bool:
    """Tell whether this is an id as a number is written: no sign, no zero in front."""
    return (
        text.isascii()
        and text.isdigit()
        and (text[0] != "0" or len(text) == 1)
        and (len(text) < 19 or (len(text) == 19 and int(text) <= MAX_ID))
    )
