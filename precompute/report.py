"""What a person reads after a run: summaries and lists with names."""

from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from precompute.build import Build
from precompute.errors import ReportError
from precompute.log import Log
from recsvc.artifact import Manifest
from recsvc.table import Row, Table

__all__ = ["broken_lines", "manifest", "neighbours", "personal", "summary"]


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
    grid = _grid("", "")
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


def manifest(console: Console, found: Manifest) -> None:
    """Print an artifact's manifest, without the checksums of its chunks."""
    grid = _grid("", "")
    grid.add_row("version", found.version)
    grid.add_row("created", found.created_at)
    grid.add_row("size", f"{found.bytes:,} bytes in {len(found.chunks)} chunks")
    for name, count in found.counts.items():
        grid.add_row(name, f"{count:,}")
    for name, value in found.metrics.items():
        grid.add_row(name.replace("_", " "), f"{value:,.5g}" if value % 1 else f"{value:,.0f}")
    console.print(grid)


def neighbours(console: Console, table: Table, track: int, rows: int) -> None:
    """Print a track's heaviest neighbours; raises `ReportError` for an unknown track."""
    index = table.index(track)
    if index is None:
        raise ReportError(f"track {track} is not in the table")
    title = f"after {track}: {table.title(index)} ({table.artist_name(index)})"
    _list(console, table, title, table.neighbour_row(index), rows)


def personal(console: Console, table: Table, user: int, rows: int) -> None:
    """Print the head of a listener's list; raises `ReportError` for an unknown listener."""
    row = table.personal_row(user)
    if row is None:
        raise ReportError(f"listener {user} is not in the table")
    _list(console, table, f"for listener {user}", row, rows)


def _list(console: Console, table: Table, title: str, row: Row, rows: int) -> None:
    grid = _grid("share", "track", "title", "artist", "plays", "mean time")
    total = float(row.weights.sum(dtype=float))
    for index, weight in list(zip(row.indices.tolist(), row.weights.tolist(), strict=True))[:rows]:
        grid.add_row(
            f"{weight / total:.2%}",
            str(table.tracks[index]),
            Text(table.title(index)),
            Text(table.artist_name(index)),
            f"{table.plays[index]:,}",
            f"{table.mean_time[index]:.2f}",
        )
    console.print(Text(f"{title}; {len(row.indices)} tracks", style="bold"))
    console.print(grid)


def _errors(metrics: dict[str, float], speed: dict[str, float]) -> Grid:
    columns = ("mse_constant", "mse_right_mean", "mse_effects", "mse")
    heads = ("constant", "track mean", "effects", "model")
    grid = _grid("validation error", *heads, "epochs", "rows a second")
    for model, rate in speed.items():
        values = (metrics.get(f"{model}_{column}") for column in columns)
        cells = ["-" if value is None else f"{value:.5f}" for value in values]
        grid.add_row(model, *cells, f"{metrics[f'{model}_epochs']:.0f}", f"{rate:,.0f}")
    return grid


def _foreseen(metrics: dict[str, float]) -> Grid:
    """Show how calibrated the session model is: what came, by tenths of what it foresaw."""
    tenths = range(1, 1 + sum(name.endswith("_foreseen") for name in metrics))
    grid = _grid("session model", *map(str, tenths))
    for name in ("foreseen", "heard"):
        grid.add_row(name, *(f"{metrics[f'session_tenth_{n}_{name}']:.2f}" for n in tenths))
    return grid


def _pair(metrics: dict[str, float], one: str, other: str) -> str:
    return f"{metrics[one]:,.0f} / {metrics[other]:,.0f}"


def _grid(*heads: str) -> Grid:
    grid = Grid(box=None, show_header=any(heads), pad_edge=False)
    for head in heads:
        grid.add_column(head)
    return grid
