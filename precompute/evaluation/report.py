"""The report of an experiment: every treatment against control, on every metric."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from precompute.evaluation.metrics import LOWER_IS_BETTER, METRICS, ListenerMetrics
from precompute.evaluation.statistics import (
    Effect,
    cuped,
    holm,
    mean_effect,
    median_effect,
    sample_ratio,
)
from recsvc.errors import RecsvcError

__all__ = ["Line", "Report", "ReportError", "Verdict", "build"]

MISMATCH = 0.001
"""A split less likely than this is a sample-ratio mismatch."""

Floats = npt.NDArray[np.float64]

Verdict = Literal["better", "worse", "not significant"]


class ReportError(RecsvcError):
    """There is nothing to compare; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Line:
    """One treatment on one metric, in one reading of it."""

    treatment: str
    metric: str
    kind: str
    """`mean`, `median`, or `mean, CUPED`."""
    effect: Effect
    adjusted_p: float
    """The p-value after Holm's correction over the treatments; NaN for a median."""

    @property
    def verdict(self) -> Verdict:
        """What a person wants to know first."""
        if not self.effect.significant:
            return "not significant"
        up = self.effect.difference[0] > 0
        return "better" if up != (self.metric in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True, slots=True)
class Report:
    """All that is said of an experiment; rendered by `render` and `plot`."""

    experiment: str
    control: str
    listeners: Mapping[str, int]
    """Treatment -> how many listeners, also of those that were declared and never seen.
    Treatments with fewer than two are not compared."""
    lines: tuple[Line, ...]
    mismatch_p: float
    """Of the split having come from the declared shares."""
    contaminated: int
    """Listeners left out because they had more than one treatment."""

    @property
    def mismatched(self) -> bool:
        """Whether the split is off, so that no effect is to be believed."""
        return self.mismatch_p < MISMATCH

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know before the numbers, alarms first."""
        notes = []
        if self.mismatched:
            notes.append(
                f"SAMPLE RATIO MISMATCH (p = {self.mismatch_p:.2g}): the listeners are not split"
                " as declared. Assignment or logging is broken; do not believe the effects."
            )
        if self.contaminated:
            notes.append(
                f"{self.contaminated:,} listeners had more than one treatment and are left out."
            )
        small = _small(self.listeners)
        if small:
            notes.append(f"Left out, with fewer than two listeners: {', '.join(small)}.")
        treatments = len(self.listeners) - len(small) - 1
        if treatments > 1:
            notes.append(
                f"{treatments} treatments are compared with {self.control}: by chance alone one of"
                f" {treatments} would look significant with probability"
                f" {1 - 0.95**treatments:.0%} on each metric. Trust what stays below 0.05 in the"
                " column p (Holm), which is corrected for it."
            )
        return tuple(notes)


def build(
    metrics: ListenerMetrics,
    experiment: str,
    *,
    control: str | None = None,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Report:
    """Compare every treatment with control: means by Welch, medians by bootstrap.

    `control` defaults to the first of `C`, `control`, `contextual` that there is, else to
    the first treatment. `shares` are the declared ones, equal by default. Where at least
    half of the listeners have a pre-period there are lines with CUPED too.

    Raises `ReportError` when there is no second treatment with two listeners, no such
    control, or a share that is missing or not positive.
    """
    if not metrics.treatments:
        raise ReportError(f"no event belongs to an experiment {experiment!r}")
    listeners = _listeners(metrics, shares)
    control = _control(listeners, control)
    small = _small(listeners)
    if control in small or len(listeners) - len(small) < 2:
        what = f"fewer than two listeners in {', '.join(small)}" if small else "one treatment"
        raise ReportError(f"experiment {experiment!r} has {what}; there is nothing to compare")
    lines: list[Line] = []
    for metric in METRICS:
        lines += _lines(metrics, metric, control, seed)
    return Report(
        experiment=experiment,
        control=control,
        listeners=listeners,
        lines=tuple(lines),
        mismatch_p=_mismatch(listeners, shares),
        contaminated=metrics.contaminated,
    )


def _small(listeners: Mapping[str, int]) -> list[str]:
    """Return the treatments of which nothing can be said: one listener has no variance."""
    return [name for name, count in listeners.items() if count < 2]


def _listeners(metrics: ListenerMetrics, shares: Mapping[str, float] | None) -> dict[str, int]:
    counts = np.bincount(metrics.treatment, minlength=len(metrics.treatments))
    seen = dict(zip(metrics.treatments, counts.tolist(), strict=True))
    return seen | {name: 0 for name in shares or {} if name not in seen}


def _control(listeners: Mapping[str, int], wanted: str | None) -> str:
    if wanted is not None and wanted not in listeners:
        raise ReportError(f"there is no treatment {wanted!r}; there are {', '.join(listeners)}")
    usual = [name for name in ("C", "control", "contextual") if name in listeners]
    return wanted or (usual or list(listeners))[0]


def _mismatch(listeners: Mapping[str, int], shares: Mapping[str, float] | None) -> float:
    declared = shares or dict.fromkeys(listeners, 1.0)
    if missing := [name for name in listeners if name not in declared]:
        raise ReportError(f"a share is needed for each treatment; missing: {', '.join(missing)}")
    if not all(math.isfinite(share) and share > 0 for share in declared.values()):
        raise ReportError("a share is not a positive number")
    return sample_ratio(list(listeners.values()), [declared[name] for name in listeners])


def _lines(metrics: ListenerMetrics, metric: str, control: str, seed: int) -> list[Line]:
    """Return the lines of one metric: a mean and a median each treatment, and CUPED's."""
    values, before = metrics.values[metric], metrics.before[metric]
    lines = _compare(metrics, metric, "mean", values, control)
    if not lines:
        return []
    groups = _groups(metrics, values)
    for name in groups:
        if name != control:
            effect = median_effect(groups[control], groups[name], seed=seed)
            lines.append(Line(name, metric, "median", effect, float("nan")))
    if np.isfinite(before).mean() >= 0.5:
        lines += _compare(metrics, metric, "mean, CUPED", cuped(values, before), control)
    return lines


def _compare(
    metrics: ListenerMetrics, metric: str, kind: str, values: Floats, control: str
) -> list[Line]:
    groups = _groups(metrics, values)
    if control not in groups:
        return []
    lines = [
        Line(name, metric, kind, mean_effect(groups[control], group), float("nan"))
        for name, group in groups.items()
        if name != control
    ]
    adjusted = holm([line.effect.p_value for line in lines])
    return [replace(line, adjusted_p=p) for line, p in zip(lines, adjusted, strict=True)]


def _groups(metrics: ListenerMetrics, values: Floats) -> dict[str, Floats]:
    """Return the values by treatment, without those that did not log it, as latency often is."""
    known = ~np.isnan(values)
    groups = {
        name: values[known & (metrics.treatment == code)]
        for code, name in enumerate(metrics.treatments)
    }
    return {name: group for name, group in groups.items() if len(group) >= 2}
