"""A listening log as columns, read from JSON lines or Parquet.

One event says that a listener has heard `time` (0 to 1) of a track. Lines that are
broken are counted, reported with their line numbers and left out, up to a limit.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from precompute.errors import LogError
from precompute.lines import PARQUET
from precompute.log_blocks import Block, Broken, json_blocks, parquet_blocks

__all__ = ["Broken", "Log", "Settings", "read"]

Array = npt.NDArray[Any]

_JSON = (".json", ".jsonl", ".ndjson", ".log", ".gz", ".zst", ".bz2", ".lz4")


@dataclass(frozen=True, slots=True)
class Settings:
    """How much of a log may be broken before it is refused."""

    broken_share: float = 0.01
    """Refuse the log when more than this share of its lines is broken ..."""
    broken_always: int = 10
    """... and more than so many: a short log with one cut line is still good."""


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """The events of a log, one a row, in the order of the files; all arrays are `[rows]`."""

    timestamp: Array
    """int64, milliseconds since 1970."""
    user: Array
    """int64, 0 to 2^63 - 1."""
    track: Array
    """int64, 0 to 2^63 - 1: what was heard."""
    time: Array
    """float32, 0 to 1: how much of it."""
    is_last: Array
    """bool: this event ended the session."""
    recommendation: Array
    """int64: what was answered; -1 where nothing was."""
    lines: int = 0
    """Lines or Parquet rows read, blank ones not counted."""
    broken: int = 0
    """How many of them were left out."""
    samples: tuple[Broken, ...] = ()
    """The first 20 of the broken ones."""
    forgotten: int = 0
    """Events dropped because their listener asked to be forgotten later."""

    def __len__(self) -> int:
        return len(self.user)


def read(
    paths: Path | Iterable[Path],
    settings: Settings | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Log:
    """Read files, and the log files of directories in the order of their names.

    A file is JSON lines, compressed if its name ends in .gz, .zst, .bz2 or .lz4, or
    Parquet when its name ends in .parquet or .pq. Keys other than those of `Log` are
    ignored, and a negative recommendation is none. A line of `timestamp`, `user` and the
    message `forget` drops the listener's events up to then.
    `on_bytes` is told how many bytes of the files have been read since the last call.
    Raises `LogError` when a file cannot be read, when too many lines are broken, and
    when no event is left.
    """
    settings = settings or Settings()
    blocks: list[Block] = []
    for path in files([paths] if isinstance(paths, Path) else paths):
        read_blocks = parquet_blocks if path.suffix in PARQUET else json_blocks
        try:
            blocks.extend(read_blocks(path, on_bytes))
        except (OSError, EOFError, ValueError, pa.ArrowException) as error:
            raise LogError(f"{path} cannot be read: {_one_line(error)}") from error
    log = _join(blocks)
    allowed = max(settings.broken_always, int(settings.broken_share * log.lines))
    broken = f"{log.broken:,} of {log.lines:,} lines are broken"
    first = f"; the first is {log.samples[0]}" if log.broken else ""
    if log.broken > allowed:
        raise LogError(f"{broken}, and {allowed:,} are allowed{first}")
    if not len(log):
        why = f": {broken}{first}" if log.broken else ""
        raise LogError(f"there is no event in the log{why}")
    return log


def files(paths: Iterable[Path]) -> list[Path]:
    """Return the files themselves and the log files inside the directories, sorted.

    Raises `LogError` for a path that does not exist and a directory without a log.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and _is_log(p))
            if not inside:
                raise LogError(f"{path} holds no log: no .jsonl, .json, .log or .parquet file")
            found.extend(inside)
        elif path.exists():
            found.append(path)
        else:
            raise LogError(f"{path} does not exist")
    return found


def _is_log(path: Path) -> bool:
    return path.suffix in PARQUET + _JSON and not path.name.startswith((".", "_"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _join(blocks: list[Block]) -> Log:
    columns = {
        name: np.concatenate([getattr(block, name) for block in blocks] or [np.zeros(0, kind)])
        for name, kind in Block.KINDS.items()
    }
    samples = [sample for block in blocks for sample in block.samples]
    kept = ~_forgotten(columns)
    del columns["forgotten"], columns["forgotten_at"]
    return Log(
        **{name: column[kept] for name, column in columns.items()},
        forgotten=int((~kept).sum()),
        lines=sum(block.lines for block in blocks),
        broken=sum(block.broken for block in blocks),
        samples=tuple(samples[:20]),
    )


def _forgotten(columns: dict[str, Array]) -> Array:
    """Tell of each event whether its listener asked to be forgotten at that time or later.

    The last such request of a listener counts, wherever in the files it stands.
    """
    order = np.lexsort((columns["forgotten_at"], columns["forgotten"]))
    users, at = columns["forgotten"][order], columns["forgotten_at"][order]
    if not len(users):
        return np.zeros(len(columns["user"]), bool)
    last = np.searchsorted(users, columns["user"], side="right") - 1
    asked = (last >= 0) & (users[last] == columns["user"])
    return np.asarray(asked & (columns["timestamp"] <= at[last]))
