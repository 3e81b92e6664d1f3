"""Some megabytes of a log at a time, from a file to columns.

JSON is parsed a block at a time by pyarrow, which gives up on a whole block for one bad
line; only such a block is then read line by line, to find out which lines are bad.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet

from precompute.lines import blocks

__all__ = ["Block", "Broken", "json_blocks", "parquet_blocks"]

Array = npt.NDArray[Any]

BLOCK_ROWS = 1 << 18
SAMPLES = 20
MAX_ID = 2**63 - 1
MAX_TIMESTAMP = 1 << 53  # beyond it a JSON number is no longer exact

_SCHEMA = pa.schema(
    [
        # Some writers give milliseconds as a float; both arrive as this.
        ("timestamp", pa.float64()),
        ("user", pa.int64()),
        ("track", pa.int64()),
        ("time", pa.float64()),
        ("message", pa.string()),
        ("recommendation", pa.int64()),
    ]
)
_REQUIRED = ("timestamp", "user", "track", "time", "message")


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that was left out, and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The good events of one block, and the first of its broken lines."""

    KINDS: ClassVar[dict[str, type]] = {
        "timestamp": np.int64,
        "user": np.int64,
        "track": np.int64,
        "time": np.float32,
        "is_last": np.bool_,
        "recommendation": np.int64,
        "forgotten": np.int64,
        "forgotten_at": np.int64,
    }

    timestamp: Array
    user: Array
    track: Array
    time: Array
    is_last: Array
    recommendation: Array
    forgotten: Array
    """Listeners who asked to be forgotten, and beside it the timestamps of when they did."""
    forgotten_at: Array
    lines: int
    broken: int
    samples: list[Broken]


def json_blocks(path: Path, on_bytes: Callable[[int], None]) -> Iterator[Block]:
    """Read a file of JSON lines, compressed or not, block by block."""
    first = 1
    for text in blocks(path, on_bytes):
        yield _json_block(text, str(path), first)
        first += text.count(b"\n")


