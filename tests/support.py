"""Small real tables and plans that tests share."""

import time
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from recsvc.candidates import Candidates
from recsvc.outage.record import Numbered, Record
from recsvc.policy import CONTEXTUAL, PERSONAL, POPULAR, Draw, Plan, Pool, Routes
from recsvc.redis.commands import Client
from recsvc.redis.script import Script
from recsvc.session import Claim, Report
from recsvc.table import Table, Text

__all__ = [
    "NOW",
    "SET_BITS",
    "claim",
    "command",
    "of",
    "pool",
    "record",
    "small_table",
    "three_pools",
]


class Moment:
    """When a test began, in Unix milliseconds; what it records is of that time."""

    def __init__(self) -> None:
        self.ms = 0

    def begin(self) -> None:
        """Begin a test: a replay looks for events around the time of a record."""
        self.ms = int(time.time() * 1000)


NOW = Moment()
"""When the tests began, in Unix milliseconds."""

SET_BITS = (
    Script("heard.lua").text
    + "local _, set_bits = long_session('', KEYS[1]) set_bits(ARGV[1], true)"
)
"""A script that notes tracks, 8 bytes each and not above a thousand, in the bitmap of a session."""


def small_table(n: int = 12, *, first: int = 0, users: tuple[int, ...] = (1, 2)) -> Table:
    """A table of tracks first..first+n-1: neighbours are the next five, round and round.

    Three artists take turns. Popular are the first three; listener u's list is the tracks
    from index u on, four of them.
    """
    names = Text.of(["Ada", "Bo", "Cy"])
    titles = Text.of([f"Song {i}" for i in range(n)])
    near = [[(i + step) % n for step in range(1, min(5, n - 1) + 1)] for i in range(n)]
    width = len(near[0]) if n else 0
    own = [[(u + step) % n for step in range(min(4, n))] for u in users]
    weights = [float(width - i) for i in range(width)] * n
    return Table(
        tracks=np.arange(first, first + n, dtype=np.int64),
        artist=(np.arange(n) % 3).astype(np.int32),
        artist_name_offsets=names.offsets,
        artist_names=names.block,
        title_offsets=titles.offsets,
        titles=titles.block,
        neighbour_offsets=np.arange(n + 1, dtype=np.int64) * width,
        neighbours=np.array(near, dtype=np.int32).ravel(),
        neighbour_weights=np.array(weights, dtype=np.float32),
        top=np.array(near, dtype=np.int32).ravel(),
        top_weights=np.array(weights, dtype=np.float32),
        popular=np.arange(min(3, n), dtype=np.int32),
        popular_weights=np.array([3.0, 2.0, 1.0][: min(3, n)], dtype=np.float32),
        users=np.array(users, dtype=np.int64),
        personal_offsets=np.arange(len(users) + 1, dtype=np.int64) * min(4, n),
        personal=np.array(own, dtype=np.int32).ravel(),
        personal_weights=np.ones(len(users) * min(4, n), dtype=np.float32),
        plays=np.arange(n, 0, -1, dtype=np.int32),
        mean_time=np.full(n, 0.5, dtype=np.float32),
    )


def pool(
    name: str, weights: dict[int, float], pick: int = 0, spare: float = 0.0, *, memory: bool = True
) -> Pool:
    """A pool of tracks with weights, and the draws made for it: those that pick this index."""
    candidates = Candidates(list(weights), list(weights.values()))
    before = [0.0, *candidates.cumulative]
    chance = (before[pick] + before[pick + 1]) / 2 / candidates.total if weights else 0.0
    return Pool(name, candidates, Draw(chance, spare), memory)


def three_pools(*, pick: int = 0, spare: float = 0.0) -> Plan:
    """A plan like the ensemble's: tracks 10.., 20.., 30.., two of each, weights 1 and 3."""
    names = {CONTEXTUAL: 10, PERSONAL: 20, POPULAR: 30}
    pools = tuple(pool(n, {b: 1.0, b + 1: 3.0}, pick, spare) for n, b in names.items())
    routes = {CONTEXTUAL: (0, 1, 2), PERSONAL: (1, 0, 2), None: (0, 1, 2)}
    return Plan(pools, Routes(routes))


def claim(
    plan: Plan, *, user: int = 1, track: int = 5, time: float = 0.5, key: str | None = None
) -> Claim:
    """A claim as the service makes it, under table version `v1`."""
    report = Report(user, track, time, "request", key)
    return Claim(report, plan, True, 1_700_000_000_000, "ensemble", "v1", {"user": user})


async def command(client: Client, *words: object) -> Any:
    """Send any command: tests look and meddle where the service never does."""
    return await cast("Any", client).execute_command(*words)


def of(source: str, records: Sequence[tuple[int, Record]]) -> list[Numbered]:
    """Records with their numbers, as they come from a source."""
    return [Numbered(source, number, one) for number, one in records]


def record(
    served: int | None,
    *,
    track: int = 5,
    user: int = 1,
    at: int | None = None,
    version: str = "v1",
    name: str = "0123456789abcdef",
    **more: Any,
) -> Record:
    """A record as a worker keeps it: an answer, or with no track the end of a session."""
    event = {
        "id": name,
        "timestamp": NOW.ms if at is None else at,
        "message": "last" if served is None else "next",
        "user": user,
        "track": track,
        "time": 0.5,
        "request_id": "request",
        "policy": "ensemble",
        "table_version": version,
        "experiments": {},
    }
    values = {"known": True, "field": "", "recommender": "contextual", "propensity": 0.25}
    return Record(event, track=served, **{**values, **more})
