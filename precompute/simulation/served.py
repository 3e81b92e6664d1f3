"""The service's own policies in process: the same plans and the same rule, without HTTP.

For research: thousands of sessions in seconds. What the service adds around the policy
(claims, events, fallbacks beyond the plan) is not here, save for its last resort, any
unheard track.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from precompute.errors import SimulationError
from recsvc.policy import Plan, settle
from recsvc.recommenders.catalogue import plan_among
from recsvc.recommenders.registry import Policy
from recsvc.recommenders.session import SessionPolicy
from recsvc.recommenders.source import Source

__all__ = ["Served"]

Array = npt.NDArray[Any]


class Served:
    """A batch policy that answers as the service would from a table.

    `tracks` `[n]` are the world's track ids; every one must be in the table's catalogue.
    Raises `SimulationError` when the table has a track that the world lacks.
    """

    def __init__(self, source: Source, policy: Policy, tracks: Array, seed: int) -> None:
        strange = np.setdiff1d(source.table.tracks, tracks)
        if len(strange):
            raise SimulationError(
                f"{len(strange):,} tracks of the table are not in the world, as {strange[0]}"
            )
        self.source = source
        self.policy = policy
        self.tracks = tracks
        self.rng = Random(seed)
        self._row = {track: row for row, track in enumerate(tracks.tolist())}
        self._users: list[int] = []
        self._heard: list[set[int]] = []
        self._last: list[str | None] = []
        self._evidence: list[bytes] = []

    def start(self, users: Array, tracks: Array) -> None:
        """Begin sessions that have heard nothing yet."""
        self._users = users.tolist()
        self._heard = [set() for _ in self._users]
        self._last = [None] * len(self._users)
        self._evidence = [b""] * len(self._users)

    def next(self, sessions: Array, tracks: Array, times: Array) -> Array:
        """Return the rows of the tracks to play next."""
        heard = zip(sessions.tolist(), self.tracks[tracks].tolist(), times.tolist(), strict=True)
        chosen = [self._row[self._answer(*one)] for one in heard]
        return np.array(chosen, dtype=np.int64)

    def _answer(self, session: int, track: int, time: float) -> int:
        heard = self._heard[session]
        heard.add(track)

        def known(tracks: Sequence[int]) -> list[bool]:
            return [one in heard for one in tracks]

        plan = self._plan(session, track, time)
        decision = settle(plan, self._last[session], known, len(heard))
        if decision is None:
            unheard = [one for one in self._row if one not in heard]
            beyond = plan_among(self.source, unheard or [track], self.rng)
            decision = settle(beyond, None, lambda asked: [False] * len(asked), len(heard))
        assert decision is not None  # noqa: S101 (that plan proposes a track nobody has heard)
        self._last[session] = decision.recommender
        heard.add(decision.track)
        return decision.track

    def _plan(self, session: int, track: int, time: float) -> Plan:
        user, source = self._users[session], self.source
        if not isinstance(self.policy, SessionPolicy):
            return self.policy.plan(source, user, track, time, self.rng)
        # The API carries two decimals; a float32 of the batch driver is off by a little.
        heard = round(time, 2)
        evidence = self._evidence[session]
        plan, kept = self.policy.recall(source, user, track, heard, self.rng, evidence, b"")
        self._evidence[session] = kept
        return plan
