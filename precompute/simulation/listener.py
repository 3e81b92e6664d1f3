"""The listener model, pure: what a listener hears, and what chance decides for them.

A session has the taste of one interest track, whose embedding is `z`. It begins with one
of the tracks nearest to `z` by inner product, heard in full. A recommended track with the
embedding `e` is then heard for

    0                                                     if already played in the session
    sigmoid((e·z - bias) * sharpness) * gamma ** plays    otherwise

where `plays` counts the earlier plays of its artist in the session, the first track's
among them; rounded to 2 decimals. The budget drops by one with probability `1 - time`,
and the session ends when it is spent.

All chance comes from counters: the draw for a step is a hash of (seed, user, session,
step). So what a listener does depends on the seed and on what is recommended, and never
on the driver or on the other listeners.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.simulation.world import World

__all__ = [
    "MAX_STEPS",
    "Sessions",
    "affinity",
    "begin",
    "budget_draws",
    "heard_time",
    "nearest",
    "session_keys",
    "uniform",
]

MAX_STEPS = 300
"""A session ends after this many recommendations however well it goes."""

Array = npt.NDArray[Any]
Numbers = Array | float
"""An array, or one number: the HTTP driver asks about one track at a time."""

_INTEREST, _FIRST, _STEPS = 0, 1, 2  # counters: what a session's draws are used for
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """What is settled before the first recommendation, for `s` sessions."""

    listeners: Array
    """`[s]` int64: rows of `World.listeners`."""
    numbers: Array
    """`[s]` int64: which session of its listener each is, from 0."""
    keys: Array
    """`[s]` uint64: from which each session's chance is drawn."""
    interests: Array
    """`[s]` int64: index of the track whose embedding is the session's taste."""
    first: Array
    """`[s]` int64: index of the track that the session begins with."""

    def __len__(self) -> int:
        return len(self.listeners)

    def __getitem__(self, rows: slice | Array) -> "Sessions":
        return Sessions(
            self.listeners[rows],
            self.numbers[rows],
            self.keys[rows],
            self.interests[rows],
            self.first[rows],
        )


def begin(world: World, listeners: Array, numbers: Array, seed: int) -> Sessions:
    """Begin the session `numbers[i]` of the listener in row `listeners[i]`, for all `i`."""
    people = world.listeners
    keys = session_keys(seed, people.users[listeners], numbers)
    counts = (people.interests[listeners] >= 0).sum(axis=1)
    choice = (uniform(keys, _INTEREST) * counts).astype(np.int64)
    interests = people.interests[listeners, choice].astype(np.int64)
    sizes = np.minimum(people.neighbours[listeners], len(world.catalogue))
    near, first = (uniform(keys, _FIRST) * sizes).astype(np.int64), np.zeros_like(interests)
    for size in np.unique(sizes):
        rows = sizes == size
        distinct, inverse = np.unique(interests[rows], return_inverse=True)
        # Ordered by index, not by score: the pick must not hang on the last bit of a product.
        table = np.sort(nearest(world.embeddings, distinct, int(size)), axis=1)
        first[rows] = table[inverse, near[rows]]
    return Sessions(np.asarray(listeners), np.asarray(numbers), keys, interests, first)


def heard_time(
    affinity: Numbers,
    bias: Numbers,
    sharpness: Numbers,
    gamma: Numbers,
    *,
    plays: Numbers,
    repeat: Numbers,
) -> Array:
    """Return how much of each recommended track is heard, 0 to 1 in steps of 0.01.

    `affinity` is `e·z`, `plays` the earlier plays of the track's artist in the session,
    `repeat` whether the track itself was played. All broadcast against each other.
    """
    # exp of a large negative margin would overflow; at 700 the time is 0.00 anyway.
    margin = np.maximum((affinity - bias) * sharpness, -700.0)
    time = gamma**plays / (1.0 + np.exp(-margin))
    return np.asarray(np.rint(time * 100.0) / 100.0 * np.logical_not(repeat))


def affinity(embeddings: Array, tastes: Array) -> Array:
    """Return the inner products `e·z`, row by row, as float64.

    One loop for one row and for many, so that both drivers get the same bits.
    """
    return np.asarray(np.vecdot(embeddings, tastes), dtype=np.float64)


def budget_draws(keys: Array, steps: Array | int) -> Array:
    """Return the draws in [0, 1) of recommendation `steps`; time at or below costs budget."""
    return uniform(keys, np.asarray(steps) + _STEPS)


def session_keys(seed: int, users: Array, numbers: Array) -> Array:
    """Return the `[s]` uint64 keys of sessions."""
    start = np.full(np.shape(users), seed % 2**64, dtype=np.uint64)
    keys = _mix(start)
    for part in (users, numbers):
        keys = _mix(keys ^ np.asarray(part).astype(np.uint64))
    return keys


def uniform(keys: Array, counters: Array | int) -> Array:
    """Return draws in [0, 1): a pure function of key and counter (SplitMix64)."""
    keys, steps = np.atleast_1d(keys), np.atleast_1d(np.asarray(counters, dtype=np.uint64))
    bits = _mix(keys + steps * _GOLDEN) >> np.uint64(11)
    return np.asarray(bits * 2.0**-53)


def nearest(embeddings: Array, queries: Array, count: int) -> Array:
    """Return for each query track the `[q, count]` tracks with the largest inner product.

    Exact and unordered; the query itself may be among them. Tracks are cut into strips
    and only the `count` strips with the largest maxima are searched: no other strip can
    hold one of the `count` best.
    """
    n = len(embeddings)
    width = -(-n // 64)
    found = np.empty((len(queries), count), dtype=np.int64)
    for start in range(0, len(queries), 256):
        rows = queries[start : start + 256]
        scores = np.full((len(rows), 64 * width), -np.inf, dtype=np.float32)
        np.matmul(embeddings[rows], embeddings.T, out=scores[:, :n])
        strips = scores.reshape(len(rows), 64, width)  # column j is the strip j, width + j, ...
        best = _top(strips.max(axis=1), min(count, width))
        places = (np.arange(64)[None, :, None] * width + best[:, None, :]).reshape(len(rows), -1)
        within = _top(np.take_along_axis(scores, places, axis=1), count)
        found[start : start + 256] = np.take_along_axis(places, within, axis=1)
    return found


def _top(scores: Array, count: int) -> Array:
    if count >= scores.shape[1]:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.argpartition(scores, -count, axis=1)[:, -count:]


def _mix(values: Array) -> Array:
    """Scramble 64 bits: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    mixed = values + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
