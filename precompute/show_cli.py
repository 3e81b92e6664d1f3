"""The command that shows what came out of a training."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from precompute import lists
from recsvc import artifact
from recsvc.plainly import plainly

__all__ = ["app"]

app = typer.Typer(help="Artifacts.", no_args_is_help=True)


@app.command()
def show(
    directory: Annotated[Path, typer.Argument(help="An artifact directory.")],
    track: Annotated[
        list[int] | None,
        typer.Option(help="Show this track's neighbours; may be given more than once."),
    ] = None,
    listener: Annotated[
        list[int] | None,
        typer.Option(help="Show this listener's personal list; may be given more than once."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Lines of each list.")] = 15,
) -> None:
    """Show what an artifact is, and some of its lists with names, for a person to judge."""
    console = Console()
    with plainly():
        manifest, _, table = artifact.read(directory)
        lists.manifest(console, manifest)
        for wanted in track or []:
            lists.neighbours(console, table, wanted, rows)
        for wanted in listener or []:
            lists.personal(console, table, wanted, rows)
