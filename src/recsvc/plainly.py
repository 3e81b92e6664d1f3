"""How commands say what went wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from recsvc.errors import RecsvcError

__all__ = ["plainly"]


@contextmanager
def plainly() -> Iterator[None]:
    """End with one line for what is raised on purpose, and for a disk that is full.

    Who reads just the head of the output is no fault: typer ends in silence then.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (RecsvcError, OSError) as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
