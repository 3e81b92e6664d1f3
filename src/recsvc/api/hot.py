"""The calls that are made for every track heard, without a framework in between.

`POST /next/{user}` and `POST /last/{user}` with a well-formed id, and `POST /next`, are
answered here, beside FastAPI, whose routing, dependencies and middleware cost more than the
answer. `recsvc serve` asks here first (see `exchange`); a `POST /next/{user}` without a key is
taken, and answered together with others at hand.
The routes of the same paths in `listeners` describe these calls in the OpenAPI document
and get what is left: an id that is none, another method, and all that comes by a server
that only speaks ASGI. Reports are read, and answers found, by the same code for both.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import orjson
from fastapi import FastAPI

from recsvc.answer import Answer
from recsvc.api.auth import Role
from recsvc.api.body import too_large
from recsvc.api.context import Context
from recsvc.api.listeners import answer_last, answer_many, answer_next
from recsvc.api.problems import of_error, render
from recsvc.api.reports import read_report
from recsvc.exchange import Exchange, Headers, Response
from recsvc.heads import Received
from recsvc.table import MAX_ID

__all__ = ["App"]

_log = logging.getLogger(__name__)

_JSON: Headers = ((b"content-type", b"application/json"),)
_PROBLEM = (b"content-type", b"application/problem+json")

_NEXT = "/next/{user}"

_Hot = Callable[[Context, int, bytes, str, str | None], Awaitable[bytes]]


class App(FastAPI):
    """A FastAPI application with the hot calls beside it."""

    context: Context
    """What a call needs; there while the application runs."""

    def take(self, exchange: Exchange) -> bool:
        """Take a call of `POST /next/{user}` without a key; tell whether this is one."""
        path = exchange.path
        if exchange.method != "POST" or path[:6] != "/next/" or not _is_id(path[6:]):
            return False
        key, request_id = _read_headers(exchange.headers)
        if key is not None:
            return False
        ctx, caller = self.context, _Caller(self.context, exchange)
        try:
            _check(ctx, exchange.headers, exchange.body)
            report = read_report(int(path[6:]), exchange.body, request_id, None)
            ctx.together.ask(ctx.service.call(report), caller)
        except Exception as error:
            # Not now: the protocol has yet to note that the call is taken.
            asyncio.get_running_loop().call_soon(caller.failed, error)
        return True

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


async def _answer_many(ctx: Context, _: int, body: bytes, given_id: str, key: str | None) -> bytes:
    return await answer_many(ctx, body, given_id, key)


_HOT: dict[str, tuple[str, _Hot]] = {
    "/next/": (_NEXT, answer_next),
    "/last/": ("/last/{user}", answer_last),
}


class _Caller:
    """Whoever waits for the answer to a call that was taken."""

    __slots__ = ("_context", "_exchange", "_started", "_waits")

    def __init__(self, context: Context, exchange: Exchange) -> None:
        self._context = context
        self._exchange = exchange
        self._started = time.perf_counter()
        self._waits = True

    def answered(self, answer: Answer) -> None:
        """Send the answer."""
        self._send(200, _JSON, orjson.dumps(answer))

    def failed(self, error: BaseException) -> None:
        """Send a problem, unless there has been an answer."""
        if not self._waits:
            return
        if isinstance(error, Exception):
            self._send(*_problem(error))
        else:  # the end of the service
            self._waits = False
            self._exchange.abort()

    def _send(self, status: int, headers: Headers, content: bytes) -> None:
        self._waits = False
        self._exchange.respond(status, headers, content)
        self._context.metrics.responded(_NEXT, status, self._started)  # nobody waits for that


async def _respond(
    ctx: Context, route: str, answer: _Hot, user: int, received: Received, body: bytes
) -> Response:
    started = time.perf_counter()
    try:
        _check(ctx, received, body)
        key, request_id = _read_headers(received)
        response = 200, _JSON, await answer(ctx, user, body, request_id, key)
    except Exception as error:  # the edge: whatever it is, the caller gets a problem
        response = _problem(error)
    ctx.metrics.responded(route, response[0], started)
    return response


def _check(ctx: Context, headers: Received, body: bytes) -> None:
    """Raise if the caller may not make this call, or not of this length."""
    if ctx.keyring.closed:
        ctx.keyring.check(headers, Role.PLAY)
    if len(body) > ctx.settings.body_max:
        raise too_large(ctx.settings.body_max)


def _problem(error: Exception) -> Response:
    problem = of_error(error)
    if problem.fault.status == 500:
        _log.error("a bug", exc_info=error)
    return (
        problem.fault.status,
        (*problem.raw_headers(), _PROBLEM),
        render(problem.fault),
    )


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
