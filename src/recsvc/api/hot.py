"""The calls that are made for every track heard, without a framework in between.

`POST /next/{user}` and `POST /last/{user}` with a well-formed id, and `POST /next`, are
answered here, in front of FastAPI, whose routing, dependencies and middleware cost more
than the answer.
The routes of the same paths in `listeners` describe these calls in the OpenAPI document
and get what is left: an id that is none, another method. What is answered, and how, is the
same function for both.
"""

import logging
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from recsvc.api.auth import Role
from recsvc.api.body import too_large
from recsvc.api.context import Context
from recsvc.api.listeners import answer_last, answer_many, answer_next
from recsvc.api.problems import of_error, render
from recsvc.table import MAX_ID

__all__ = ["App"]

_log = logging.getLogger(__name__)

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_HOT = {"/next/": ("/next/{user}", answer_next), "/last/": ("/last/{user}", answer_last)}

Headers = list[tuple[bytes, bytes]]


class App(FastAPI):
    """A FastAPI application with the hot calls in front."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a hot call, or pass the request on."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path: str = scope["path"]
            if path == "/next":
                await _respond(self.state.context, path, _answer_many, 0, scope, receive, send)
                return
            hot = _HOT.get(path[:6])
            if hot is not None and _is_id(path[6:]):
                route, answer = hot
                context: Context = self.state.context
                await _respond(context, route, answer, int(path[6:]), scope, receive, send)
                return
        await super().__call__(scope, receive, send)


async def _answer_many(ctx: Context, _: int, body: bytes, given_id: str, __: str | None) -> bytes:
    return await answer_many(ctx, body, given_id)


async def _respond(
    ctx: Context,
    route: str,
    answer: Callable[[Context, int, bytes, str, str | None], Awaitable[bytes]],
    user: int,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    started = time.perf_counter()
    headers: Headers
    try:
        if ctx.keyring.closed:
            ctx.keyring.check(scope["headers"], Role.PLAY)
        length, key, request_id = _read_headers(scope["headers"])
        body = await _read_body(receive, length, ctx.settings.body_max)
        if body is None:
            return
        content = await answer(ctx, user, body, request_id, key)
        status, headers = 200, [_JSON]
    except Exception as error:  # the edge: whatever it is, the caller gets a problem
        problem = of_error(error)
        content, status = render(problem.fault), problem.fault.status
        headers = [*problem.raw_headers(), _PROBLEM]
        if status == 500:
            _log.exception("a bug")
    headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
    ctx.metrics.responded(route, status, started)


def _read_headers(headers: Headers) -> tuple[int, str | None, str]:
    """Return what a hot call looks at: the body's length, the Idempotency-Key, the X-Request-ID."""
    length, key, request_id = 0, None, ""
    for name, value in headers:
        if name == b"content-length":
            length = int(value)  # the server has checked that it is a number
        elif name == b"idempotency-key":
            key = value.decode("latin-1")
        elif name == b"x-request-id":
            request_id = value.decode("latin-1")
    return length, key, request_id


async def _read_body(receive: Receive, announced: int, most: int) -> bytes | None:
    """Read a body, None when the caller goes before its end; raises `ProblemError` 413."""
    if announced > most:
        raise too_large(most)
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        body = body + part if body else part
        if len(body) > most:
            raise too_large(most)
        if not message.get("more_body"):
            return body


def _is_id(text: str) -> bool:
    """Tell whether this is an id as a number is written: no sign, no zero in front."""
    return (
        text.isascii()
        and text.isdigit()
        and (text[0] != "0" or len(text) == 1)
        and (len(text) < 19 or (len(text) == 19 and int(text) <= MAX_ID))
    )
