"""The command that reports an experiment."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from precompute.evaluation import events, plot, render
from precompute.evaluation.metrics import measure
from precompute.evaluation.report import Report, build
from recsvc.plainly import plainly

__all__ = ["app", "write_report"]

app = typer.Typer(help="Experiments.", no_args_is_help=True)


@app.command()
def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="EVENTS...", help="JSON lines (.gz, .zst too), or directories."),
    ],
    *,
    experiment: Annotated[str, typer.Option(help="Its name in the events.")],
    control: Annotated[str | None, typer.Option(help="The treatment to compare with.")] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER, a declared share, for each treatment; else equal."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Directory for report.md, report.html and report.png.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
) -> None:
    """Compare the treatments of an experiment."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    shares = _shares(share)
    with plainly():
        metrics = measure(events.read(paths, experiment))
        made = build(metrics, experiment, control=control, shares=shares, seed=seed)
        render.show(made, console)
        if output is not None:
            write_report(made, output)
            typer.echo(f"written: {output / 'report.md'}, report.html, report.png")


def write_report(made: Report, directory: Path) -> None:
    """Write `report.md`, `report.html` and `report.png` into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    plot.save(made, directory / "report.png")
    (directory / "report.md").write_text(render.markdown(made, "report.png"), encoding="utf-8")
    (directory / "report.html").write_text(render.html_page(made, "report.png"), encoding="utf-8")


def _shares(texts: list[str] | None) -> dict[str, float] | None:
    if not texts:
        return None
    shares = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            shares[name] = float(number)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not NAME=NUMBER") from None
    return shares
