"""The two calls that are made for every track heard, without a framework in between.

`POST /next/{user}` and `POST /last/{user}` with a well-formed id are answered here, in
front of FastAPI, whose routing, dependencies and middleware cost more than the answer.
The routes of the same paths in `listeners` describe these calls in the OpenAPI document
and get what is left: an id that is none, another method. What is answered, and how, is the
same function for both.
"""

import logging
import time
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from recsvc.api.auth import Role
from recsvc.api.body import too_large
from recsvc.api.context import Context
from recsvc.api.listeners import answer_last, answer_next
from recsvc.api.problems import of_error, render
from recsvc.table import MAX_ID

__all__ = ["App"]

_log = logging.getLogger(__name__)

_JSON = b"application/json"
_PROBLEM = b"application/problem+json"
_ROUTES = {"/next/": "/next/{user}", "/last/": "/last/{user}"}
_ANSWERS = {"/next/{user}": answer_next, "/last/{user}": answer_last}


class App(FastAPI):
    """A FastAPI application with the hot calls in front."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a hot call, or pass the request on."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path: str = scope["path"]
            route, user = _ROUTES.get(path[:6]), path[6:]
            if route is not None and _is_id(user):
                await _respond(self.state.context, route, int(user), scope, receive, send)
                return
        await super().__call__(scope, receive, send)


@dataclass(slots=True)
class _Headers:
    """The headers that a hot call looks at."""

    length: int = 0
    key: str | None = None
    request_id: str = ""


async def _respond(
    ctx: Context, route: str, user: int, scope: Scope, receive: Receive, send: Send
) -> None:
    started = time.perf_counter()
    headers: list[tuple[bytes, bytes]] = []
    try:
        if ctx.keyring.closed:
            ctx.keyring.check(scope["headers"], Role.PLAY)
        found = _read_headers(scope)
        body = await _read_body(receive, found.length, ctx.settings.body_max)
        if body is None:
            return
        content = await _ANSWERS[route](ctx, user, body, found.request_id, found.key)
        status, kind = 200, _JSON
    except Exception as error:  # the edge: whatever it is, the caller gets a problem
        problem = of_error(error)
        content, status, kind = render(problem.fault), problem.fault.status, _PROBLEM
        headers = problem.raw_headers()
        if status == 500:
            _log.exception("a bug")
    headers += [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
    ctx.metrics.responded(route, status, started)


def _read_headers(scope: Scope) -> _Headers:
    found = _Headers()
    for name, value in scope["headers"]:
        if name == b"content-length":
            found.length = int(value)  # the server has checked that it is a number
        elif name == b"idempotency-key":
            found.key = value.decode("latin-1")
        elif name == b"x-request-id":
            found.request_id = value.decode("latin-1")
    return found


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
        body += part
        if len(body) > most:
            raise too_large(most)
        if not message.get("more_body"):
            return body


def _is_id(text: str) -> bool:
    return (
        text.isascii()
        and text.isdigit()
        and len(text) <= 19
        and (text[0] != "0" or text == "0")
        and int(text) <= MAX_ID
    )