def parquet_blocks(path: Path, on_bytes: Callable[[int], None]) -> Iterator[Block]:
    """Read a Parquet file with the same columns; a broken row's line is its number from 1.

    A timestamp may be of a timestamp type too, and NaN is as good as null. Raises
    `ValueError` when a required column is missing or of another type.
    """
    file = pa.parquet.ParquetFile(path)
    names = [name for name in _SCHEMA.names if name in file.schema_arrow.names]
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    first, rows, size = 1, max(file.metadata.num_rows, 1), path.stat().st_size
    for batch in file.iter_batches(BLOCK_ROWS, columns=names):
        table = pa.table({field.name: _column(batch, field) for field in _SCHEMA})
        yield _select(table, str(path), first)
        first += len(batch)
        on_bytes(size * len(batch) // rows)


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name not in batch.schema.names:
        return pa.nulls(len(batch), field.type)
    column = batch.column(field.name)
    try:
        return _plain(column).cast(field.type)
    except pa.ArrowException as error:
        raise ValueError(f"column {field.name} of type {column.type}: {error}") from error


def _plain(column: pa.Array) -> pa.Array:
    """Return moments as milliseconds (UTC where there is no zone), and NaN as null."""
    if pa.types.is_timestamp(column.type):
        milliseconds = pa.timestamp("ms", column.type.tz)
        options = pc.CastOptions(milliseconds, allow_time_truncate=True)
        return pc.cast(column, options=options).cast(pa.int64())
    if pa.types.is_floating(column.type):  # pandas writes integers so, where one is missing
        return pc.if_else(pc.is_nan(column), None, column)
    return column


def _json_block(text: bytes, file: str, first: int) -> Block:
    options = pa.json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    reading = pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    try:
        table = pa.json.read_json(io.BytesIO(text), reading, options)
    except (pa.ArrowException, ValueError):
        return _line_by_line(text, file, first)
    if len(table) != text.count(b"\n"):  # blank lines, or two objects on one
        return _line_by_line(text, file, first)
    return _select(table, file, first)


def _select(table: pa.Table, file: str, first: int) -> Block:
    """Keep the valid rows of a table of `_SCHEMA`; row 0 is line `first`."""
    message = table["message"]
    timestamp = _numbers(table["timestamp"], np.nan)
    time = _numbers(table["time"], np.nan)
    user, track = _numbers(table["user"], -1), _numbers(table["track"], -1)
    is_last = _booleans(pc.equal(message, "last"))
    forget = _booleans(pc.equal(message, "forget")) & (timestamp >= 0) & (user >= 0)
    bad = {
        "timestamp is missing or not milliseconds": ~(
            (timestamp >= 0) & (timestamp < MAX_TIMESTAMP)
        ),
        "user is missing or not in 0..2^63-1": user < 0,
        "track is missing or not in 0..2^63-1": track < 0,
        "time is missing or not in 0..1": ~((time >= 0) & (time <= 1)),
        'message is neither "next" nor "last"': ~(is_last | _booleans(pc.equal(message, "next"))),
    }
    wrong = np.logical_or.reduce(list(bad.values())) & ~forget
    good = ~(wrong | forget)
    samples = [
        Broken(file, first + int(row), next(why for why, rows in bad.items() if rows[row]))
        for row in np.flatnonzero(wrong)[:SAMPLES]
    ]
    return Block(
        timestamp=np.rint(timestamp[good]).astype(np.int64),
        user=user[good],
        track=track[good],
        time=time[good].astype(np.float32),
        is_last=is_last[good],
        recommendation=np.maximum(_numbers(table["recommendation"], -1)[good], -1),
        forgotten=user[forget],
        forgotten_at=np.rint(timestamp[forget]).astype(np.int64),
        lines=len(table),
        broken=int(wrong.sum()),
        samples=samples,
    )


def _numbers(column: pa.ChunkedArray, missing: float) -> Array:
    return np.asarray(column.fill_null(missing).to_numpy())


def _booleans(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.fill_null(False).to_numpy())


def _line_by_line(text: bytes, file: str, first: int) -> Block:
    """Read a block that has a bad line; blank lines do not count."""
    rows: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
    numbers, samples, lines = [], [], 0
    for number, line in enumerate(text.split(b"\n"), first):
        if not line.strip():
            continue
        lines += 1
        reason = _take(line, rows)
        if reason is None:
            numbers.append(number)
        else:
            samples.append(Broken(file, number, reason))
    table = pa.table([pa.array(rows[field.name], field.type) for field in _SCHEMA], schema=_SCHEMA)
    block = _select(table, file, 0)
    # `_select` counted rows; the lines that did not parse stand between them.
    samples += [Broken(file, numbers[sample.line], sample.reason) for sample in block.samples]
    samples.sort(key=lambda sample: sample.line)
    broken = block.broken + lines - len(table)
    good = {name: getattr(block, name) for name in Block.KINDS}
    return Block(**good, lines=lines, broken=broken, samples=samples[:SAMPLES])


def _take(line: bytes, rows: dict[str, list[Any]]) -> str | None:
    """Add one event's fields to `rows`, or return why it is none."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "not JSON"
    if not isinstance(event, dict):
        return "not a JSON object"
    values: dict[str, Any] = {name: event.get(name) for name in rows}
    for name in ("user", "track", "recommendation"):
        if not _is_integer(values[name]) and values[name] is not None:
            return f"{name} is not an integer in 0..2^63-1"
    for name in ("timestamp", "time"):
        if isinstance(values[name], bool) or not isinstance(values[name], int | float | None):
            return f"{name} is not a number"
        if values[name] is not None:
            values[name] = float(values[name])
    if not isinstance(values["message"], str):
        return 'message is neither "next" nor "last"'
    for name, value in values.items():
        rows[name].append(value)
    return None


def _is_integer(value: object) -> bool:
    """Tell whether an integer fits a column; whether it is an id, `_select` says."""
    return type(value) is int and -MAX_ID - 1 <= value <= MAX_ID
