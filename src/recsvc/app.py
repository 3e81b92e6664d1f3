"""The composition root: makes all parts from the settings and ties them together."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from recsvc import __version__
from recsvc.api import listeners, operations, tables
from recsvc.api.auth import AdminKey
from recsvc.api.context import Context
from recsvc.api.hot import App
from recsvc.api.metrics import Measured, Metrics
from recsvc.api.problems import add_handlers
from recsvc.cache import TableCache
from recsvc.draws import Draws
from recsvc.errors import ExperimentError
from recsvc.experiment import parse
from recsvc.recommenders.registry import Policies, make_policies
from recsvc.redis.connection import connect
from recsvc.redis.embedded import embedded_server
from recsvc.redis.keys import Keys
from recsvc.redis.sessions import RedisSessions
from recsvc.redis.tables import PublishedTables
from recsvc.redis.watch import TableWatch
from recsvc.service import Service
from recsvc.settings import Settings

__all__ = ["create_app", "load_policies", "redis_url"]

_BULK_SECONDS = 30.0  # for a reply that carries pieces of a table


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application; nothing is opened before its lifespan begins."""
    settings = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.context = await _start(settings, metrics, stack)
            yield

    app = App(
        title="recsvc",
        version=__version__,
        summary="Tells a music player which track to play next.",
        lifespan=lifespan,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.include_router(listeners.router, tags=["listeners"])
    app.include_router(tables.make_router(AdminKey(settings.admin_key)), tags=["tables"])
    app.include_router(operations.router, tags=["operations"])
    add_handlers(app)
    app.add_middleware(Measured, metrics=metrics)
    return app


async def _start(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Context:
    """Open everything that is open while the service runs; `stack` closes it again."""
    url = await stack.enter_async_context(redis_url(settings))
    keys = Keys(settings.key_prefix, settings.partitions)
    client = await stack.enter_async_context(
        connect(url, reply_within=settings.redis_timeout, connections=settings.redis_connections)
    )
    bulk = await stack.enter_async_context(
        connect(url, reply_within=_BULK_SECONDS, connections=4, retries=2)
    )
    published = PublishedTables(bulk, keys)
    watch = TableWatch(
        published,
        TableCache(settings.data_dir / "tables"),
        poll=settings.table_poll,
        swapped=metrics.swapped,
        refused=metrics.refused,
    )
    await watch.start()
    task = asyncio.create_task(watch.run(), name="table watch")
    stack.push_async_callback(_cancel, task)
    sessions = RedisSessions(
        client,
        keys,
        session_ttl=settings.session_ttl,
        idempotency_ttl=settings.idempotency_ttl,
        events_max=settings.events_max,
    )
    service = Service(
        sessions,
        watch,
        load_policies(settings),
        metrics,
        draws=Draws(settings.seed),
        clock=time.time,
        deadline=settings.deadline,
    )
    return Context(settings, service, watch, published, metrics)


def load_policies(settings: Settings) -> Policies:
    """Make the policies and read the experiments; raises `ExperimentError`."""
    by_name = make_policies(settings.switch_threshold)
    try:
        declared = settings.experiments.read_text() if settings.experiments else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"the experiments cannot be read: {error}") from error
    return Policies(by_name, settings.policy, parse(declared, by_name))


@asynccontextmanager
async def redis_url(settings: Settings) -> AsyncIterator[str]:
    """Yield the URL to connect to, with the embedded server behind it if it is ours."""
    if not settings.embedded:
        yield settings.redis_url.get_secret_value()
        return
    # It waits on a process, so it works in a thread.
    server = embedded_server(settings.data_dir)
    url = await asyncio.to_thread(server.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which redis-py waits with, can
    lose a cancellation that comes just as what it waits for is done.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
