"""Worlds with structure, calibrated: a random recommender is as bad as it should be.

Two families differ in the shape of taste. `genres` is clustered: tracks gather around
their genre, artist and album, and little joins two genres. `smooth` has no clusters:
artists lie anywhere on a continuum of few dimensions, a few of which matter most.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.simulation.listener import MAX_STEPS
from precompute.simulation.names import artist_names, titles
from precompute.simulation.world import Catalogue, Listeners, World, WorldError

__all__ = ["FAMILIES", "RANDOM_TIME", "Discography", "expected_random_time", "generate"]

RANDOM_TIME = 1.8
"""Mean session time of a random recommender that worlds are calibrated to."""

_TRACKS_AN_ARTIST = 10.0
_TRACKS_AN_ALBUM = 8
_INTERESTS = 3
_PANEL, _SAMPLE = 2000, 1000  # listeners and tracks to calibrate on

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Discography:
    """Who made what, of `n` tracks: artists own runs of tracks, albums runs of those."""

    artist: Array
    """`[n]` int32, ascending."""
    album: Array
    """`[n]` int32, ascending."""
    popularity: Array
    """`[n]` float64: the chance of a track to be somebody's interest; sums to one."""


def generate(
    tracks: int,
    listeners: int,
    *,
    family: str = "genres",
    seed: int = 0,
    random_time: float = RANDOM_TIME,
) -> World:
    """Make a world of so many tracks and listeners.

    `family` is a key of `FAMILIES`; `random_time` is the mean session time that a random
    recommender shall have, the first track's 1.0 counted. Biases are uniform in 0..10,
    sharpness in 0.5..2; each listener has three interests, often alike.

    Raises `WorldError` for an unknown family, or sizes too small to have structure.
    """
    if family not in FAMILIES:
        raise WorldError(f"unknown family {family!r}; there are {', '.join(FAMILIES)}")
    if tracks < 100 or listeners < 1:
        raise WorldError("a world needs at least 100 tracks and a listener")
    rng = np.random.default_rng(seed)
    disco = _discography(tracks, rng)
    shape = FAMILIES[family](disco, rng).astype(np.float32)
    ids = rng.permutation(tracks)  # so that neighbouring ids mean nothing
    names = artist_names(int(disco.artist[-1]) + 1, rng)
    catalogue = Catalogue(
        tracks=np.arange(tracks, dtype=np.int64),
        artist=disco.artist[ids],
        artist_names=names,
        titles=titles(tracks, rng),
    )
    embeddings, popularity = shape[ids], disco.popularity[ids]
    # Calibrated on a panel of its own, so that few listeners get the same tracks as many.
    panel = _listeners(_PANEL, embeddings, popularity, rng)
    scale = _calibrate(World(catalogue, embeddings, panel), random_time, rng)
    people = _listeners(listeners, embeddings, popularity, rng)
    return World(catalogue, embeddings * np.float32(scale), people)


def _discography(tracks: int, rng: np.random.Generator) -> Discography:
    """Deal tracks to artists, a long tail of them, and to albums; few are popular."""
    sizes = np.ceil(rng.lognormal(np.log(_TRACKS_AN_ARTIST) - 0.5, 1.0, size=tracks)).astype(int)
    artists = int(np.searchsorted(np.cumsum(sizes), tracks)) + 1
    artist = np.repeat(np.arange(artists, dtype=np.int32), sizes[:artists])[:tracks]
    starts = np.searchsorted(artist, np.arange(artists))
    fresh = (np.arange(tracks) - starts[artist]) % _TRACKS_AN_ALBUM == 0
    fame = rng.permutation(1.0 / np.arange(1, artists + 1) ** 0.8)
    popularity = fame[artist] * rng.lognormal(0.0, 1.0, size=tracks)
    album = (np.cumsum(fresh) - 1).astype(np.int32)
    return Discography(artist, album, popularity / popularity.sum())


