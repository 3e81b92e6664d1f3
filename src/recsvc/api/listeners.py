"""The calls of players: next, last, explain, and a listener's own data."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import asdict
from secrets import token_hex
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError

from recsvc import session
from recsvc.api import schemas
from recsvc.api.body import read_body, read_items
from recsvc.api.context import Context, Ctx
from recsvc.api.json import JSONResponse
from recsvc.api.problems import Fault, ProblemError, describe, of_validation, responses
from recsvc.explanation import Explanation, PoolExplanation
from recsvc.policy import CONTEXTUAL, PERSONAL
from recsvc.recommenders.source import Source

__all__ = ["answer_last", "answer_next", "router"]

router = APIRouter()

_REPORT = TypeAdapter(schemas.Report)
_ITEM = TypeAdapter(schemas.BatchItem)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_LONGEST_KEY = 255

IdempotencyKey = Annotated[
    str | None,
    Header(description="The same key for the same listener gets the same answer, and one event."),
]


def _body(model: type[Any], *, many: bool = False) -> dict[str, Any]:
    """Describe a body that the route reads by itself."""
    schema: dict[str, Any] = model.model_json_schema()
    example = schema.get("example")
    if many:
        schema, example = {"type": "array", "items": schema}, [example]
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/next/{user}",
    summary="The track to play next",
    response_model=schemas.Answer,
    responses=responses(400, 413, 422),
    openapi_extra=_body(schemas.Report),
)
async def next_track(
    user: schemas.PathId, request: Request, ctx: Ctx, idempotency_key: IdempotencyKey = None
) -> Response:
    """Report the track just heard and the fraction played; get the track to play next.

    The body is read as JSON with or without a content type. A track served or reported
    in a session is not served again in it while an unheard one is left.
    """
    body = await read_body(request, ctx.settings.body_max)
    content = await answer_next(ctx, user, body, _given_id(request), idempotency_key)
    return Response(content, media_type="application/json")


@router.post(
    "/last/{user}",
    summary="End the session",
    response_model=schemas.Ended,
    responses=responses(400, 413, 422, 503),
    openapi_extra=_body(schemas.Report),
)
async def last_track(
    user: schemas.PathId, request: Request, ctx: Ctx, idempotency_key: IdempotencyKey = None
) -> Response:
    """Report the last track of a session; the next call begins a new one."""
    body = await read_body(request, ctx.settings.body_max)
    content = await answer_last(ctx, user, body, _given_id(request), idempotency_key)
    return Response(content, media_type="application/json")


@router.post(
    "/next",
    summary="The tracks to play next, for many listeners",
    response_model=list[schemas.Answer | Fault],
    responses=responses(400, 413, 422),
    openapi_extra=_body(schemas.BatchItem, many=True),
)
async def next_tracks(request: Request, ctx: Ctx) -> JSONResponse:
    """Answer many reports at once, in order; a bad one gets a problem in its place.

    Reports of one listener are taken in the order given.
    """
    items = read_items(await read_body(request, ctx.settings.body_max))
    if len(items) > ctx.settings.batch_max:
        raise ProblemError(422, f"a batch may have at most {ctx.settings.batch_max} items")
    return JSONResponse(await _answer_all(items, _request_id(_given_id(request)), ctx))


@router.post(
    "/explain/{user}",
    summary="What /next would do, and why",
    response_model=schemas.Explained,
    responses=responses(400, 413, 422, 503),
    openapi_extra=_body(schemas.Report),
)
async def explain(user: schemas.PathId, request: Request, ctx: Ctx) -> JSONResponse:
    """List every candidate with its weight, exclusion and chance. Changes nothing."""
    body = await read_body(request, ctx.settings.body_max)
    report = _read_report(user, body, _given_id(request), None)
    source = ctx.tables.source
    explained = await ctx.service.explain(report)
    return JSONResponse(
        {
            "user": user,
            "track": report.track,
            "time": report.time,
            "policy": explained.policy,
            "table_version": explained.table_version,
            "last_recommender": explained.last_recommender,
            "why": _why(explained, report.time, ctx.settings.switch_threshold),
            "answered_by": explained.answered_by,
            "pools": [_pool(pool, source) for pool in explained.pools],
        }
    )


@router.get(
    "/user/{user}",
    summary="A listener's session as stored",
    response_model=schemas.SessionView,
    responses=responses(404, 422, 503),
)
async def show_session(user: schemas.PathId, ctx: Ctx) -> JSONResponse:
    """Return the session, or 404 when there is none."""
    found = await ctx.service.session(user)
    if found is None:
        raise ProblemError(404, f"listener {user} has no session")
    return JSONResponse({"user": user, **asdict(found)})


@router.delete(
    "/user/{user}",
    summary="Erase what is held on a listener",
    response_model=schemas.Erased,
    responses=responses(422, 503),
)
async def erase(user: schemas.PathId, ctx: Ctx) -> JSONResponse:
    """Erase the session, its listened set and its idempotency keys; say what there was."""
    receipt = await ctx.service.erase(user)
    return JSONResponse({"user": user, **asdict(receipt)})


async def answer_next(
    ctx: Context, user: int, body: bytes, given_id: str, key: str | None
) -> bytes:
    """Answer POST /next/{user}: from the body of the request to that of the response."""
    return orjson.dumps(await ctx.service.next(_read_report(user, body, given_id, key)))


async def answer_last(
    ctx: Context, user: int, body: bytes, given_id: str, key: str | None
) -> bytes:
    """Answer POST /last/{user}, likewise."""
    await ctx.service.last(_read_report(user, body, given_id, key))
    return b'{"user":%d}' % user


def _read_report(user: int, body: bytes, given_id: str, key: str | None) -> session.Report:
    """Make a report of a request; raises `ProblemError` 400 or 422."""
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        raise ProblemError(422, f"an Idempotency-Key has 1 to {_LONGEST_KEY} characters")
    try:
        heard = _REPORT.validate_json(body)
    except ValidationError as error:
        raise of_validation(error) from error
    return session.Report(user, heard.track, heard.time, _request_id(given_id), key)


def _given_id(request: Request) -> str:
    return request.headers.get("x-request-id", "")


def _request_id(given: str) -> str:
    """Keep the caller's X-Request-ID where it is harmless to log; else make one."""
    return given if _REQUEST_ID.fullmatch(given) else token_hex(8)


