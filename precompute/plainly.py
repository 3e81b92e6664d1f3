"""How commands say what went wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from recsvc.errors import RecsvcError

__all__ = ["plainly"]


@contextmanager
def plainly() -> Iterator[None]:
    """Turn what recsvc raises on purpose, and a full or closed disk, into one line."""
    try:
        yield
    except (RecsvcError, OSError) as error:
        console = Console(stderr=True)
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
