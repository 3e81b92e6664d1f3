"""The commands that make worlds and logs, and that send listeners to a service."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import typer
import uvloop

from precompute.errors import SimulationError
from precompute.lines import PARQUET
from precompute.simulation.batch import BatchPolicy, simulate
from precompute.simulation.client import HttpClient
from precompute.simulation.console import (
    CONSOLE,
    Family,
    Limit,
    Seed,
    SessionCount,
    Steps,
    WorldDirectory,
    load_world,
    progress_bar,
)
from precompute.simulation.demo import write_demo
from precompute.simulation.drive import Driven, drive
from precompute.simulation.generate import RANDOM_TIME, generate
from precompute.simulation.listener import MAX_STEPS
from precompute.simulation.logs import write_log
from precompute.simulation.policies import Oracle, RandomTracks, TasteMix
from precompute.simulation.world import World
from recsvc.plainly import plainly

__all__ = ["app"]

app = typer.Typer(help="Simulated listeners.", no_args_is_help=True)


Skip = Annotated[int, typer.Option(min=0, help="Leave out so many listeners, the first.")]


class Policy(StrEnum):
    """A policy that runs in process."""

    RANDOM = "random"
    TASTE = "taste"
    ORACLE = "oracle"


@app.command()
def world(
    *,
    output: Annotated[Path, typer.Option(help="Directory to write the world's files to.")],
    tracks: Annotated[int, typer.Option(min=100)] = 20_000,
    listeners: Annotated[int, typer.Option(min=1)] = 10_000,
    family: Annotated[Family, typer.Option(help="Clusters, or a continuum.")] = Family.GENRES,
    random_time: Annotated[
        float, typer.Option(help="Mean session time that a random recommender shall have.")
    ] = RANDOM_TIME,
    seed: Seed = 0,
) -> None:
    """Make a world of tracks and listeners."""
    with plainly():
        made = generate(tracks, listeners, family=family, seed=seed, random_time=random_time)
        made.save(output)
    artists = len(made.catalogue.artist_names)
    typer.echo(f"{output}: {tracks:,} tracks of {artists:,} artists, {listeners:,} listeners")


@app.command()
def listen(
    *,
    world_directory: WorldDirectory,
    output: Annotated[Path, typer.Option(help="The log: .jsonl, or .parquet.")],
    policy: Annotated[Policy, typer.Option(help="Who recommends.")] = Policy.RANDOM,
    listeners: Limit = None,
    sessions: SessionCount = 1,
    max_steps: Steps = MAX_STEPS,
    skip: Skip = 0,
    experiment: Annotated[
        str | None, typer.Option(help="Write the policy down as a treatment of it (.jsonl).")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write the log of a policy that runs in process: a cold log, or the oracle's."""
    if experiment and output.suffix in PARQUET:
        raise typer.BadParameter("an experiment is written into JSON lines only, not into Parquet")
    made = load_world(world_directory)
    with plainly():
        rows = _rows(made, listeners, skip)
        with progress_bar("sessions", len(rows) * sessions) as progress:
            plays = simulate(
                made,
                _policy(policy, made, seed, max_steps),
                seed=seed,
                listeners=rows,
                sessions=sessions,
                max_steps=max_steps,
                progress=progress,
            )
        propensity = 1.0 / len(made.catalogue) if policy is Policy.RANDOM else None
        events = write_log(
            output,
            made,
            plays,
            policy=policy,
            propensity=propensity,
            experiments={experiment: policy} if experiment else None,
        )
    mean = plays.session_times.mean()
    typer.echo(f"{output}: {events:,} events; mean time of a session {mean:.3f}")


@app.command("simulate")
def send(
    *,
    world_directory: WorldDirectory,
    url: Annotated[str, typer.Option(help="Where the service answers.")] = "http://127.0.0.1:8000",
    listeners: Limit = None,
    sessions: SessionCount = 1,
    skip: Skip = 0,
    max_steps: Steps = MAX_STEPS,
    concurrency: Annotated[int, typer.Option(min=1, help="Listeners at a time.")] = 1000,
    connections: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 64,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds until one fails.")] = 30.0,
    log: Annotated[Path | None, typer.Option(help="Write the events seen from here.")] = None,
    seed: Seed = 0,
) -> None:
    """Send the listeners of a world to a service and say how long they stayed."""
    made = load_world(world_directory)
    with plainly():
        rows = _rows(made, listeners, skip)

    async def run(file: BinaryIO | None, progress: Callable[[int], None]) -> Driven:
        async with HttpClient(url, connections=connections, timeout=timeout) as client:
            return await drive(
                made,
                client,
                seed=seed,
                listeners=rows,
                sessions=sessions,
                concurrency=concurrency,
                max_steps=max_steps,
                log=file,
                progress=progress,
            )

    with plainly(), contextlib.ExitStack() as stack:
        file = stack.enter_context(log.open("wb")) if log else None
        progress = stack.enter_context(progress_bar("sessions", len(rows) * sessions))
        driven = _await(run(file, progress))
    _tell(driven)
    if driven.failures:
        raise typer.Exit(1)


@app.command()
def demo_log(
    *,
    output: Annotated[Path, typer.Option(help="Directory for log.jsonl and catalogue.jsonl.")],
    tracks: Annotated[int, typer.Option(min=100)] = 5000,
    listeners: Annotated[int, typer.Option(min=1)] = 2000,
    sessions: SessionCount = 10,
    family: Annotated[Family, typer.Option(help="Clusters, or a continuum.")] = Family.GENRES,
    seed: Seed = 0,
) -> None:
    """Make a small log and its catalogue, from which sensible neighbours can be trained."""
    with plainly():
        made = write_demo(
            output, tracks=tracks, listeners=listeners, sessions=sessions, family=family, seed=seed
        )
    typer.echo(f"{made.log}: {made.events:,} events of {made.listeners:,} listeners")
    typer.echo(f"{made.catalogue}: {made.tracks:,} tracks")


def _rows(made: World, limit: int | None, skip: int) -> npt.NDArray[np.int64]:
    rows = np.arange(min(limit or len(made.listeners), len(made.listeners)))[skip:]
    if not len(rows):
        raise SimulationError(f"no listener is left when {skip:,} are left out")
    return rows


def _policy(policy: Policy, made: World, seed: int, max_steps: int) -> BatchPolicy:
    match policy:
        case Policy.RANDOM:
            return RandomTracks(made, seed)
        case Policy.TASTE:
            return TasteMix(made, seed)
        case Policy.ORACLE:
            return Oracle(made, max_steps)


def _await(work: Coroutine[Any, Any, Driven]) -> Driven:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _tell(driven: Driven) -> None:
    """Say how it went; a person reads failures first."""
    if driven.failures:
        CONSOLE.print(f"[red]{len(driven.failures):,} sessions failed[/]; {driven.failures[0]}")
    if not len(driven.plays.sessions):
        return
    times = driven.plays.session_times
    p50, p99 = np.nanpercentile(driven.latencies, [50, 99]) * 1000
    typer.echo(
        f"{len(times):,} sessions in {driven.seconds:.1f} s"
        f" ({driven.requests / driven.seconds:,.0f} requests a second):"
        f" mean time {times.mean():.3f}, median {np.median(times):.3f},"
        f" tracks {driven.plays.lengths.mean():.2f},"
        f" latency p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )
