"""The events of an experiment as columns: what a report needs, and a trainer does not."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from precompute.errors import LogError
from precompute.lines import PARQUET, numbered
from precompute.log import files
from precompute.log_blocks import MAX_ID, MAX_TIMESTAMP

__all__ = ["Events", "read"]

IDLE_MS = 30 * 60_000
"""Where events do not name their session, a longer silence than this ends it."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """The events of a log by listener, session, and time; all arrays are `[rows]`."""

    timestamp: Array
    """int64, milliseconds since 1970."""
    user: Array
    """int64, the listener's id."""
    session: Array
    """int64: number of the session, 0 to s-1, ascending."""
    track: Array
    """int64: what was heard."""
    time: Array
    """float64, 0 to 1: how much of it."""
    is_last: Array
    """bool: this event ended the session."""
    recommendation: Array
    """int64: what was served next; -1 where nothing was."""
    propensity: Array
    """float64: the probability with which it was served; NaN where it was not logged."""
    latency: Array
    """float64, seconds; NaN where it was not logged."""
    treatment: Array
    """int32: index into `treatments`; -1 where the event is not part of the experiment."""
    treatments: tuple[str, ...]
    """The names found in the log, in natural order (T2 before T10)."""

    def __len__(self) -> int:
        return len(self.user)


def read(
    paths: Path | Iterable[Path],
    experiment: str | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Events:
    """Read JSON lines, and say for each event which treatment of `experiment` it had.

    Paths are files, compressed or not, or directories of them. Events of a listener who
    asked to be forgotten later are left out. Raises `LogError`, with file and line, for a
    line that is no event, and when there is none at all.
    """
    rows: list[tuple[Any, ...]] = []
    forgotten: dict[int, int] = {}
    for path in files([paths] if isinstance(paths, Path) else paths):
        for number, line in _lines(path, on_bytes):
            if b'"forget"' in line and (asked := _forget(line)) is not None:
                forgotten[asked[1]] = max(asked[0], forgotten.get(asked[1], 0))
            else:
                rows.append(_row(path, number, line, experiment))
    rows = [row for row in rows if row[0] > forgotten.get(row[1], -1)]
    if not rows:
        raise LogError("there is no event in the log")
    return _arrange(rows)


def _lines(path: Path, on_bytes: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    if path.suffix in PARQUET:
        raise LogError(f"{path} is Parquet; a report reads JSON lines")
    try:
        yield from numbered(path, on_bytes)
    except (OSError, ValueError) as error:
        raise LogError(f"{path} cannot be read: {error}") from error


def _forget(line: bytes) -> tuple[int, int] | None:
    """Return when which listener asked to be forgotten; None for any other event."""
    try:
        event = orjson.loads(line)
        found = int(event["timestamp"]), int(event["user"])
        return found if event["message"] == "forget" else None
    except (ValueError, KeyError, TypeError):
        return None


def _row(path: Path, number: int, line: bytes, experiment: str | None) -> tuple[Any, ...]:
    try:
        event = orjson.loads(line)
        experiments = event.get("experiments")
        return (
            round(_number(event, "timestamp", MAX_TIMESTAMP)),
            _id(event, "user"),
            _id(event, "track"),
            _number(event, "time", 1),
            _is_last(event),
            _served(event),
            _measured(event, "propensity"),
            _measured(event, "latency"),
            experiments.get(experiment) if experiments else None,
            _session(event),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise LogError(f"{path}:{number}: not an event: {error}") from error


def _id(event: dict[str, Any], name: str) -> int:
    value: Any = event.get(name)
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise ValueError(f"{name} is missing or not an integer in 0..2^63-1")
    return value


def _served(event: dict[str, Any]) -> int:
    value: Any = event.get("recommendation")
    if value is None or (type(value) is int and value < 0):
        return -1
    return _id(event, "recommendation")


def _number(event: dict[str, Any], name: str, most: int) -> float:
    value: Any = event.get(name)
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise ValueError(f"{name} is missing or not a number in 0..{most}")
    return float(value)


def _measured(event: dict[str, Any], name: str) -> float:
    """Return a number that not every service logs; NaN where this one did not."""
    value: Any = event.get(name)
    if value is None:
        return np.nan
    if type(value) not in (int, float):
        raise ValueError(f"{name} is not a number")
    return float(value)


def _is_last(event: dict[str, Any]) -> bool:
    if event.get("message") not in ("next", "last"):
        raise ValueError('message is neither "next" nor "last"')
    return bool(event["message"] == "last")


def _session(event: dict[str, Any]) -> str | int | None:
    value = event.get("session")
    if value is not None and not isinstance(value, str | int):
        raise ValueError("session is neither a name nor a number")
    return value


def _arrange(rows: list[tuple[Any, ...]]) -> Events:
    columns = list(zip(*rows, strict=True))
    kinds = (np.int64, np.int64, np.int64, np.float64, np.bool_, np.int64, np.float64, np.float64)
    names = (
        "timestamp",
        "user",
        "track",
        "time",
        "is_last",
        "recommendation",
        "propensity",
        "latency",
    )
    data: dict[str, Array] = {
        name: np.array(column, dtype=kind)
        for name, kind, column in zip(names, kinds, columns, strict=False)
    }
    treatments = tuple(sorted({str(t) for t in columns[8] if t is not None}, key=_natural))
    codes: dict[Any, int] = {name: code for code, name in enumerate(treatments)}
    data["treatment"] = np.array(
        [-1 if t is None else codes[str(t)] for t in columns[8]], dtype=np.int32
    )
    ids: dict[Any, int] = {None: -1}
    named = np.array([ids.setdefault(s, len(ids) - 1) for s in columns[9]], dtype=np.int64)
    order = np.lexsort((data["timestamp"], data["user"]))  # stable
    data = {name: column[order] for name, column in data.items()}
    session = _sessions(data, named[order])
    order = np.argsort(session, kind="stable")
    data = {name: column[order] for name, column in data.items()}
    return Events(session=session[order], treatments=treatments, **data)


def _sessions(data: dict[str, Array], named: Array) -> Array:
    """Number the sessions of events that are sorted by listener, then time.

    A session is all events of a listener that name it; of those that name none, a run
    without a `last`, a silence, or a named event in it.
    """
    user, nameless = data["user"], named < 0
    begins = np.ones(len(user), dtype=bool)
    begins[1:] = (
        (user[1:] != user[:-1])
        | data["is_last"][:-1]
        | (np.diff(data["timestamp"]) > IDLE_MS)
        | ~nameless[:-1]
    )
    # A session is told by its listener and a number: its name's, or that of its run.
    label = np.where(nameless, -np.cumsum(begins), named)
    pairs = np.stack([user, label], axis=1)
    _, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return np.asarray(rank[inverse.ravel()])


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts T2 before T10."""
    parts: list[tuple[int, str]] = []
    digits = ""
    for character in name + "\0":
        if character.isdecimal():
            digits += character
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((-1, character))
    return parts
