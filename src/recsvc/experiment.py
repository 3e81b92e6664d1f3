"""Experiments: which listener gets which treatment. Pure: (experiment, user) -> treatment.

A listener's bucket is a hash of the id, seeded by a hash of the experiment's salt, so
that an assignment is sticky, needs no storage, and is independent of every other
experiment's. Equal shares split as `mmh3.hash(str(user), mmh3.hash(name), signed=False)
% n` does; unequal ones give each treatment as many buckets as its share has parts.
"""

import tomllib
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import gcd, lcm
from typing import Annotated

import mmh3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsvc.errors import ExperimentError

__all__ = ["Assignment", "Experiment", "Experiments", "Treatment", "parse"]

_FINEST = 10_000  # shares are taken to so many parts


@dataclass(frozen=True, slots=True)
class Treatment:
    """One arm of an experiment, and the policy that answers its listeners.

    Without a policy the service's own answers, and only the assignment is recorded.
    """

    name: str
    share: float = 1.0
    policy: str | None = None


class Experiment:
    """Some treatments, the first of them the control."""

    def __init__(self, name: str, treatments: Sequence[Treatment], salt: str | None = None) -> None:
        self.name = name
        self.treatments = tuple(treatments)
        # Unsigned: mmh3 takes no negative seed, and hashes the same bits either way.
        self._seed = mmh3.hash(name if salt is None else salt, signed=False)
        self._ends = list(accumulate(_parts([t.share for t in treatments])))

    def assign(self, user: int) -> Treatment:
        """Return a listener's treatment."""
        bucket = mmh3.hash(str(user), self._seed, signed=False) % self._ends[-1]
        return self.treatments[bisect_right(self._ends, bucket)]


@dataclass(frozen=True, slots=True)
class Assignment:
    """What all experiments together say of a listener: arm by experiment, and the policy."""

    treatments: dict[str, str]
    policy: str | None


class Experiments:
    """The experiments that are on. At most one of them names policies."""

    def __init__(self, experiments: Sequence[Experiment] = ()) -> None:
        self.experiments = tuple(experiments)

    def assign(self, user: int) -> Assignment:
        """Return a listener's treatments, and the policy that one of them names."""
        arms, policy = {}, None
        for experiment in self.experiments:
            treatment = experiment.assign(user)
            arms[experiment.name] = treatment.name
            policy = treatment.policy or policy
        return Assignment(arms, policy)


def parse(text: str, policies: Collection[str]) -> Experiments:
    """Read experiments from TOML; `policies` are the names that a treatment may use.

    Raises `ExperimentError` that says what is wrong. Experiments that are off are left out.
    """
    try:
        stated = _File.model_validate(tomllib.loads(text)).experiment
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"the experiments are not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ExperimentError(f"the experiments are not valid: {place}: {first['msg']}") from error
    _check(stated, policies)
    return Experiments(
        [
            Experiment(e.name, [Treatment(t.name, t.share, t.policy) for t in e.treatments], e.salt)
            for e in stated
            if e.on
        ]
    )


# --- the file -----------------------------------------------------------------------------------

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Treatment(_Strict):
    name: _Name
    share: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    policy: str | None = None


class _Experiment(_Strict):
    name: _Name
    treatments: Annotated[list[_Treatment], Field(min_length=1, max_length=64)]
    salt: str | None = None
    on: bool = True


class _File(_Strict):
    experiment: list[_Experiment] = []


def _check(stated: Sequence[_Experiment], policies: Collection[str]) -> None:
    _distinct("experiment", [e.name for e in stated])
    for experiment in stated:
        _distinct(f"{experiment.name}: treatment", [t.name for t in experiment.treatments])
        for treatment in experiment.treatments:
            if treatment.policy is not None and treatment.policy not in policies:
                raise ExperimentError(
                    f"{experiment.name}.{treatment.name}: there is no policy {treatment.policy!r}; "
                    f"there are {', '.join(sorted(policies))}"
                )
    deciding = [e.name for e in stated if e.on and any(t.policy for t in e.treatments)]
    if len(deciding) > 1:
        raise ExperimentError(
            f"{' and '.join(deciding)} both name policies; only one experiment that is on may"
        )


def _distinct(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ExperimentError(f"{what} {name} is declared twice")


def _parts(shares: Sequence[float]) -> list[int]:
    """Turn shares into the smallest whole numbers in the same proportion."""
    fractions = [Fraction(share).limit_denominator(_FINEST) for share in shares]
    whole = lcm(*(f.denominator for f in fractions))
    parts = [max(int(f * whole), 1) for f in fractions]
    return [part // gcd(*parts) for part in parts]