async def _answer_all(items: Sequence[Any], call_id: str, ctx: Context) -> list[Any]:
    """Answer the reports of different listeners side by side, those of one in order."""
    answers: list[Any] = [None] * len(items)
    by_user: dict[int, list[tuple[int, session.Report]]] = {}
    for position, item in enumerate(items):
        try:
            body = _ITEM.validate_python(item)
        except ValidationError as error:
            answers[position] = describe(of_validation(error).fault)
        else:
            report = session.Report(body.user, body.track, body.time, f"{call_id}:{position}")
            by_user.setdefault(body.user, []).append((position, report))

    async def answer(reports: list[tuple[int, session.Report]]) -> None:
        for position, report in reports:
            answers[position] = await ctx.service.next(report)  # orjson writes dataclasses

    await asyncio.gather(*(answer(reports) for reports in by_user.values()))
    return answers


def _why(explained: Explanation, time: float, threshold: float) -> str:
    if explained.last_recommender is None:
        why = "a new session begins with contextual"
    elif explained.last_recommender in (CONTEXTUAL, PERSONAL):
        doing = "below" if time < threshold else "at or above"
        why = (
            f"{explained.last_recommender} answered last and was heard for {time:g}, {doing} "
            f"{threshold:g}, so {explained.first} is first in line"
        )
    else:
        why = f"{explained.last_recommender} answered last, so {explained.first} is first in line"
    if explained.answered_by != explained.first:
        why += f"; it has nothing unheard left, so {explained.answered_by} answers"
    return why


def _pool(pool: PoolExplanation, source: Source) -> dict[str, Any]:
    return {
        "recommender": pool.recommender,
        "answers": pool.answers,
        "population": pool.population,
        "heard": sum(heard for _, _, heard, _ in pool.rows),
        "candidates": [
            {
                **source.describe(track),
                "weight": weight,
                "heard": heard,
                "probability": probability,
            }
            for track, weight, heard, probability in pool.rows
        ],
    }
