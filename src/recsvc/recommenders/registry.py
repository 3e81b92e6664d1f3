"""Every policy that ships, by its name."""

from random import Random
from typing import Protocol

from recsvc.policy import Plan
from recsvc.recommenders.ensemble import Ensemble
from recsvc.recommenders.source import Source

__all__ = ["Policy", "make_policies"]


class Policy(Protocol):
    """Plans an answer; pure, and the same generator state gives the same plan."""

    @property
    def name(self) -> str:
        """What settings, experiments and events call it."""

    def plan(self, source: Source, user: int, track: int, time: float, rng: Random) -> Plan:
        """Plan the answer to a listener who heard `track` for the fraction `time`."""


def make_policies(switch_threshold: float) -> dict[str, Policy]:
    """Make all policies with their settings."""
    policies: tuple[Policy, ...] = (Ensemble(switch_threshold),)
    return {policy.name: policy for policy in policies}
