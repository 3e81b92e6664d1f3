"""What a person reads after a training."""

from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from precompute.build import Build
from precompute.lists import grid_of
from precompute.log import Log
from recsvc.artifact import Manifest

__all__ = ["broken_lines", "summary"]


def broken_lines(console: Console, log: Log) -> None:
    """Say how many lines were left out, and which were the first; nothing if none was."""
    if not log.broken:
        return
    console.print(f"{log.broken:,} of {log.lines:,} lines are broken and were left out:")
    for sample in log.samples:
        console.print(f"  {sample}", markup=False, highlight=False, soft_wrap=True)
    if log.broken > len(log.samples):
        console.print(f"  and {log.broken - len(log.samples):,} more")


def summary(
    console: Console, built: Build, manifest: Manifest, seconds: dict[str, float], output: Path
) -> None:
    """Print what was read, how good the models are, what was written, and the time it took."""
    metrics = built.metrics
    grid = grid_of("", "")
    grid.add_row("events", f"{metrics['events']:,.0f} in {metrics['sessions']:,.0f} sessions")
    grid.add_row("lines broken", f"{metrics['lines_broken']:,.0f}")
    grid.add_row("events of unlisted tracks", f"{metrics['events_unknown_track']:,.0f}")
    for name, count in manifest.counts.items():
        grid.add_row(name, f"{count:,}")
    grid.add_row("rows by model / artist", _pair(metrics, "rows_by_model", "rows_by_artist"))
    grid.add_row("rows filled up", f"{metrics['rows_filled']:,.0f}")
    console.print(grid)
    console.print(_errors(metrics, built.rows_a_second))
    if "session_mse" in metrics:
        losses = (metrics[f"session_log_loss{kind}"] for kind in ("", "_constant"))
        console.print("session model: log loss {:.4f}, constant {:.4f}".format(*losses))
        console.print(_foreseen(metrics))
    times = ", ".join(f"{name} {took:.1f}" for name, took in seconds.items())
    console.print(f"seconds: {times}; {sum(seconds.values()):.1f} in all", highlight=False)
    console.print(
        f"version {manifest.version}, {manifest.bytes / 1e6:.1f} MB, in {output}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _errors(metrics: dict[str, float], speed: dict[str, float]) -> Grid:
    columns = ("mse_constant", "mse_right_mean", "mse_effects", "mse")
    heads = ("constant", "track mean", "effects", "model")
    grid = grid_of("validation error", *heads, "epochs", "rows a second")
    for model, rate in speed.items():
        values = (metrics.get(f"{model}_{column}") for column in columns)
        cells = ["-" if value is None else f"{value:.5f}" for value in values]
        grid.add_row(model, *cells, f"{metrics[f'{model}_epochs']:.0f}", f"{rate:,.0f}")
    return grid


def _foreseen(metrics: dict[str, float]) -> Grid:
    """Show how calibrated the session model is: what came, by tenths of what it foresaw."""
    tenths = range(1, 1 + sum(name.endswith("_foreseen") for name in metrics))
    grid = grid_of("session model", *map(str, tenths))
    for name in ("foreseen", "heard"):
        grid.add_row(name, *(f"{metrics[f'session_tenth_{n}_{name}']:.2f}" for n in tenths))
    return grid


def _pair(metrics: dict[str, float], one: str, other: str) -> str:
    return f"{metrics[one]:,.0f} / {metrics[other]:,.0f}"
