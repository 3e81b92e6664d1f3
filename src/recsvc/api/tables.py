"""Tracks, their neighbours, and which table is in service."""

import time
from datetime import datetime
from typing import Any

from fastapi import APIRouter

from recsvc.api import schemas
from recsvc.api.auth import DOCUMENTED, Role, needs
from recsvc.api.context import Context, Ctx
from recsvc.api.json import JSONResponse
from recsvc.api.problems import ProblemError, responses

__all__ = ["router"]


router = APIRouter()

_ANY_KEY = [needs(None)]  # a catalogue tells nothing of a listener
_ADMIN = [needs(Role.ADMIN), DOCUMENTED]


@router.get(
    "/track/{track}",
    summary="A track of the catalogue",
    response_model=schemas.Track,
    responses=responses(401, 403, 404, 422),
    dependencies=_ANY_KEY,
)
async def show_track(track: schemas.PathId, ctx: Ctx) -> JSONResponse:
    """Return a track's artist and title."""
    _index(track, ctx)
    return JSONResponse(ctx.tables.source.describe(track))


@router.get(
    "/track/{track}/neighbours",
    summary="A track's weighted neighbours",
    response_model=schemas.Neighbours,
    responses=responses(401, 403, 404, 422),
    dependencies=_ANY_KEY,
)
async def show_neighbours(track: schemas.PathId, ctx: Ctx) -> JSONResponse:
    """Return the tracks that may follow, the heaviest first."""
    _index(track, ctx)
    source = ctx.tables.source
    found = source.neighbours(track)
    rows = [
        {**source.describe(neighbour), "weight": weight, "share": weight / found.total}
        for neighbour, weight in zip(found.tracks, found.weights, strict=True)
    ]
    return JSONResponse(
        {
            **source.describe(track),
            "table_version": source.version,
            "neighbours": rows,
        }
    )


@router.get(
    "/table",
    summary="The table in service",
    response_model=schemas.TableView,
    responses=responses(401, 403),
    dependencies=_ANY_KEY,
)
async def show_table(ctx: Ctx) -> JSONResponse:
    """Return its version, counts and age."""
    return JSONResponse(_view(ctx))


@router.post(
    "/table/reload",
    summary="Look for a new table now",
    response_model=schemas.TableView,
    responses=responses(401, 403, 409, 503),
    dependencies=_ADMIN,
)
async def reload(ctx: Ctx) -> JSONResponse:
    """Adopt the published table without waiting for the next poll."""
    await ctx.tables.refresh(again=True)
    return JSONResponse(_view(ctx))


@router.post(
    "/table/rollback",
    summary="Go back to the previous table",
    response_model=schemas.TableView,
    responses=responses(401, 403, 409, 503),
    dependencies=_ADMIN,
)
async def rollback(ctx: Ctx) -> JSONResponse:
    """Make the previous table live again, for all workers and machines."""
    await ctx.published.rollback()
    await ctx.tables.refresh(again=True)
    return JSONResponse(_view(ctx))


def _index(track: int, ctx: Context) -> int:
    index = ctx.tables.source.table.index(track)
    if index is None:
        raise ProblemError(404, f"track {track} is not in the catalogue")
    return index


def _view(ctx: Context) -> dict[str, Any]:
    loaded, now = ctx.tables.loaded, time.time()
    manifest = loaded.manifest
    created = manifest.created_at if manifest else None
    return {
        "version": loaded.source.version,
        "previous": ctx.tables.live.previous,
        "created_at": created,
        "age_seconds": now - datetime.fromisoformat(created).timestamp() if created else None,
        "loaded_seconds": now - loaded.since,
        "counts": loaded.source.table.counts(),
        "metrics": manifest.metrics if manifest else {},
    }
