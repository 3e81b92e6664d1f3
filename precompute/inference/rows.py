"""What a fit of the session model goes through: observations by interest, as tensors."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precompute.inference.observations import Observations

__all__ = ["Rows", "rows_of"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Observations as tensors, ordered by interest: what one or more sessions are after."""

    interest: Tensor
    """`[rows]` int64, ascending, of `i` interests; so is `started`, `[s]`, of the sessions."""
    track: Tensor
    time: Tensor
    plays: Tensor
    ends: Tensor
    """`[i]` int64: behind the last row of each interest."""
    started: Tensor
    first: Tensor
    """`[s]` int64: the first track of each session, 0 where it is unknown."""
    share: Tensor
    """`[s]`: how much of it was heard, over the interest's sessions; 0 where it is unknown."""
    session_ends: Tensor
    """`[i]` int64: behind the last session of each interest."""

    @property
    def interests(self) -> int:
        """How many interests there are."""
        return len(self.ends)

    def within(self, start: int, end: int) -> tuple[slice, slice]:
        """Return where the rows and the sessions of some interests are."""
        return _span(self.ends, start, end), _span(self.session_ends, start, end)


def rows_of(observations: Observations) -> Rows:
    """Order observations by interest, those of fewest rows first: blocks are of like ones."""
    interest, sessions = np.unique(observations.interest, return_inverse=True)
    heard = np.bincount(sessions[observations.session], minlength=len(interest))
    place = np.argsort(np.argsort(heard, kind="stable"))
    started = place[sessions]
    of_row = started[observations.session]
    rows, order = (np.argsort(of, kind="stable") for of in (of_row, started))
    counts = np.bincount(started)
    first = observations.first[order]
    time = np.where(first >= 0, observations.first_time[order], 0.0)
    return Rows(
        interest=torch.from_numpy(of_row[rows]),
        track=torch.from_numpy(observations.track[rows]),
        time=torch.from_numpy(observations.time[rows].astype(np.float32)),
        plays=torch.from_numpy(observations.plays[rows]),
        ends=torch.from_numpy(np.cumsum(np.sort(heard))),
        started=torch.from_numpy(started[order]),
        first=torch.from_numpy(np.maximum(first, 0)),
        share=torch.from_numpy((time / counts[started[order]]).astype(np.float32)),
        session_ends=torch.from_numpy(np.cumsum(counts)),
    )


def _span(ends: Tensor, start: int, end: int) -> slice:
    return slice(int(ends[start - 1]) if start else 0, int(ends[end - 1]))
