"""The driver for research: all sessions advance in lock-step, in process, with numpy.

Tracks are indices into the world's catalogue here (0..n-1 in the order of their ids),
as in a `recsvc.table.Table`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from precompute.simulation.listener import (
    MAX_STEPS,
    Sessions,
    affinity,
    begin,
    budget_draws,
    heard_time,
)
from precompute.simulation.world import World
from recsvc.errors import RecsvcError

__all__ = ["BatchPolicy", "Clairvoyant", "Plays", "PolicyError", "play", "simulate"]

Array = npt.NDArray[Any]


class PolicyError(RecsvcError):
    """A batch policy recommended what is not a track of the catalogue."""


class BatchPolicy(Protocol):
    """Chooses the next tracks of many sessions at once, from what an API would tell it."""

    def start(self, users: Array, tracks: Array) -> None:
        """Begin `m` sessions, of the listeners with the ids `users`, at the tracks `tracks`.

        Called once for each block of sessions; what was before is over.
        """
        ...

    def next(self, sessions: Array, tracks: Array, times: Array) -> Array:
        """Return the track to play next in each of `sessions`.

        `sessions` are the rows, among those given to `start`, that still listen;
        `tracks` and `times` say what each has just heard, and how much of it.
        """
        ...


@runtime_checkable
class Clairvoyant(Protocol):
    """A policy that is told the tastes, as no recommender is: a ceiling or a log maker."""

    def reveal(self, sessions: Sessions) -> None:
        """Learn what the sessions that `start` is about to begin really want."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Plays:
    """All that was heard in `s` sessions of up to `c` tracks, the first track in column 0."""

    sessions: Sessions
    tracks: Array
    """`[s, c]` int32: track indices, -1 behind the end of a session."""
    times: Array
    """`[s, c]` float32: 0 behind the end of a session."""

    @property
    def lengths(self) -> Array:
        """`[s]`: how many tracks each session has, the first one counted."""
        return np.asarray((self.tracks >= 0).sum(axis=1))

    @property
    def session_times(self) -> Array:
        """`[s]` float64: the sum of time of each session, the first track's 1.0 counted."""
        return np.asarray(self.times.sum(axis=1, dtype=np.float64))


def simulate(
    world: World,
    policy: BatchPolicy,
    *,
    seed: int,
    listeners: Array | None = None,
    sessions: int = 1,
    max_steps: int = MAX_STEPS,
    block: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> Plays:
    """Let `listeners` (rows; all by default) have so many `sessions` each with a policy."""
    rows = np.arange(len(world.listeners)) if listeners is None else np.asarray(listeners)
    plan = begin(world, np.tile(rows, sessions), np.repeat(np.arange(sessions), len(rows)), seed)
    return play(world, policy, plan, max_steps=max_steps, block=block, progress=progress)


def play(
    world: World,
    policy: BatchPolicy,
    plan: Sessions,
    *,
    max_steps: int = MAX_STEPS,
    block: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> Plays:
    """Play planned sessions, `block` at a time; `progress` hears how many are done.

    Raises `PolicyError` when the policy recommends what is no track.
    """
    tracks = np.full((len(plan), max_steps + 1), -1, dtype=np.int32)
    times = np.zeros((len(plan), max_steps + 1), dtype=np.float32)
    for start in range(0, len(plan), block):
        rows = slice(start, start + block)
        _play_block(world, policy, plan[rows], tracks[rows], times[rows])
        if progress is not None:
            progress(min(start + block, len(plan)))
    longest = max(int((tracks >= 0).sum(axis=1).max(initial=1)), 1)
    return Plays(plan, tracks[:, :longest].copy(), times[:, :longest].copy())


def _play_block(
    world: World, policy: BatchPolicy, plan: Sessions, tracks: Array, times: Array
) -> None:
    """Fill `tracks` and `times` `[m, c]` of the planned sessions, in place."""
    people, artist = world.listeners, world.catalogue.artist
    who = plan.listeners
    tastes = world.embeddings[plan.interests]  # [m, d]
    budget = people.budget[who].copy()
    artists = np.full(tracks.shape, -1, dtype=np.int32)
    tracks[:, 0], times[:, 0], artists[:, 0] = plan.first, 1.0, artist[plan.first]
    if isinstance(policy, Clairvoyant):
        policy.reveal(plan)
    policy.start(people.users[who], plan.first)
    active = np.arange(len(plan))
    for step in range(tracks.shape[1] - 1):
        last = tracks[active, step].astype(np.int64)
        picks = _checked(policy.next(active, last, times[active, step]), len(active), world)
        before = slice(0, step + 1)
        listener = who[active]
        time = heard_time(
            affinity(world.embeddings[picks], tastes[active]),
            people.bias[listener],
            people.sharpness[listener],
            people.gamma[listener],
            plays=(artists[active, before] == artist[picks][:, None]).sum(axis=1),
            repeat=(tracks[active, before] == picks[:, None]).any(axis=1),
        )
        tracks[active, step + 1], times[active, step + 1] = picks, time
        artists[active, step + 1] = artist[picks]
        budget[active] -= budget_draws(plan.keys[active], step) >= time
        active = active[budget[active] > 0]
        if not len(active):
            break


def _checked(picks: Array, count: int, world: World) -> Array:
    picks = np.asarray(picks)
    if picks.shape != (count,) or picks.dtype.kind not in "iu":
        raise PolicyError(f"{count} sessions got {picks.dtype} {picks.shape}, not a track each")
    if count and not (picks.min() >= 0 and picks.max() < len(world.catalogue)):
        raise PolicyError("a recommended track is not in the catalogue")
    return picks.astype(np.int64)
