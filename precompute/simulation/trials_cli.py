"""The commands that try the service's policies on simulated listeners."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from precompute.errors import SimulationError
from precompute.simulation.compare import CONTROL, ORACLE, Result, compare, policy_names
from precompute.simulation.console import (
    Family,
    Seed,
    Steps,
    WorldDirectory,
    load_world,
    progress_bar,
)
from precompute.simulation.ladder import Trial, run_ladder
from precompute.simulation.listener import MAX_STEPS
from recsvc import artifact
from recsvc.plainly import plainly
from recsvc.recommenders.source import Source

__all__ = ["app"]

app = typer.Typer(help="Trials of policies.", no_args_is_help=True)


@app.command("compare")
def compare_policies(
    *,
    world_directory: WorldDirectory,
    table: Annotated[Path, typer.Option("--artifact", help="What the policies answer from.")],
    policies: Annotated[
        list[str] | None, typer.Option("--policy", help="Only these, and the control.")
    ] = None,
    listeners: Annotated[int, typer.Option(min=2, help="The first of the world.")] = 10_000,
    max_steps: Steps = MAX_STEPS,
    seed: Seed = 0,
) -> None:
    """Compare the service's policies in process: one session a listener with each."""
    with plainly():
        made = load_world(world_directory)
        manifest, _, arrays = artifact.read(table)
        names = policies or policy_names()
        if unknown := sorted({*names} - {*policy_names()}):
            raise SimulationError(
                f"no policy {unknown[0]!r}; there are {', '.join(policy_names())}"
            )
        source = Source(arrays, manifest.version)
        with progress_bar("policies", len({*names, CONTROL})) as progress:
            results = compare(
                made,
                source,
                names,
                listeners=listeners,
                max_steps=max_steps,
                seed=seed,
                progress=progress,
            )
    _show(results)


@app.command()
def experiment(
    *,
    output: Annotated[Path, typer.Option(help="Directory for everything that is made.")],
    tracks: Annotated[int, typer.Option(min=100)] = 20_000,
    listeners: Annotated[int, typer.Option(min=10, help="About a twelfth a policy.")] = 20_000,
    cold_sessions: Annotated[
        int, typer.Option(min=1, help="Sessions a listener in the log to train on.")
    ] = 10,
    rounds: Annotated[
        int, typer.Option(min=0, help="Serve `session`, learn from its log, publish; so often.")
    ] = 6,
    round_listeners: Annotated[int, typer.Option(min=1, help="Listeners of each round.")] = 2000,
    family: Annotated[Family, typer.Option(help="Clusters, or a continuum.")] = Family.GENRES,
    world: Annotated[
        Path | None, typer.Option(help="A world that is there, in place of a new one.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Run the whole loop: world, cold log, rounds, every policy over HTTP, report."""
    trial = Trial(
        tracks=tracks,
        listeners=listeners,
        cold_sessions=cold_sessions,
        rounds=rounds,
        round_listeners=round_listeners,
        family=family,
        seed=seed,
        world=world,
    )
    with plainly():
        run_ladder(output, trial)


def _show(results: list[Result]) -> None:
    table = Table("policy", title="Sum of time in a session", title_justify="left")
    for name in ("mean", "median", "effect on the mean", "95% interval", "at the cap", "of oracle"):
        table.add_column(name, justify="right")
    best = next((r.mean for r in results if r.policy == ORACLE), None)
    for r in results:
        effect = "control" if r.effect is None else f"{r.effect:+.1f}%"
        interval = "" if r.low is None else f"{r.low:+.1f}% to {r.high:+.1f}%"
        share = "" if best is None else f"{r.mean / best:.1%}"
        cells = (f"{r.mean:.3f}", f"{r.median:.2f}", effect, interval, f"{r.capped:.1%}", share)
        table.add_row(r.policy, *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
