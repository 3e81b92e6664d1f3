"""The service's policies in process: they never repeat, and the report's figures are right."""

import numpy as np
import pytest
from scipy import stats

from precompute.errors import SimulationError
from precompute.simulation.batch import simulate
from precompute.simulation.compare import compare, policy_names
from precompute.simulation.generate import generate
from precompute.simulation.policies import RandomTracks
from precompute.simulation.served import Served
from recsvc.recommenders.registry import make_policies
from recsvc.recommenders.source import Source
from tests.support import small_table

WORLD = generate(300, 80, seed=1)
SOURCE = Source(small_table(300, users=()), "v1")


@pytest.mark.parametrize("name", ["ensemble", "random", "sticky_artist", "remembering"])
def test_policies_with_memory_never_repeat(name: str) -> None:
    policy = Served(SOURCE, make_policies(0.7)[name], WORLD.catalogue.tracks, seed=1)
    plays = simulate(WORLD, policy, seed=2, max_steps=50)
    for session in plays.tracks:
        heard = session[session >= 0]
        assert len(np.unique(heard)) == len(heard)


def test_the_catalogue_can_be_heard_to_its_end() -> None:
    world = generate(100, 5, seed=3)
    source = Source(small_table(100, users=()), "v1")
    policy = Served(source, make_policies(0.7)["ensemble"], world.catalogue.tracks, seed=1)
    policy.start(np.array([0]), np.array([0]))
    served = [int(policy.next(np.array([0]), np.array([0]), np.array([1.0]))[0]) for _ in range(99)]
    assert sorted(served) == list(range(1, 100))


def test_a_table_of_other_tracks_is_refused() -> None:
    source = Source(small_table(310, users=()), "v1")
    with pytest.raises(SimulationError, match=r"10 tracks of the table .* as 300"):
        compare(WORLD, source, ["ensemble"], listeners=60, max_steps=40, seed=7)


def test_random_is_as_the_other_random_policy() -> None:
    policy = Served(SOURCE, make_policies(0.7)["random"], WORLD.catalogue.tracks, seed=1)
    ours = simulate(WORLD, policy, seed=4, sessions=20).session_times
    theirs = simulate(WORLD, RandomTracks(WORLD, 5), seed=5, sessions=20).session_times
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_figures() -> None:
    names = ["random", "contextual"]
    results = compare(WORLD, SOURCE, names, listeners=60, max_steps=40, seed=7)
    again = compare(WORLD, SOURCE, names, listeners=60, max_steps=40, seed=7)
    assert results == again
    control, random = results
    assert (control.policy, control.effect, random.policy) == ("contextual", None, "random")
    assert random.effect == pytest.approx((random.mean / control.mean - 1) * 100)
    assert random.effect is not None
    assert random.low is not None
    assert random.high is not None
    assert random.low < random.effect < random.high
    assert policy_names()[0] == "contextual"
    assert {"ensemble", "oracle"} <= set(policy_names())
