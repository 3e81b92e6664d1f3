"""Plays as a listening log: the events a service would have written, on a simulated clock."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet

from precompute.lines import PARQUET
from precompute.simulation.batch import Plays
from precompute.simulation.listener import uniform
from precompute.simulation.world import World

__all__ = ["START", "columns", "write_catalogue", "write_log"]

START = 1_767_225_600_000
"""The clock begins at 2026-01-01 00:00 UTC, in milliseconds."""

_DAY = 86_400_000
_TRACK = 180_000  # milliseconds that a track lasts when heard in full
_PAUSE = 500  # milliseconds between tracks
_SPREAD = 8 * 3_600_000  # sessions begin in the first hours of a day, and end within it
_CLOCK = 1 << 32  # counter of the draw for a session's hour; no step reaches it

Array = npt.NDArray[Any]


def columns(world: World, plays: Plays) -> dict[str, Array]:
    """Return one entry an event, ordered by time, for all that the clock and plays tell.

    `timestamp` (ms), `user`, `track`, `time`, `last` (bool), `recommendation` (-1 in a
    last event), `session` (row in `plays`), `position` (0 for the first track). The
    sessions of a listener lie a day apart.
    """
    heard = plays.tracks >= 0
    session, position = np.nonzero(heard)
    plan = plays.sessions
    began = START + plan.numbers * _DAY
    began = began + (uniform(plan.keys, _CLOCK) * _SPREAD).astype(np.int64)
    elapsed = np.cumsum(np.round(plays.times * _TRACK).astype(np.int64) + _PAUSE, axis=1)
    timestamp = began[session] + elapsed[session, position]
    order = np.argsort(timestamp, kind="stable")
    session, position = session[order], position[order]
    last = position == plays.lengths[session] - 1
    following = np.minimum(position + 1, plays.tracks.shape[1] - 1)
    tracks = world.catalogue.tracks
    return {
        "timestamp": timestamp[order],
        "user": world.listeners.users[plan.listeners][session],
        "track": tracks[plays.tracks[session, position]],
        "time": np.round(plays.times[session, position].astype(np.float64), 2),
        "last": last,
        "recommendation": np.where(last, -1, tracks[plays.tracks[session, following]]),
        "session": session,
        "position": position,
    }


def write_log(
    path: Path,
    world: World,
    plays: Plays,
    *,
    policy: str,
    propensity: float | None = None,
    experiments: Mapping[str, str] | None = None,
) -> int:
    """Write plays as a log, Parquet where `path` ends so, else JSON lines; return how many events.

    `propensity` is the probability with which each recommendation was drawn, where known.
    `experiments` (JSON lines only) are the treatments that all listeners are said to have.
    """
    data = columns(world, plays)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in PARQUET:
        _write_parquet(path, data, plays, policy, propensity)
    else:
        with path.open("wb") as file:
            file.writelines(_json_lines(data, plays, policy, propensity, experiments or {}))
    return len(data["timestamp"])


def write_catalogue(path: Path, world: World) -> None:
    """Write the catalogue as a service may know it: `{"track", "artist", "title"}` a line."""
    catalogue = world.catalogue
    rows = zip(catalogue.tracks.tolist(), catalogue.artist.tolist(), catalogue.titles, strict=True)
    with path.open("wb") as file:
        for track, artist, title in rows:
            record = {"track": track, "artist": catalogue.artist_names[artist], "title": title}
            file.write(orjson.dumps(record) + b"\n")


def _session_names(data: dict[str, Array], plays: Plays) -> list[str]:
    numbers = plays.sessions.numbers[data["session"]].tolist()
    return [f"{user}-{number}" for user, number in zip(data["user"].tolist(), numbers, strict=True)]


def _json_lines(
    data: dict[str, Array],
    plays: Plays,
    policy: str,
    propensity: float | None,
    experiments: Mapping[str, str],
) -> Iterator[bytes]:
    # Plain lists and one dictionary a line: orjson's own speed is then the limit.
    names = ("timestamp", "user", "track", "time", "last", "recommendation", "position")
    rows = zip(*(data[name].tolist() for name in names), _session_names(data, plays), strict=True)
    for timestamp, user, track, time, last, recommendation, position, session in rows:
        yield (
            orjson.dumps(
                {
                    "timestamp": timestamp,
                    "user": user,
                    "track": track,
                    "time": time,
                    "message": "last" if last else "next",
                    "recommendation": None if last else recommendation,
                    "experiments": experiments,
                    "policy": policy,
                    "recommender": policy,
                    "propensity": None if last else propensity,
                    "session": session,
                    "position": position,
                }
            )
            + b"\n"
        )


def _write_parquet(
    path: Path, data: dict[str, Array], plays: Plays, policy: str, propensity: float | None
) -> None:
    last = data["last"]
    size = len(last)
    chance = np.full(size, np.nan if propensity is None else propensity)
    table = pa.table(
        {
            "timestamp": data["timestamp"],
            "user": data["user"],
            "track": data["track"],
            "time": data["time"],
            "message": np.where(last, "last", "next"),
            "recommendation": pa.array(data["recommendation"], mask=last),
            "policy": pa.repeat(policy, size),
            "recommender": pa.repeat(policy, size),
            "propensity": pa.array(chance, mask=last | np.isnan(chance)),
            "session": _session_names(data, plays),
            "position": data["position"],
        }
    )
    pyarrow.parquet.write_table(table, path)
