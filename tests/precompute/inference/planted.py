"""Sessions drawn from a known session model, for the tests."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from precompute.catalogue import Catalogue
from precompute.inference.observations import Observations, observe
from precompute.inference.parameters import Parameters
from precompute.sessions import Sessions
from recsvc.recommenders.source import session_model
from recsvc.table import Text
from recsvc.taste import SessionModel
from tests.inferring import session_arrays

__all__ = ["Array", "World", "arrange", "parameters", "plant", "serving"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A model, sessions that follow it, and what is hidden in them."""

    model: Parameters
    catalogue: Catalogue
    sessions: Sessions
    states: Array
    """`[s, k]`: (taste, mood) of each session."""

    @property
    def artist(self) -> Array:
        return self.catalogue.artist.astype(np.int64)

    def observe(self) -> Observations:
        return observe(self.sessions, self.artist)

    def logits(self, session: Array, track: Array) -> Array:
        """The true logits of some tracks in some sessions."""
        directions = self.model.directions(torch.from_numpy(self.artist)).double().numpy()
        found = (self.states[session] * directions[track]).sum(1)
        return np.asarray(found + self.model.offsets.numpy()[track])


def parameters(artists: int, tracks: int, d: int, *, seed: int = 0) -> Parameters:
    """A model whose artists differ much and their tracks a little."""
    rng = np.random.default_rng(seed)
    opening, spread = np.eye(d + 1), np.eye(d + 1) * 1.5
    opening[-1, -1] = -0.5

    def tensor(values: Array) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    return Parameters(
        artists=tensor(rng.normal(0.0, 0.8, (artists, d))),
        deviations=tensor(rng.normal(0.0, 0.2, (tracks, d))),
        offsets=tensor(rng.normal(0.0, 0.4, tracks)),
        opening=tensor(opening),
        spread=tensor(spread),
        noise=0.3,
        discount=0.8,
    )


def plant(
    sessions: int = 600, length: int = 12, *, artists: int = 20, tracks: int = 100, seed: int = 0
) -> World:
    """Draw sessions of random tracks, heard as a model of 3 dimensions says; ids are 10 * index."""
    rng = np.random.default_rng(seed)
    model = parameters(artists, tracks, 3, seed=seed)
    artist = np.arange(tracks) % artists
    directions = model.directions(torch.from_numpy(artist)).double().numpy()
    track = np.argsort(rng.random((sessions, tracks)), axis=1)[:, :length]
    first_time = np.round(rng.random(sessions), 2)
    features = directions[track[:, 0]] * first_time[:, None]
    features[:, -1] = 1.0
    opening, spread = model.opening.double().numpy(), model.spread.double().numpy()
    states = features @ opening.T + rng.multivariate_normal(np.zeros(len(spread)), spread, sessions)
    logits = np.einsum("sk,slk->sl", states, directions[track]) + model.offsets.numpy()[track]
    logits += rng.normal(0.0, np.sqrt(model.noise), logits.shape)
    played = artist[track]
    plays = np.array([(played[:, :i] == played[:, i : i + 1]).sum(1) for i in range(length)]).T
    time = np.round(model.discount**plays / (1.0 + np.exp(-logits)), 2)
    time[:, 0] = first_time
    return World(model, _catalogue(artist), arrange(track.tolist(), time.tolist()), states)


def arrange(
    tracks: list[list[int]],
    times: list[list[float]],
    valid: int = 0,
    user: list[int] | None = None,
) -> Sessions:
    """Sessions of these tracks (by index); the last `valid` are for validation.

    `user` is the listener of each session, ascending; without it each has one of their own.
    """
    lengths = [len(session) for session in tracks]
    session = np.repeat(np.arange(len(tracks)), lengths)
    return Sessions(
        users=np.arange(len(tracks)),
        user=np.repeat(np.arange(len(tracks)) if user is None else user, lengths).astype(np.int32),
        track=np.concatenate(tracks).astype(np.int32),
        time=np.concatenate(times).astype(np.float32),
        session=session,
        valid=session >= len(tracks) - valid,
    )


def serving(world: World) -> SessionModel:
    """The model as the service has it."""
    model = world.model
    arrays = session_arrays(
        model.vectors(torch.from_numpy(world.artist)).numpy(),
        model.offsets.numpy(),
        opening=model.opening.numpy(),
        spread=model.spread.numpy(),
        noise=model.noise,
        discount=model.discount,
    )
    return session_model(arrays)


def _catalogue(artist: Array) -> Catalogue:
    return Catalogue(
        tracks=np.arange(len(artist)) * 10,
        artist=artist.astype(np.int32),
        artists=Text.of([f"Artist {a}" for a in range(int(artist.max()) + 1)]),
        titles=Text.of([f"Song {t}" for t in range(len(artist))]),
    )
