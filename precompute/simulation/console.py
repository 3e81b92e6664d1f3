"""What the commands of the simulation share: their options, and how they speak."""

import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from precompute.simulation.world import World
from recsvc.plainly import plainly

__all__ = [
    "CONSOLE",
    "Family",
    "Limit",
    "Seed",
    "SessionCount",
    "Steps",
    "WorldDirectory",
    "load_world",
    "progress_bar",
]

CONSOLE = Console(stderr=True)


class Family(StrEnum):
    """How the tastes of a generated world are shaped."""

    GENRES = "genres"
    SMOOTH = "smooth"


Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same result.")
]
WorldDirectory = Annotated[Path, typer.Option("--world", help="Directory of a world.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many listeners, the first.")]
SessionCount = Annotated[int, typer.Option(min=1, help="Sessions of each listener.")]
Steps = Annotated[int, typer.Option(min=1, help="Recommendations that end a session.")]


def load_world(directory: Path) -> World:
    """Read a world; ends the command with one line when it cannot be read."""
    with plainly():
        return World.load(directory)


@contextlib.contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the block runs; yields what to tell it."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=CONSOLE, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
