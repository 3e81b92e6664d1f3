"""Every policy that ships, by its name."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

from recsvc.experiment import Experiments
from recsvc.policy import Plan
from recsvc.recommenders.baselines import baselines
from recsvc.recommenders.ensemble import Ensemble
from recsvc.recommenders.session import SessionPolicy
from recsvc.recommenders.source import Source

__all__ = ["Policies", "Policy", "make_policies"]


class Policy(Protocol):
    """Plans an answer; pure, and the same generator state gives the same plan."""

    @property
    def name(self) -> str:
        """What settings, experiments and events call it."""

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Plan the answer to a listener who heard `track` for the fraction `time`."""


def make_policies(
    switch_threshold: float, *, exploration: float = 0.0, candidates: int = 32
) -> dict[str, Policy]:
    """Make all policies with their settings; the last two are those of `SessionPolicy`."""
    policies: tuple[Policy, ...] = (
        Ensemble(switch_threshold),
        SessionPolicy(exploration, candidates),
        *baselines(switch_threshold),
    )
    return {policy.name: policy for policy in policies}


@dataclass(frozen=True, slots=True)
class Policies:
    """Every policy by name, the one that answers by default, and the experiments."""

    by_name: Mapping[str, Policy]
    default: str
    experiments: Experiments

    def of(self, user: int) -> tuple[Policy, dict[str, str]]:
        """Return who answers a listener, and the listener's treatments by experiment."""
        if not self.experiments.experiments:
            return self.by_name[self.default], {}
        assignment = self.experiments.assign(user)
        return self.by_name[assignment.policy or self.default], assignment.treatments
