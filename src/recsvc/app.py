"""The composition root: makes all parts from the settings and ties them together."""

import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from recsvc import __version__, logs
from recsvc.api import listeners, operations, tables
from recsvc.api.auth import DOCUMENTED, Keyring, Role, needs
from recsvc.api.context import Context
from recsvc.api.documentation import add_documentation
from recsvc.api.heading import HeadAsGet
from recsvc.api.hot import App
from recsvc.api.limits import Guard, Limits
from recsvc.api.metrics import Measured, Metrics
from recsvc.api.pooling import shared_directory
from recsvc.api.problems import add_handlers
from recsvc.api.store_figures import StoreFigures
from recsvc.cache import TableCache
from recsvc.collector import rarely_collecting
from recsvc.draws import Draws
from recsvc.errors import ExperimentError
from recsvc.experiment import parse
from recsvc.recommenders.registry import Policies, make_policies
from recsvc.redis.connection import connect, connect_caller
from recsvc.redis.incarnation import Incarnation
from recsvc.redis.keys import Keys
from recsvc.redis.tables import PublishedTables
from recsvc.redis.watch import TableWatch
from recsvc.service import Service
from recsvc.settings import Settings
from recsvc.store import open_store, redis_url, run_beside
from recsvc.together import Together

__all__ = ["create_app", "load_keys", "load_policies"]

_BULK_SECONDS = 30.0  # for a reply that carries pieces of a table


def create_app(settings: Settings | None = None, keyring: Keyring | None = None) -> FastAPI:
    """Make the application; nothing is opened before its lifespan begins.

    Without a `keyring` it has the one of the settings.
    """
    if settings is None:  # in a process where nothing is set up yet
        settings = Settings()
        logs.configure(settings.log_level)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[dict[str, object]]:
        async with AsyncExitStack() as stack:
            guard = Guard(limits(settings), metrics.turned_away)
            run_beside(guard.run, "guard", stack)
            if settings.docs_open:
                app.openapi()  # it keeps it; when first asked for it would hold all answers up
            app.context = await _start(settings, metrics, app.state.keyring, stack)
            run_beside(metrics.pool(shared_directory()).run, "figures", stack)
            stack.enter_context(rarely_collecting())
            yield {"guard": guard}  # where the protocol finds it

    app = App(
        title="recsvc",
        version=__version__,
        summary="Tells a music player which track to play next.",
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url="/openapi.json" if settings.docs_open else None,
        docs_url=None,  # see `add_documentation`
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    _include(app, settings, load_keys(settings) if keyring is None else keyring)
    if settings.docs_open:
        add_documentation(app)
    add_handlers(app)
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(HeadAsGet)
    return app


def _include(app: FastAPI, settings: Settings, keyring: Keyring) -> None:
    """Add the routes, behind the keys that guard them."""
    app.state.keyring = keyring
    described = [DOCUMENTED] if keyring.closed else []
    figures = [needs(Role.READ if keyring.closed else Role.ADMIN), DOCUMENTED]
    app.include_router(listeners.router, tags=["listeners"], dependencies=described)
    app.include_router(tables.router, tags=["tables"], dependencies=described)
    app.include_router(operations.router, tags=["operations"])
    app.include_router(
        operations.figures,
        tags=["operations"],
        dependencies=[] if settings.metrics_open else figures,
    )


async def _start(
    settings: Settings, metrics: Metrics, keyring: Keyring, stack: AsyncExitStack
) -> Context:
    """Open everything that is open while the service runs; `stack` closes it again."""
    url = await stack.enter_async_context(redis_url(settings))
    keys = Keys(settings.key_prefix, settings.partitions)
    incarnation = Incarnation()
    client = await stack.enter_async_context(
        connect(url, reply_within=settings.redis_timeout, connections=settings.redis_connections)
    )
    caller = await stack.enter_async_context(
        connect_caller(url, client, reply_within=settings.redis_timeout, greeting=incarnation.greet)
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
    run_beside(watch.run, "table watch", stack)
    sessions, standby = await open_store(settings, caller, keys, stack)

    def forget(users: Collection[int]) -> None:
        watch.withhold(users)
        standby.forget(users)

    looking = partial(watch.forgotten.run, settings.table_poll, forget)
    run_beside(looking, "the forgotten", stack)
    incarnation.changed = sessions.restarted
    metrics.add(StoreFigures(sessions, standby))
    service = Service(
        sessions,
        watch,
        load_policies(settings),
        metrics,
        standby,
        draws=Draws(settings.seed),
        clock=time.time,
        deadline=settings.deadline,
    )
    together = Together(service)
    stack.push_async_callback(together.aclose)
    return Context(settings, service, together, watch, published, metrics, keyring)


def load_keys(settings: Settings, before: str | None = None) -> Keyring:
    """Read the API keys; raises `AccessError`.

    `before` is entries of a file of them, for when it cannot be read.
    """
    listed, admin = settings.api_keys, settings.admin_key
    return Keyring(
        listed.get_secret_value() if listed else "",
        admin.get_secret_value() if admin else None,
        before=before,
    )


def limits(settings: Settings) -> Limits:
    """Return what a caller may ask of one worker."""
    return Limits(
        requests_max=settings.requests_max,
        body_max=settings.body_max,
        receive_timeout=settings.receive_timeout,
        keep_alive=settings.keep_alive,
    )


def load_policies(settings: Settings) -> Policies:
    """Make the policies and read the experiments; raises `ExperimentError`."""
    by_name = make_policies(
        settings.switch_threshold,
        exploration=settings.exploration,
        candidates=settings.candidates,
    )
    try:
        declared = settings.experiments.read_text() if settings.experiments else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"the experiments cannot be read: {error}") from error
    return Policies(by_name, settings.policy, parse(declared, by_name))
