"""Where a fit of the session model begins: at what artists have in common in interests."""

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from precompute.inference.observations import Array, Observations
from precompute.inference.parameters import Parameters, Settings

__all__ = ["find_discount", "start", "warm_start"]

_PRIOR_ROWS = 2.0  # an interest's mean time is drawn to the overall mean by so many rows
_LIKING = 2.0  # of a session for its first track, in each dimension
_MOOD, _MOOD_SPREAD = -4.0, 9.0  # most recommendations fail, and listeners differ
_NOISE = 2.0
_NOTHING = 1e-12  # co-moments of rounding errors
_BEST, _ENOUGH = 0.98, 100  # quantile of the best times; rows from which one can be told
_WIDEST = 100.0  # variance of tastes in any direction; along most of them it is 0.2 to 2


def start(
    rows: Observations, artist: Array, artists: int, settings: Settings, *, seed: int
) -> Parameters:
    """Return parameters to begin with.

    The residual of a time is what it differs from its interest's mean. Artists whose residuals
    go together in interests get similar vectors: those of the largest eigenvalues of the
    residuals' co-moments, rows of much-heard artists damped by their root.
    """
    mean = float(rows.time.mean())
    interest = rows.interest[rows.session]
    heard = np.bincount(interest)
    total = np.bincount(interest, rows.time)
    level = (total + _PRIOR_ROWS * mean) / (heard + _PRIOR_ROWS)
    known = np.flatnonzero(rows.first >= 0)
    residuals = scipy.sparse.csr_matrix(
        (
            np.concatenate([rows.time - level[interest], rows.first_time[known] - mean]),
            (
                np.concatenate([interest, rows.interest[known]]),
                np.concatenate([artist[rows.track], artist[rows.first[known]]]),
            ),
        ),
        shape=(int(rows.interest.max()) + 1, artists),
    )
    dimensions = min(settings.dimensions, max(artists - 2, 1))
    vectors = np.zeros((artists, settings.dimensions))
    vectors[:, :dimensions] = _leading(residuals, dimensions, seed)
    k = settings.dimensions + 1
    opening, spread = torch.eye(k) * _LIKING, torch.eye(k) * _LIKING
    opening[-1, -1], spread[-1, -1] = _MOOD, _MOOD_SPREAD
    return Parameters(
        artists=torch.from_numpy(vectors.astype(np.float32)),
        deviations=torch.zeros(len(artist), settings.dimensions),
        offsets=torch.zeros(len(artist)),
        opening=opening,
        spread=spread,
        noise=_NOISE,
        discount=find_discount(rows),
    )


def warm_start(
    vectors: Array,
    offsets: Array,
    artist: Array,
    artists: int,
    opening: Array,
    spread: Array,
    constants: tuple[float, float],
) -> Parameters:
    """Return the parameters that a published model was made of.

    `vectors` `[n, d]` and `offsets` `[n]` are those of this catalogue's tracks, zero for new
    ones. An artist's vector is taken to be the mean of its tracks that are not zero.
    """
    vectors, opening, spread = _drawn_in(vectors, opening, spread)
    known = (vectors != 0).any(axis=1)
    sums = np.zeros((artists, vectors.shape[1]))
    np.add.at(sums, artist[known], vectors[known])
    counts = np.bincount(artist[known], minlength=artists)
    means = sums / np.maximum(counts, 1)[:, None]
    deviations = np.where(known[:, None], vectors - means[artist], 0.0)
    noise, discount = constants
    return Parameters(
        artists=_tensor(means),
        deviations=_tensor(deviations),
        offsets=_tensor(offsets),
        opening=_tensor(opening),
        spread=_tensor(spread),
        noise=noise,
        discount=discount,
    )


def _drawn_in(vectors: Array, opening: Array, spread: Array) -> tuple[Array, Array, Array]:
    """Return the same model, tastes varying by no more than `_WIDEST` in any direction.

    It foresees the same: what tastes vary less, vectors are longer. Where vectors hardly matter,
    each pass makes them a little shorter, as they are held to be, and tastes vary more; from fit
    to fit that has no end but the end of the numbers.
    """
    variances, turn = np.linalg.eigh(spread[:-1, :-1])
    stretch = np.sqrt(np.maximum(variances / _WIDEST, 1.0))
    shrunk = np.eye(len(spread))
    shrunk[:-1, :-1] = turn / stretch @ turn.T
    return vectors @ (turn * stretch @ turn.T), shrunk @ opening @ shrunk, shrunk @ spread @ shrunk


def find_discount(rows: Observations) -> float:
    """Return what a further play of an artist costs: a factor, 1 where the log cannot tell.

    The best times heard of artists played before, against the best of others: of what is liked
    without reserve, a further play still leaves `discount ** plays`. A mean would not do, since
    the tracks that a recommender repeats an artist with are better ones than the others.
    """
    fresh = rows.time[rows.plays == 0]
    if not len(fresh) or (best := float(np.quantile(fresh, _BEST))) <= 0.0:
        return 1.0
    total, factors = 0, 0.0
    for plays in (1, 2, 3):
        times = rows.time[rows.plays == plays]
        if len(times) >= _ENOUGH:
            ratio = min(float(np.quantile(times, _BEST)) / best, 1.0)
            total, factors = total + len(times), factors + len(times) * ratio ** (1.0 / plays)
    return factors / total if total else 1.0


def _leading(residuals: scipy.sparse.csr_matrix, count: int, seed: int) -> Array:
    """Return the leading eigenvectors of the co-moments, `[a, count]`, of unit mean square."""
    squares = np.asarray(residuals.multiply(residuals).sum(axis=0)).ravel()
    heard = np.asarray((residuals != 0).sum(axis=0)).ravel() + 5.0
    damped = residuals @ scipy.sparse.diags(heard**-0.5)
    own = squares / heard  # what an artist has in common with itself says nothing

    def moments(vector: Array) -> Array:
        return np.asarray(damped.T @ (damped @ vector.ravel()) - own * vector.ravel())

    first = np.random.default_rng(seed).standard_normal(len(own))
    if len(own) < 2 or np.abs(moments(first)).max() < _NOTHING:
        return np.zeros((len(own), count))  # no two artists have anything in common
    operator = LinearOperator((len(own), len(own)), matvec=moments, dtype=np.float64)
    values, vectors = eigsh(operator, k=count, which="LA", v0=first, tol=1e-3)
    scaled = vectors * np.sqrt(np.maximum(values, 1e-9)) / np.sqrt(heard)[:, None]
    # An eigenvector's sign is arbitrary: fix it, so that a seed gives one answer.
    scaled *= np.where(scaled.sum(axis=0) < 0, -1.0, 1.0)
    norm = float(np.sqrt((scaled**2).sum(axis=1).mean()))
    return np.asarray(scaled / max(norm, 1e-12))


def _tensor(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
