"""The driver over HTTP: many listeners at once, against any service with the API.

The service learns what the API tells it and no more: which track a listener has just heard,
and how much of it. Everything else stays here.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson

from precompute.simulation.batch import Plays
from precompute.simulation.client import Answer, Client, RequestError
from precompute.simulation.listener import (
    MAX_STEPS,
    Sessions,
    affinity,
    begin,
    budget_draws,
    heard_time,
)
from precompute.simulation.world import World

__all__ = ["Driven", "drive"]

Array = npt.NDArray[Any]

# What an answer may say about itself, and an event log should keep: of the session, which
# the last event is part of though its answer says nothing, and of the recommendation.
_OF_SESSION = ("experiments", "policy", "table_version")
_OF_RECOMMENDATION = ("recommender", "propensity")


@dataclass(frozen=True, slots=True, eq=False)
class Driven:
    """What came of a drive. Sessions that failed are counted, and are not in `plays`."""

    plays: Plays
    latencies: Array
    """`[s, c]` float32: seconds that the answer about each heard track took; NaN behind."""
    failures: tuple[str, ...]
    """Why sessions failed, one message each."""
    requests: int
    seconds: float


@dataclass(slots=True)
class _Tally:
    tracks: Array
    times: Array
    latencies: Array
    completed: Array
    failures: list[str] = field(default_factory=list)
    requests: int = 0
    done: int = 0


async def drive(
    world: World,
    client: Client,
    *,
    seed: int,
    listeners: Array | None = None,
    sessions: int = 1,
    concurrency: int = 1000,
    max_steps: int = MAX_STEPS,
    log: BinaryIO | None = None,
    progress: Callable[[int], None] | None = None,
) -> Driven:
    """Let `listeners` (rows; all by default) have so many `sessions` each with a service.

    At most `concurrency` listeners are in a session at a time; the sessions of one listener
    follow each other. With a `log`, each event is written to it as JSON, a line each, with
    the latency seen from here. `progress` hears how many sessions are done.
    """
    rows = np.arange(len(world.listeners)) if listeners is None else np.asarray(listeners)
    plan = begin(world, np.repeat(rows, sessions), np.tile(np.arange(sessions), len(rows)), seed)
    shape = (len(plan), max_steps + 1)
    tally = _Tally(
        tracks=np.full(shape, -1, dtype=np.int32),
        times=np.zeros(shape, dtype=np.float32),
        latencies=np.full(shape, np.nan, dtype=np.float32),
        completed=np.zeros(len(plan), dtype=np.bool_),
    )
    queue = iter(range(0, len(plan), sessions))
    started = time.perf_counter()

    async def work(queue: Iterator[int]) -> None:
        for first in queue:
            for row in range(first, first + sessions):
                await _session(world, client, plan, row, tally, log=log)
                tally.done += 1
                if progress is not None:
                    progress(tally.done)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(rows))):
            group.create_task(work(queue))
    return _driven(plan, tally, time.perf_counter() - started)


def _driven(plan: Sessions, tally: _Tally, seconds: float) -> Driven:
    whole = tally.completed
    longest = max(int((tally.tracks[whole] >= 0).sum(axis=1).max(initial=1)), 1)
    return Driven(
        plays=Plays(plan[whole], tally.tracks[whole, :longest], tally.times[whole, :longest]),
        latencies=tally.latencies[whole, :longest],
        failures=tuple(tally.failures),
        requests=tally.requests,
        seconds=seconds,
    )


async def _session(
    world: World, client: Client, plan: Sessions, row: int, tally: _Tally, *, log: BinaryIO | None
) -> None:
    """Play one session to its end, and note it; a failure ends it and is noted instead."""
    mind = _Mind(world, plan, row, tally.tracks.shape[1] - 1)
    user = int(world.listeners.users[plan.listeners[row]])
    session = f"{user}-{plan.numbers[row]}"
    about: dict[str, Any] = {}
    try:
        for position in range(tally.tracks.shape[1]):
            tally.tracks[row, position], tally.times[row, position] = mind.index, mind.time
            message = "last" if mind.finished else "next"
            heard = {"track": mind.track, "time": mind.time}
            answer = await client.post(f"/{message}/{user}", orjson.dumps(heard))
            tally.requests += 1
            tally.latencies[row, position] = answer.seconds
            content = _content(answer)
            if log is not None:
                event = {"user": user, **heard, "message": message, "latency": answer.seconds}
                event |= {"session": session, "position": position}
                about |= _about(content, message)
                log.write(_line(event, content, about))
            if mind.finished:
                break
            mind.hear(content.get("track"))
        tally.completed[row] = True
    except RequestError as error:
        tally.failures.append(f"session {session}: {error}")


class _Mind:
    """One listener in one session: the model of `listener`, a track at a time."""

    __slots__ = (
        "_artists",
        "_budget",
        "_draws",
        "_heard",
        "_left",
        "_step",
        "_taste",
        "_traits",
        "_world",
        "index",
        "time",
        "track",
    )

    def __init__(self, world: World, plan: Sessions, row: int, max_steps: int) -> None:
        people, who = world.listeners, plan.listeners[row]
        self._world = world
        self._taste = world.embeddings[plan.interests[row]]
        self._traits = tuple(
            float(trait[who]) for trait in (people.bias, people.sharpness, people.gamma)
        )
        self._budget = int(people.budget[who])
        self._draws = budget_draws(plan.keys[row], np.arange(max_steps)).tolist()
        self._step, self._left = 0, max_steps
        self._heard: set[int] = set()
        self._artists: dict[int, int] = {}
        self._play(int(plan.first[row]), 1.0)

    @property
    def finished(self) -> bool:
        """Whether the session is over, so that its last track is to be reported."""
        return self._budget <= 0 or self._step == self._left

    def hear(self, track: object) -> None:
        """Hear a recommended track; raises `RequestError` for what is not one."""
        index = self._index(track)
        time = heard_time(
            float(affinity(self._world.embeddings[index], self._taste)),
            *self._traits,
            plays=self._artists.get(int(self._world.catalogue.artist[index]), 0),
            repeat=index in self._heard,
        )
        self._play(index, float(time))
        self._budget -= self._draws[self._step] >= self.time
        self._step += 1

    def _play(self, index: int, time: float) -> None:
        self.index, self.time = index, time
        self.track = int(self._world.catalogue.tracks[index])
        artist = int(self._world.catalogue.artist[index])
        self._heard.add(index)
        self._artists[artist] = self._artists.get(artist, 0) + 1

    def _index(self, track: object) -> int:
        if type(track) is not int or not 0 <= track < 2**63:
            raise RequestError(f"the answer has no track: {track!r}")
        index = int(self._world.catalogue.index(np.array([track]))[0])
        if index < 0:
            raise RequestError(f"track {track} is not in the catalogue")
        return index


def _content(answer: Answer) -> dict[str, Any]:
    if answer.status >= 300:
        raise RequestError(f"status {answer.status}: {answer.body[:200].decode(errors='replace')}")
    try:
        content = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the answer is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise RequestError("the answer is not a JSON object")
    return content


def _about(content: dict[str, Any], message: str) -> dict[str, Any]:
    """Return what an answer says about its session and, after a next, its recommendation."""
    own = {name: content.get(name) for name in _OF_RECOMMENDATION} if message == "next" else {}
    return {name: content[name] for name in _OF_SESSION if name in content} | own


def _line(event: dict[str, Any], content: dict[str, Any], about: dict[str, Any]) -> bytes:
    stamp = {"timestamp": time.time_ns() // 1_000_000}
    if event["message"] == "last":
        about = {name: about[name] for name in _OF_SESSION if name in about}
    served = {"recommendation": content.get("track") if event["message"] == "next" else None}
    return orjson.dumps(stamp | event | served | about) + b"\n"
