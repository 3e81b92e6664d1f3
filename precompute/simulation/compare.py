"""Compares the service's policies on one world and one table, in process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from precompute.simulation.batch import BatchPolicy, simulate
from precompute.simulation.policies import Oracle
from precompute.simulation.served import Served
from precompute.simulation.world import World
from recsvc.policy import SWITCH_THRESHOLD
from recsvc.recommenders.registry import make_policies
from recsvc.recommenders.source import Source

__all__ = ["CONTROL", "ORACLE", "Result", "compare", "policy_names"]

CONTROL = "contextual"
ORACLE = "oracle"


@dataclass(frozen=True, slots=True)
class Result:
    """How long a policy's sessions were, in tracks' worth of time.

    `low` and `high` bound the effect on the mean against the control, in percent of the
    control's mean (95%, Welch); None for the control itself.
    """

    policy: str
    mean: float
    median: float
    capped: float
    effect: float | None = None
    low: float | None = None
    high: float | None = None


def policy_names() -> list[str]:
    """Return every policy that ships, the control first, and the oracle."""
    others = [name for name in make_policies(SWITCH_THRESHOLD) if name != CONTROL]
    return [CONTROL, *others, ORACLE]


def compare(
    world: World,
    source: Source,
    names: Sequence[str],
    *,
    listeners: int,
    max_steps: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Result]:
    """Let the same `listeners` (the world's first) have a session with each policy.

    The control is run whether it is named or not, and comes first. `progress` hears how many
    policies are done.
    """
    rows = np.arange(min(listeners, len(world.listeners)))
    policies = make_policies(SWITCH_THRESHOLD)
    results: list[Result] = []
    control = np.zeros(0)
    for name in [CONTROL, *(n for n in names if n != CONTROL)]:
        progress(len(results))
        policy: BatchPolicy
        if name == ORACLE:
            policy = Oracle(world, max_steps)
        else:
            policy = Served(source, policies[name], world.catalogue.tracks, seed)
        plays = simulate(world, policy, seed=seed, listeners=rows, max_steps=max_steps)
        times = plays.session_times
        capped = float((plays.lengths > max_steps).mean())
        mean, median = float(times.mean()), float(np.median(times))
        if name == CONTROL:
            control = times
            results.append(Result(name, mean, median, capped))
            continue
        base = control.mean() / 100
        interval = stats.ttest_ind(times, control, equal_var=False).confidence_interval(0.95)
        results.append(
            Result(
                name,
                mean,
                median,
                capped,
                effect=float((mean - control.mean()) / base),
                low=float(interval.low / base),
                high=float(interval.high / base),
            )
        )
    return results
