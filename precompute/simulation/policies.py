"""Batch policies: the floor, the ceiling, and one that knows tastes roughly, for logs."""

from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.simulation.listener import Sessions
from precompute.simulation.world import World

__all__ = ["Oracle", "RandomTracks", "TasteMix"]

Array = npt.NDArray[Any]


class RandomTracks:
    """Any track of the catalogue, each with the same probability: the floor."""

    def __init__(self, world: World, seed: int) -> None:
        self.propensity = 1.0 / len(world.catalogue)
        self._size = len(world.catalogue)
        self._rng = np.random.default_rng(seed)

    def start(self, users: Array, tracks: Array) -> None:
        """Need nothing of the sessions."""

    def next(self, sessions: Array, tracks: Array, times: Array) -> Array:
        """Return a random track for each session, heard or not."""
        return self._rng.integers(self._size, size=len(sessions))


class TasteMix:
    """Half random, half near the session's taste: a log from which a person sees sense.

    With probability `share` the track is one of the `near` with the largest inner product
    with the session's taste (a fortieth of the catalogue by default), otherwise any track.
    No recommender could do this; it stands for the years of data that a real service would
    start from.
    """

    def __init__(
        self, world: World, seed: int, *, share: float = 0.5, near: int | None = None
    ) -> None:
        self._world = world
        self._rng = np.random.default_rng(seed)
        self._share = share
        self._near = min(near or max(10, len(world.catalogue) // 40), len(world.catalogue))
        self._pools = np.zeros((0, self._near), dtype=np.int64)

    def reveal(self, sessions: Sessions) -> None:
        """List the tracks near each session's taste."""
        tastes = self._world.embeddings[sessions.interests]
        scores = tastes @ self._world.embeddings.T
        self._pools = np.argpartition(scores, -self._near, axis=1)[:, -self._near :]

    def start(self, users: Array, tracks: Array) -> None:
        """Need nothing more of the sessions."""

    def next(self, sessions: Array, tracks: Array, times: Array) -> Array:
        """Return a track near the taste or any track, at random."""
        near = self._pools[sessions, self._rng.integers(self._near, size=len(sessions))]
        anywhere = self._rng.integers(len(self._world.catalogue), size=len(sessions))
        return np.where(self._rng.random(len(sessions)) < self._share, near, anywhere)


class Oracle:
    """Greedy on the true expected time among unheard tracks: the ceiling.

    Exact, at the cost of one score for each session and track. Only the artists with the
    `max_steps` + 1 best tracks are looked at again: an artist is first chosen for its best
    track, so one with more than `max_steps` better ones is never chosen.
    """

    def __init__(self, world: World, max_steps: int) -> None:
        self._world = world
        artist = world.catalogue.artist
        # Tracks in the order of their artists, so that an artist is a run of columns.
        self._order = np.argsort(artist, kind="stable")
        self._embeddings = np.ascontiguousarray(world.embeddings[self._order].T)
        self._place = np.empty_like(self._order)
        self._place[self._order] = np.arange(len(self._order))
        owners, self._starts, self._sizes = np.unique(
            artist[self._order], return_index=True, return_counts=True
        )
        self._column = np.full(int(artist.max()) + 1, -1)  # artist -> its run
        self._column[owners] = np.arange(len(owners))
        self._kept = min(max_steps + 1, len(owners))

    def reveal(self, sessions: Sessions) -> None:
        """Score all tracks for the tastes, and keep the artists that may ever be chosen."""
        people = self._world.listeners
        self._bias = people.bias[sessions.listeners][:, None]
        self._sharpness = people.sharpness[sessions.listeners][:, None]
        self._log_gamma = np.log(np.maximum(people.gamma[sessions.listeners], 1e-30))[:, None]
        self._scores = self._world.embeddings[sessions.interests] @ self._embeddings  # [m, n]
        rows = np.arange(len(sessions))
        first = self._world.catalogue.artist[sessions.first]
        self._scores[rows, self._place[sessions.first]] = -np.inf
        heads = self._values(np.maximum.reduceat(self._scores, self._starts, axis=1), rows)
        heads[rows, self._column[first]] += self._log_gamma[:, 0]
        # [m, kept]: the runs that are looked at, and the log of what their best is worth.
        self._runs = np.argpartition(heads, -self._kept, axis=1)[:, -self._kept :]
        self._worth = np.take_along_axis(heads, self._runs, axis=1)
        self._plays = (self._runs == self._column[first][:, None]).astype(np.int64)

    def start(self, users: Array, tracks: Array) -> None:
        """Need nothing more of the sessions."""

    def next(self, sessions: Array, tracks: Array, times: Array) -> Array:
        """Return the unheard track that is worth most in each session, and cross it off."""
        choice = self._worth[sessions].argmax(axis=1)
        runs = self._runs[sessions, choice]
        offsets = np.arange(int(self._sizes[runs].max(initial=1)))
        inside = offsets < self._sizes[runs][:, None]
        places = np.minimum(self._starts[runs][:, None] + offsets, len(self._order) - 1)
        scores = np.where(inside, self._scores[sessions[:, None], places], -np.inf)
        best = places[np.arange(len(sessions)), scores.argmax(axis=1)]
        self._cross_off(sessions, choice, best, scores)
        return np.asarray(self._order[best])

    def _cross_off(self, sessions: Array, choice: Array, best: Array, scores: Array) -> None:
        """Make the chosen tracks heard, and weigh their artists by what is left of them."""
        self._scores[sessions, best] = -np.inf
        scores[np.arange(len(sessions)), scores.argmax(axis=1)] = -np.inf
        self._plays[sessions, choice] += 1
        discount = self._plays[sessions, choice] * self._log_gamma[sessions, 0]
        left = self._values(scores.max(axis=1, keepdims=True), sessions)[:, 0]
        self._worth[sessions, choice] = left + discount

    def _values(self, scores: Array, rows: Array) -> Array:
        """Return the log of the undiscounted time; it tells apart what rounds to 1.0."""
        margins = (scores - self._bias[rows]) * self._sharpness[rows]
        return np.asarray(-np.logaddexp(0.0, -margins))
