"""The `recsvc` command: serve, and say what is served."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from recsvc import artifact, gates, logs, server
from recsvc.api.auth import Role, make_key
from recsvc.app import load_keys, load_policies, redis_url
from recsvc.cache import TableCache
from recsvc.errors import GateError, RecsvcError
from recsvc.redis.commands import Client
from recsvc.redis.connection import connect
from recsvc.redis.embedded import embedded_server
from recsvc.redis.events import read_events
from recsvc.redis.keys import Keys
from recsvc.redis.tables import PublishedTables
from recsvc.redis.watch import TableWatch
from recsvc.settings import Settings
from recsvc.table import Table

__all__ = ["app", "publish"]

app = typer.Typer(
    help="A next-track recommendation service. Settings come from the environment and from "
    ".env; .env.example lists them all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_PATIENCE = 30.0  # seconds that a command waits for a reply


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.", min=1)] = None,
) -> None:
    """Serve the API until interrupted."""
    # uvicorn raises the interrupt again once it has stopped.
    with _errors(), suppress(KeyboardInterrupt):
        settings = _settings()
        load_keys(settings)
        load_policies(settings)  # what is wrong with them is one line here, a traceback later
        host, port = host or settings.host, settings.port if port is None else port
        server.check_free(host, port)
        logs.configure(settings.log_level)
        # It raises a SIGTERM again too, which by default would end us there, before the
        # embedded server is told.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # Held here too, so that it outlives a worker that is being replaced.
        store = (
            embedded_server(settings.data_dir, fsync=settings.redis_fsync)
            if settings.embedded
            else nullcontext()
        )
        with store:
            figures = settings.data_dir / "figures" / str(port)
            server.run(host, port, workers or settings.workers, typer.echo, figures)


@app.command()
def key(
    role: Annotated[Role, typer.Argument(help="What the key is for.")],
    name: Annotated[str, typer.Argument(help="Whose it is: letters, digits and _.- only.")],
) -> None:
    """Make an API key, and the entry of RECSVC_API_KEYS that lets it in."""
    with _errors():
        made, entry = make_key(role, name)
    typer.echo(f"key    {made}   shown this once; give it to the caller")
    typer.echo(f"entry  {entry}")


@app.command()
def publish(
    directory: Annotated[Path, typer.Argument(help="An artifact that precompute wrote.")],
    force: Annotated[
        bool, typer.Option("--force", help="Publish even if a quality gate refuses.")
    ] = False,
) -> None:
    """Check an artifact, put it into Redis, and make it live."""
    with _errors():
        asyncio.run(_publish(directory, force=force))


@app.command()
def rollback() -> None:
    """Make the previous table live again."""
    with _errors():
        asyncio.run(_rollback())


@app.command()
def status() -> None:
    """Say which table is live."""
    with _errors():
        asyncio.run(_status())


@app.command()
def events() -> None:
    """Write all events to standard output, as the lines of a listening log."""
    with _errors():
        asyncio.run(_events())


async def _publish(directory: Path, *, force: bool) -> None:
    manifest, data, table = artifact.read(directory)
    settings = _settings()
    async with _client(settings) as client:
        tables = PublishedTables(client, _keys(settings))
        reasons = gates.check(table, await _live_table(tables, settings), metrics=manifest.metrics)
        if reasons and not force:
            raise GateError(reasons)
        for reason in reasons:
            typer.echo(f"published all the same: {reason}", err=True)
        with typer.progressbar(length=len(manifest.chunks), label="publishing") as bar:
            live = await tables.publish(manifest, data, lambda done, _: bar.update(done - bar.pos))
    was = f" (before: {live.previous})" if live.previous else ""
    typer.echo(f"table {live.version} is live{was}: {_counts(manifest.counts)}")


async def _live_table(tables: PublishedTables, settings: Settings) -> Table | None:
    """Return the table now live, to compare a new one with; None when there is none."""
    watch = TableWatch(
        tables,
        TableCache(settings.data_dir / "tables"),
        poll=settings.table_poll,
        swapped=lambda _: None,
        refused=lambda *_: None,
    )
    try:
        return (await watch.refresh()).source.table
    except RecsvcError:
        return None


async def _rollback() -> None:
    settings = _settings()
    async with _client(settings) as client:
        live = await PublishedTables(client, _keys(settings)).rollback()
    typer.echo(f"table {live.version} is live (before: {live.previous})")


async def _status() -> None:
    settings = _settings()
    async with _client(settings) as client:
        tables = PublishedTables(client, _keys(settings))
        live = await tables.live()
        if live.version is None:
            typer.echo("no table is published yet")
            raise typer.Exit(1)
        manifest = await tables.manifest(live.version)
    typer.echo(f"live      {live.version}, made {manifest.created_at}")
    typer.echo(f"previous  {live.previous or 'none'}")
    typer.echo(f"counts    {_counts(manifest.counts)}")
    for name, value in manifest.metrics.items():
        typer.echo(f"metric    {name} {value:g}")


async def _events() -> None:
    settings = _settings()
    async with _client(settings) as client:
        async for line in read_events(client, _keys(settings)):
            sys.stdout.buffer.write(line + b"\n")


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[Client]:
    async with (
        redis_url(settings) as url,
        connect(url, reply_within=_PATIENCE, connections=4, retries=2) as client,
    ):
        yield client


def _keys(settings: Settings) -> Keys:
    return Keys(settings.key_prefix, settings.partitions)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        faults = "; ".join(f"RECSVC_{e['loc'][0]!s}".upper() + f": {e['msg']}" for e in found)
        raise RecsvcError(faults) from error


@contextmanager
def _errors() -> Iterator[None]:
    """End with one line and exit code 1 for whatever is raised on purpose."""
    try:
        yield
    except RecsvcError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
