"""The calls of players: next, last, explain, and a listener's own data."""

from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from recsvc.api import schemas
from recsvc.api.auth import Role, needs
from recsvc.api.batch import answer_all
from recsvc.api.body import read_body, read_items
from recsvc.api.context import Context, Ctx
from recsvc.api.explained import render
from recsvc.api.explained_schemas import Explained
from recsvc.api.json import JSONResponse
from recsvc.api.problems import Fault, ProblemError, responses
from recsvc.api.reports import LONGEST_KEY, check_key, read_report, request_id

__all__ = ["answer_last", "answer_many", "answer_next", "router"]

router = APIRouter()

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=LONGEST_KEY,
        description="The same key for the same listener gets the same answer, and one event.",
    ),
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
    responses=responses(400, 401, 403, 413, 422, 503),
    openapi_extra=_body(schemas.Report),
    dependencies=[needs(Role.PLAY)],
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
    responses=responses(400, 401, 403, 413, 422, 503),
    openapi_extra=_body(schemas.Report),
    dependencies=[needs(Role.PLAY)],
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
    responses=responses(400, 401, 403, 413, 422, 503),
    openapi_extra=_body(schemas.BatchItem, many=True),
    dependencies=[needs(Role.PLAY)],
)
async def next_tracks(
    request: Request, ctx: Ctx, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answer many reports at once, in order; a bad one gets a problem in its place.

    Reports of one listener are taken in the order given. An Idempotency-Key is that of every
    listener in the batch; of two reports of one, each has its own answer.
    """
    body = await read_body(request, ctx.settings.body_max)
    content = await answer_many(ctx, body, _given_id(request), idempotency_key)
    return Response(content, media_type="application/json")


@router.post(
    "/explain/{user}",
    summary="What /next would do, and why",
    response_model=Explained,
    responses=responses(400, 401, 403, 413, 422, 503),
    openapi_extra=_body(schemas.Report),
    dependencies=[needs(Role.READ)],
)
async def explain(user: schemas.PathId, request: Request, ctx: Ctx) -> JSONResponse:
    """List every candidate with its weight, exclusion and chance. Changes nothing."""
    body = await read_body(request, ctx.settings.body_max)
    report = read_report(user, body, _given_id(request), None)
    explained = await ctx.service.explain(report)
    threshold = ctx.settings.switch_threshold
    return JSONResponse(render(explained, report, ctx.tables.source, threshold))


@router.get(
    "/user/{user}",
    summary="A listener's session as stored",
    response_model=schemas.SessionView,
    responses=responses(401, 403, 404, 422, 503),
    dependencies=[needs(Role.READ)],
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
    responses=responses(401, 403, 422, 503),
    dependencies=[needs(Role.PLAY)],
)
async def erase(user: schemas.PathId, ctx: Ctx) -> JSONResponse:
    """Erase the session, its listened set and its idempotency keys, hold back the personal
    list, and mark the events so that logs drop those before; say what there was.

    It may be called again: then there is nothing, and the answer says so.
    """
    personal = len(ctx.tables.source.personal(user)) > 0
    receipt = await ctx.service.erase(user)
    ctx.tables.forget(user, receipt.at)
    found = receipt.session or receipt.listened > 0 or personal
    shown = {"session": receipt.session, "listened": receipt.listened, "at": receipt.at}
    return JSONResponse({"user": user, "found": found, **shown, "personal": personal})


async def answer_next(
    ctx: Context, user: int, body: bytes, given_id: str, key: str | None
) -> bytes:
    """Answer POST /next/{user}: from the body of the request to that of the response."""
    return orjson.dumps(await ctx.service.next(read_report(user, body, given_id, key)))


async def answer_many(ctx: Context, body: bytes, given_id: str, key: str | None) -> bytes:
    """Answer POST /next, likewise."""
    check_key(key)
    items = read_items(body)
    if len(items) > ctx.settings.batch_max:
        raise ProblemError(422, f"a batch may have at most {ctx.settings.batch_max} items")
    return orjson.dumps(await answer_all(items, request_id(given_id), key, ctx))


async def answer_last(
    ctx: Context, user: int, body: bytes, given_id: str, key: str | None
) -> bytes:
    """Answer POST /last/{user}, likewise."""
    await ctx.service.last(read_report(user, body, given_id, key))
    return b'{"user":%d}' % user


def _given_id(request: Request) -> str:
    return request.headers.get("x-request-id", "")
