"""How well the session model foresees sessions that it was not fitted to."""

from dataclasses import dataclass

import numpy as np

from precompute.inference.observations import Array, Observations
from recsvc.taste import Belief, SessionModel, predict, prior, update

__all__ = ["Quality", "assess", "sample"]

_MOST_SESSIONS = 1000
_MOST_TRACKS = 60  # of one session
_DECILES = 10


@dataclass(frozen=True, slots=True)
class Quality:
    """What was foreseen one track ahead, against what came; all over the same rows."""

    rows: int
    log_loss: float
    """Mean cross-entropy of the time, in nats."""
    constant_log_loss: float
    """The same of always foreseeing the mean."""
    mse: float
    constant_mse: float
    calibration: tuple[tuple[float, float], ...]
    """(mean foreseen, mean heard) of each tenth of the rows, by what was foreseen."""

    def metrics(self) -> dict[str, float]:
        """Return the numbers for a manifest."""
        worst = max((abs(a - b) for a, b in self.calibration), default=0.0)
        tenths = enumerate(self.calibration, 1)
        return {
            "validation_rows": float(self.rows),
            "log_loss": self.log_loss,
            "log_loss_constant": self.constant_log_loss,
            "mse": self.mse,
            "mse_constant": self.constant_mse,
            "calibration_error": worst,
            **{
                f"tenth_{number}_{name}": value
                for number, pair in tenths
                for name, value in zip(("foreseen", "heard"), pair, strict=True)
            },
        }


def sample(valid: Array, *, seed: int) -> Array:
    """Return which sessions, `[s]` bool, are kept from a fit to assess it by: some of `valid`.

    The latest are the most telling, so a fit does without no more than it must.
    """
    kept = np.zeros(len(valid), dtype=bool)
    there = np.flatnonzero(valid)
    rng = np.random.default_rng(seed)
    kept[rng.choice(there, min(_MOST_SESSIONS, len(there)), replace=False)] = True
    return kept


def assess(model: SessionModel, some: Observations) -> Quality | None:
    """Foresee each track of some sessions from those before it; None when there is none.

    Runs what the service runs.
    """
    if not len(some):
        return None
    foreseen = _foresee(model, some)
    kept = np.isfinite(foreseen)
    foreseen, time = foreseen[kept], some.time[kept].astype(np.float64)
    mean = np.full(len(time), time.mean())
    order = np.argsort(foreseen, kind="stable")
    tenths = [part for part in np.array_split(order, _DECILES) if len(part)]
    return Quality(
        rows=len(time),
        log_loss=_cross_entropy(foreseen, time),
        constant_log_loss=_cross_entropy(mean, time),
        mse=float(((foreseen - time) ** 2).mean()),
        constant_mse=float(((mean - time) ** 2).mean()),
        calibration=tuple((float(foreseen[p].mean()), float(time[p].mean())) for p in tenths),
    )


def _foresee(model: SessionModel, some: Observations) -> Array:
    """Return what was foreseen of each row, NaN beyond a session's first tracks."""
    foreseen = np.full(len(some), np.nan)
    belief, session, place = None, -1, 0
    columns = (some.session, some.track, some.time, some.plays)
    for row, (of, track, time, plays) in enumerate(
        zip(*(c.tolist() for c in columns), strict=True)
    ):
        if of != session or belief is None:
            belief, session, place = _opening(model, some, of), of, 0
        if place < _MOST_TRACKS:
            times, _, _ = predict(model, belief, model.places[track : track + 1])
            foreseen[row] = times[0] * model.discount**plays
            belief = update(model, belief, track, time, plays)
        place += 1
    return foreseen


def _opening(model: SessionModel, some: Observations, session: int) -> Belief:
    first = int(some.first[session])
    return prior(model, None if first < 0 else first, float(some.first_time[session]))


def _cross_entropy(foreseen: Array, time: Array) -> float:
    chance = np.clip(foreseen, 1e-3, 1.0 - 1e-3)
    return float(-(time * np.log(chance) + (1.0 - time) * np.log1p(-chance)).mean())
