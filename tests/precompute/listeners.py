"""A small log with a known taste: two camps of listeners and artists, for the tests."""

import numpy as np

from precompute.catalogue import Catalogue
from precompute.log import Log
from recsvc.table import Text

TRACKS, ARTISTS, USERS = 120, 12, 60


def catalogue() -> Catalogue:
    """Track 10 * i has index i; its artist is i modulo 12, its camp the artist's parity."""
    index = np.arange(TRACKS)
    return Catalogue(
        tracks=index * 10,
        artist=(index % ARTISTS).astype(np.int32),
        artists=Text.of([f"Artist {a}" for a in range(ARTISTS)]),
        titles=Text.of([f"Song {i}" for i in range(TRACKS)]),
    )


def make_log(sessions: int = 900, length: int = 8, seed: int = 0) -> Log:
    """Random tracks, heard nearly out by listeners of the same camp and hardly by others.

    A session stays in one camp at first, so that what follows what says something.
    """
    rng = np.random.default_rng(seed)
    user = np.repeat(rng.integers(0, USERS, sessions), length)
    index = rng.integers(0, TRACKS, sessions * length)
    first = np.arange(len(user)) % length == 0
    index[first] = index[first] // 2 * 2 + user[first] % 2  # the first one is to their taste
    liked = index % 2 == user % 2
    time = np.clip(np.where(liked, 0.85, 0.15) + rng.normal(0, 0.05, len(user)), 0, 1)
    step = np.arange(len(user))
    return Log(
        timestamp=(step // length * 3600 + step % length * 60) * 1000,
        user=user.astype(np.int64),
        track=index.astype(np.int64) * 10,
        time=time.astype(np.float32),
        is_last=step % length == length - 1,
        recommendation=np.full(len(user), -1),
        lines=len(user),
    )
