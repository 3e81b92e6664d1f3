"""The command that trains a table from a log."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from precompute import build, catalogue, contextual, log, neighbours, personal, popular, report
from precompute import sessions as session
from precompute.allocation import keep_freed_memory
from precompute.factorisation import Settings as Factorisation
from precompute.inference.parameters import Settings as InferenceSettings
from precompute.progress import Progress
from recsvc import artifact
from recsvc.plainly import plainly

__all__ = ["app"]

app = typer.Typer(help="Training.", no_args_is_help=True)

_MODEL, _SESSION, _TABLE, _RUN = "Contextual model", "Session model", "Tables", "Run"


class ModelName(StrEnum):
    """What a policy needs to be learnt."""

    ENSEMBLE = "ensemble"
    SESSION = "session"


@app.command()
def train(
    *,
    logs: Annotated[
        list[Path],
        typer.Option(
            "--log",
            help="Listening log: JSON lines (.gz, .zst too) or .parquet, or a directory of "
            "them. May be given more than once.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory to write the artifact to.")],
    tracks: Annotated[
        Path | None,
        typer.Option(
            "--catalogue",
            help="JSON lines of track, artist, title. Without it the catalogue is what the "
            "log names, and no artist is known.",
        ),
    ] = None,
    model: Annotated[
        list[ModelName] | None,
        typer.Option(
            help="What to learn; may be given more than once. The tables of the ensemble are "
            "always made, since every policy falls back on them. [default: both]",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="An artifact whose session model to start from, if its vectors are as "
            "long: fewer passes."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**64 - 1, help="Same input, same seed, same table.")
    ] = 0,
    dimensions: Annotated[
        int, typer.Option(min=1, help="Length of a contextual embedding.", rich_help_panel=_MODEL)
    ] = 32,
    epochs: Annotated[
        int,
        typer.Option(min=1, help="Most epochs of each contextual step.", rich_help_panel=_MODEL),
    ] = 30,
    batch: Annotated[
        int, typer.Option(min=1, help="Most rows a training step.", rich_help_panel=_MODEL)
    ] = 16384,
    decay: Annotated[
        list[float] | None,
        typer.Option(
            min=0.0,
            help="L2 penalty, more is safer. May be given more than once: the best is "
            "taken. [default: 0.5 and 0.02]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    previous_time: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Learn what follows a track only where so much of it was heard.",
            rich_help_panel=_MODEL,
        ),
    ] = 0.5,
    session_dimensions: Annotated[
        int,
        typer.Option(min=1, help="Length of a track's vector.", rich_help_panel=_SESSION),
    ] = InferenceSettings().dimensions,
    session_iterations: Annotated[
        int, typer.Option(min=1, help="Passes over the log.", rich_help_panel=_SESSION)
    ] = InferenceSettings().iterations,
    valid_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.9, help="Latest sessions kept for validation.", rich_help_panel=_MODEL
        ),
    ] = 0.1,
    idle_minutes: Annotated[
        float,
        typer.Option(min=0.0, help="Silence that ends a session.", rich_help_panel=_MODEL),
    ] = 30.0,
    threshold: Annotated[
        float,
        typer.Option(help="Least predicted time of a neighbour.", rich_help_panel=_TABLE),
    ] = 0.5,
    temperature: Annotated[
        float,
        typer.Option(
            min=1e-3,
            help="Of the neighbours' weights. At 1 they are nearly flat; lower is sharper.",
            rich_help_panel=_TABLE,
        ),
    ] = 1.0,
    personal_temperature: Annotated[
        float,
        typer.Option(min=1e-3, help="Of the personal lists' weights.", rich_help_panel=_TABLE),
    ] = 0.05,
    popular_size: Annotated[
        int, typer.Option(min=1, help="Length of the popular list.", rich_help_panel=_TABLE)
    ] = 200,
    broken_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Refuse a log with more broken lines.", rich_help_panel=_RUN
        ),
    ] = 0.01,
    threads: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,  # torch does not survive some thousands
            help="Threads to train with. More than the cores that are free makes it slower.",
            rich_help_panel=_RUN,
        ),
    ] = 1,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Train on a listening log and write an artifact."""
    settings = build.Settings(
        sessions=session.Settings(idle_minutes=idle_minutes, valid_share=valid_share),
        contextual=contextual.Settings(
            Factorisation(
                dimensions=dimensions,
                epochs=epochs,
                batch=batch,
                decays=tuple(decay or Factorisation().decays),
            ),
            previous_time=previous_time,
        ),
        neighbours=neighbours.Settings(threshold=threshold, temperature=temperature),
        personal=personal.Settings(temperature=personal_temperature),
        popular=popular.Settings(size=popular_size),
        inference=InferenceSettings(dimensions=session_dimensions, iterations=session_iterations)
        if ModelName.SESSION in (model or ModelName)
        else None,
        seed=seed,
    )
    torch.set_num_threads(threads)
    keep_freed_memory()
    console, errors = Console(), Console(stderr=True)
    progress = Progress(None if quiet else errors)
    with plainly():
        size = sum(path.stat().st_size for path in log.files(logs))
        artifact.prepare(output)  # rather than find out after the training
        with progress.step("read log", size) as advance:
            events = log.read(logs, log.Settings(broken_share=broken_share), advance)
        report.broken_lines(errors, events)
        with progress.step("read catalogue"):
            known = catalogue.read(tracks) if tracks else catalogue.from_log(events)
        live = artifact.read(start)[2] if start else None
        built = build.build(events, known, settings, progress, live)
        with progress.step("write"):
            manifest = build.export(built, output, settings)
        report.summary(console, built, manifest, progress.seconds, output)