def _genres(disco: Discography, rng: np.random.Generator) -> Array:
    """Gather tracks around genres of unequal size, in 96 dimensions."""
    d, artists = 96, int(disco.artist[-1]) + 1
    count = int(np.clip(artists // 12, 20, 80))
    genre = rng.choice(count, size=artists, p=rng.dirichlet(np.full(count, 3.0)))
    centre = _unit(rng.standard_normal((count, d)))
    by_artist = centre[genre] * np.sqrt(0.55) + _unit(rng.standard_normal((artists, d))) * 0.5
    by_album = _unit(rng.standard_normal((int(disco.album[-1]) + 1, d))) * np.sqrt(0.08)
    noise = _unit(rng.standard_normal((len(disco.artist), d))) * np.sqrt(0.12)
    shape = by_artist[disco.artist] + by_album[disco.album] + noise
    return np.asarray(shape * rng.uniform(0.85, 1.15, size=(len(shape), 1)))


def _smooth(disco: Discography, rng: np.random.Generator) -> Array:
    """Spread artists over a sphere of 24 dimensions whose first ones matter most."""
    d, artists = 24, int(disco.artist[-1]) + 1
    spectrum = np.arange(1, d + 1) ** -0.15
    by_artist = rng.standard_normal((artists, d)) * spectrum
    noise = rng.standard_normal((len(disco.artist), d)) * spectrum
    shape = _unit(by_artist[disco.artist] * np.sqrt(0.7) + noise * np.sqrt(0.3))
    return np.asarray(shape * rng.uniform(0.85, 1.15, size=(len(shape), 1)))


FAMILIES: Mapping[str, Callable[[Discography, np.random.Generator], Array]] = {
    "genres": _genres,
    "smooth": _smooth,
}


def _listeners(
    count: int, embeddings: Array, popularity: Array, rng: np.random.Generator
) -> Listeners:
    """Make people; each further interest is near the one before, or with luck anything."""
    interests = np.empty((count, _INTERESTS), dtype=np.int32)
    chance = np.cumsum(popularity)
    interests[:, 0] = _by_popularity(chance, (count,), rng)
    for column in range(1, _INTERESTS):
        offers = _by_popularity(chance, (count, 100), rng)
        for rows in np.array_split(np.arange(count), -(-count // 500)):
            before = embeddings[interests[rows, column - 1]]
            liking = np.einsum("ukd,ud->uk", embeddings[offers[rows]], before)
            interests[rows, column] = offers[rows, liking.argmax(axis=1)]
        open_minded = rng.random(count) < 0.5
        interests[open_minded, column] = offers[open_minded, 0]
    return Listeners(
        users=np.arange(count, dtype=np.int64),
        interests=interests,
        bias=np.round(rng.uniform(0.0, 10.0, count), 4),
        sharpness=np.round(rng.uniform(0.5, 2.0, count), 4),
        neighbours=np.full(count, 10),
        budget=np.full(count, 5),
        gamma=np.full(count, 0.8),
    )


def _by_popularity(chance: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    return np.minimum(np.searchsorted(chance, rng.random(shape)), len(chance) - 1)


def expected_random_time(liking: Array, bias: Array, sharpness: Array, budget: Array) -> float:
    """Return about what a random recommender's mean session time is, without playing.

    `liking` is the affinity `[s, t]` of sessions to random tracks, the rest `[s]`. A session
    with mean time `p` a track spends its budget `b` after about `b / (1 - p)` tracks, so it
    lasts `1 + b p / (1 - p)`, up to the step cap. Repeats and artists are left out, as a
    large catalogue seldom has them.
    """
    margin = np.clip((liking - bias[:, None]) * sharpness[:, None], -80.0, 80.0)
    mean = (1.0 / (1.0 + np.exp(-margin))).mean(axis=1)
    length = np.minimum(budget / np.maximum(1.0 - mean, 1e-9), MAX_STEPS)
    return float(1.0 + (length * mean).mean())


def _calibrate(world: World, wanted: float, rng: np.random.Generator) -> float:
    """Return by what to multiply the embeddings, by bisection: larger ones are more liked."""
    people = world.listeners
    tastes = people.interests[np.arange(len(people)), rng.integers(_INTERESTS, size=len(people))]
    tracks = rng.integers(len(world.catalogue), size=_SAMPLE)
    liking = world.embeddings[tastes] @ world.embeddings[tracks].T
    bias, sharpness = people.bias.astype(np.float32), people.sharpness.astype(np.float32)

    def time(scale: float) -> float:
        return expected_random_time(liking * np.float32(scale**2), bias, sharpness, people.budget)

    low, high = 0.5, 20.0
    if not time(low) <= wanted <= time(high):
        raise WorldError(f"no scale gives a random session time of {wanted}")
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if time(middle) < wanted else (low, middle)
    return (low + high) / 2


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
