"""What a person reads of an artifact: its manifest, and lists with names."""

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from precompute.errors import ReportError
from recsvc.artifact import Manifest
from recsvc.table import Row, Table

__all__ = ["grid_of", "manifest", "neighbours", "personal"]


def manifest(console: Console, found: Manifest) -> None:
    """Print an artifact's manifest, without the checksums of its chunks."""
    grid = grid_of("", "")
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
    grid = grid_of("share", "track", "title", "artist", "plays", "mean time")
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


def grid_of(*heads: str) -> Grid:
    """Return a grid with these headings, or without any where they are empty."""
    grid = Grid(box=None, show_header=any(heads), pad_edge=False)
    for head in heads:
        grid.add_column(head)
    return grid
