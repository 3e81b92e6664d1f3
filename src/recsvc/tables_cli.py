"""The commands about what is in Redis: tables, and events."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from recsvc import artifact, gates
from recsvc.cache import TableCache
from recsvc.errors import GateError, RecsvcError
from recsvc.plainly import plainly
from recsvc.redis.commands import Client
from recsvc.redis.connection import connect
from recsvc.redis.events import read_events
from recsvc.redis.fetch import TableFetch
from recsvc.redis.keys import Keys
from recsvc.redis.tables import PublishedTables
from recsvc.settings import Settings, read_settings
from recsvc.store import redis_url
from recsvc.table import Table

__all__ = ["app"]

app = typer.Typer(help="Tables and events.", no_args_is_help=True)

_PATIENCE = 30.0  # seconds that a command waits for a reply


@app.command()
def publish(
    directory: Annotated[Path, typer.Argument(help="An artifact that precompute wrote.")],
    force: Annotated[
        bool, typer.Option("--force", help="Publish even if a quality gate refuses.")
    ] = False,
) -> None:
    """Check an artifact, put it into Redis, and make it live."""
    with plainly():
        asyncio.run(_publish(directory, force=force))


@app.command()
def rollback() -> None:
    """Make the previous table live again."""
    with plainly():
        asyncio.run(_rollback())


@app.command()
def status() -> None:
    """Say which table is live."""
    with plainly():
        asyncio.run(_status())


@app.command()
def events() -> None:
    """Write all events to standard output, as the lines of a listening log."""
    with plainly():
        asyncio.run(_events())


async def _publish(directory: Path, *, force: bool) -> None:
    manifest, data, table = artifact.read(directory)
    settings = read_settings()
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
    cache = TableCache(settings.data_dir / "tables")
    try:
        live = await tables.live()
        if live.version is None:
            return None
        manifest = await tables.manifest(live.version)
        table = await TableFetch(tables, cache).table(manifest)
    except RecsvcError as error:
        typer.echo(f"not compared with the live table: {error}", err=True)
        return None
    keep = set() if live.previous is None else {live.previous}
    await asyncio.to_thread(cache.remember, manifest, keep)
    return table


async def _rollback() -> None:
    settings = read_settings()
    async with _client(settings) as client:
        live = await PublishedTables(client, _keys(settings)).rollback()
    typer.echo(f"table {live.version} is live (before: {live.previous})")


async def _status() -> None:
    settings = read_settings()
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
    settings = read_settings()
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
