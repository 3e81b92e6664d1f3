"""What operators ask: is it alive, can it serve, what has it counted."""

from fastapi import APIRouter
from fastapi.responses import Response

from recsvc import __version__
from recsvc.api import schemas
from recsvc.api.context import Ctx
from recsvc.api.json import JSONResponse
from recsvc.api.problems import responses
from recsvc.errors import StoreUnavailableError

__all__ = ["figures", "router"]

router, figures = APIRouter(), APIRouter()

_LINKS = {"docs": "/docs", "openapi": "/openapi.json", "ready": "/health/ready"}


@router.get("/", summary="What this is")
async def index(ctx: Ctx) -> JSONResponse:
    """Name the service and where to go on."""
    return JSONResponse(
        {
            "service": "recsvc",
            "version": __version__,
            "table_version": ctx.tables.source.version,
            "links": _LINKS if ctx.settings.docs_open else {"ready": "/health/ready"},
        }
    )


@router.get("/health/live", summary="Is it alive", response_model=schemas.Health)
async def live() -> JSONResponse:
    """Answer as long as the process can; asks nobody else."""
    return JSONResponse({"status": "alive", "checks": {}})


@router.get(
    "/health/ready",
    summary="Can it serve",
    response_model=schemas.Health,
    responses={503: {"model": schemas.Health, "description": "It cannot serve in full."}},
)
async def ready(ctx: Ctx) -> JSONResponse:
    """Answer 200 when Redis answers and a table is in service, else 503."""
    checks = {"redis": "ok", "table": "ok"}
    try:
        await ctx.service.ping()
    except StoreUnavailableError:
        checks["redis"] = "it does not answer"
    if ctx.tables.loaded.manifest is None:
        live = ctx.tables.live.version
        checks["table"] = (
            "none is published yet" if live is None else f"{live} cannot be had; the log says why"
        )
    good = set(checks.values()) == {"ok"}
    status = "ready" if good else "not ready"
    return JSONResponse({"status": status, "checks": checks}, 200 if good else 503)


@figures.get(
    "/metrics",
    summary="What it has counted",
    response_class=Response,
    responses=responses(401, 403),
)
async def metrics(ctx: Ctx) -> Response:
    """Return the figures of all workers in the text format of Prometheus."""
    return Response(ctx.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
