"""The policies that ship: whom they ask, in which order, with which weights."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from scipy.stats import chisquare

from recsvc.policy import CATALOGUE, CONTEXTUAL, PERSONAL, POPULAR, Plan, Pool, Sample, settle
from recsvc.recommenders.catalogue import plan_among, plan_oldest, plan_sample
from recsvc.recommenders.registry import make_policies
from recsvc.recommenders.source import Source
from recsvc.settings import Settings
from recsvc.table import empty
from tests.support import small_table

POLICIES = make_policies(0.7)
SOURCE = Source(small_table(first=100, users=(1, 2)), "v1")


def plan(name: str, *, user: int = 1, track: int = 103, time: float = 0.5, seed: int = 1) -> Plan:
    return POLICIES[name].plan(SOURCE, user, track, time, Random(seed))


def offers(made: Plan) -> dict[str, dict[int, float]]:
    return {
        pool.recommender: dict(zip(pool.candidates.tracks, pool.candidates.weights, strict=True))
        for pool in made.pools
        if isinstance(pool, Pool)
    }


def memory(made: Plan) -> set[bool]:
    return {pool.memory for pool in made.pools if isinstance(pool, Pool)}


def names(made: Plan, last: str | None) -> list[str]:
    return [made.pools[index].recommender for index in made.routes.after(last)]


def test_the_setting_offers_the_policies_that_ship() -> None:
    allowed = Settings.model_fields["policy"].annotation
    assert set(getattr(allowed, "__args__", ())) == set(POLICIES)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_same_seed_gives_the_same_plan(name: str) -> None:
    assert settle(plan(name), None, _nothing_heard, 0) == settle(
        plan(name), None, _nothing_heard, 0
    )


@pytest.mark.parametrize("name", ["ensemble", "switching"])
@pytest.mark.parametrize(
    ("last", "time", "first"),
    [
        (None, 0.1, CONTEXTUAL),
        (CONTEXTUAL, 0.69, PERSONAL),
        (CONTEXTUAL, 0.7, CONTEXTUAL),
        (PERSONAL, 0.69, CONTEXTUAL),
        (PERSONAL, 0.7, PERSONAL),
        (POPULAR, 0.1, CONTEXTUAL),
        (CATALOGUE, 0.9, CONTEXTUAL),
    ],
)
def test_the_switch_decides_who_is_asked_first(
    name: str, last: str | None, time: float, first: str
) -> None:
    other = {CONTEXTUAL: PERSONAL, PERSONAL: CONTEXTUAL}[first]
    assert names(plan(name, time=time), last) == [first, other, POPULAR]


def test_the_switch_threshold_is_a_setting() -> None:
    made = make_policies(0.2)["ensemble"].plan(SOURCE, 1, 103, 0.5, Random(1))
    assert names(made, PERSONAL)[0] == PERSONAL


def test_ensemble_offers_the_table() -> None:
    made = plan("ensemble")
    assert offers(made) == {
        CONTEXTUAL: {104: 5.0, 105: 4.0, 106: 3.0, 107: 2.0, 108: 1.0},
        PERSONAL: dict(zip(SOURCE.personal(1).tracks, SOURCE.personal(1).weights, strict=True)),
        POPULAR: {100: 3.0, 101: 2.0, 102: 1.0},
    }
    assert memory(made) == {True}


def test_the_control_is_uniform_and_remembers_nothing() -> None:
    made = plan("contextual")
    assert set(offers(made)[CONTEXTUAL].values()) == {1.0}
    assert memory(made) == {False}
    decision = settle(made, None, lambda tracks: [True] * len(tracks), 12)
    assert decision is not None
    assert (decision.recommender, decision.propensity) == (CONTEXTUAL, 1 / 5)


def test_each_step_adds_one_thing_to_the_control() -> None:
    table = replace(
        small_table(first=100),
        top=np.roll(small_table().top.reshape(12, 5), 1, axis=0).ravel(),
    )
    source = Source(table, "v1")

    def step(name: str) -> tuple[dict[int, float], set[bool]]:
        made = POLICIES[name].plan(source, 1, 103, 0.5, Random(1))
        return offers(made)[CONTEXTUAL], memory(made)

    top, neighbours = [103, 104, 105, 106, 107], [104, 105, 106, 107, 108]
    assert step("contextual") == (dict.fromkeys(top, 1.0), {False})
    assert step("weighted") == (dict(zip(top, [5, 4, 3, 2, 1], strict=True)), {False})
    assert step("filtered") == (dict.fromkeys(neighbours, 1.0), {False})
    assert step("remembering") == (dict.fromkeys(top, 1.0), {True})
    assert step("switching") == (dict.fromkeys(top, 1.0), {False})


def test_sticky_artist_stays_with_the_artist() -> None:
    assert offers(plan("sticky_artist"))["sticky_artist"] == {100: 1.0, 106: 1.0, 109: 1.0}
    assert names(plan("sticky_artist", track=7), None) == ["sticky_artist", POPULAR]
    assert offers(plan("sticky_artist", track=7))["sticky_artist"] == {}


def test_of_an_artist_with_very_many_tracks_the_most_played_are_offered() -> None:
    n = 1300
    table = replace(small_table(n), artist=np.zeros(n, dtype=np.int32))
    found = Source(table, "v1").same_artist(0)
    assert len(found) == 500
    assert sorted(found.tracks) == list(range(1, 501))  # plays fall with the index


@pytest.mark.parametrize("name", ["personal", "popular", "sticky_artist"])
def test_baselines_remember(name: str) -> None:
    assert memory(plan(name)) == {True}


def test_random_draws_every_track_alike() -> None:
    rng, rounds = Random(3), 6000
    counts = dict.fromkeys(SOURCE.table.tracks.tolist(), 0)
    for _ in range(rounds):
        decision = settle(
            POLICIES["random"].plan(SOURCE, 1, 103, 0.5, rng), None, _nothing_heard, 0
        )
        assert decision is not None
        assert decision.propensity == 1 / 12
        counts[decision.track] += 1
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_what_the_table_does_not_know_is_an_empty_offer() -> None:
    for source, track, user in ((SOURCE, 7, 99), (Source(empty(), "none"), 0, 1)):
        for maker in (source.neighbours, source.neighbours_evenly, source.top, source.same_artist):
            assert len(maker(track)) == 0
        assert len(source.personal(user)) == 0
        assert source.describe(track) == {"track": track, "artist": "", "title": ""}


def test_without_compiled_code_candidates_are_made_once() -> None:
    source = Source(SOURCE.table, "v1", compiled=False)
    assert len(source.neighbours(104)) > 0
    assert source.neighbours(104) is source.neighbours(104)
    assert source.personal(2) is source.personal(2)


def test_describe() -> None:
    assert SOURCE.describe(104) == {"track": 104, "artist": "Bo", "title": "Song 4"}


# --- any unheard track -------------------------------------------------------------------------


def test_a_sample_proposes_distinct_tracks_of_the_catalogue() -> None:
    made = plan_sample(SOURCE, 3, Random(1))
    assert made is not None
    (sample,) = made.pools
    assert isinstance(sample, Sample)
    assert len(set(sample.proposals)) == len(sample.proposals)
    assert set(sample.proposals) <= set(SOURCE.table.tracks.tolist())
    assert (sample.recommender, sample.size, made.fallback) == (CATALOGUE, 12, True)


@pytest.mark.parametrize("heard", [12, 13, 100])
def test_of_a_catalogue_heard_in_full_there_is_no_sample(heard: int) -> None:
    assert plan_sample(SOURCE, heard, Random(1)) is None


def test_with_few_unheard_among_many_listing_is_cheaper() -> None:
    source = Source(small_table(20_000), "v1")
    assert plan_sample(source, 0, Random(1)) is not None
    assert plan_sample(source, 19_990, Random(1)) is None


def test_listed_tracks_are_all_proposed_when_they_are_few() -> None:
    (sample,) = plan_among(SOURCE, [101, 105, 109], Random(1)).pools
    assert isinstance(sample, Sample)
    assert sorted(sample.proposals) == [101, 105, 109]


def test_the_oldest_is_served_though_it_was_heard() -> None:
    decision = settle(plan_oldest(7), None, lambda tracks: [True] * len(tracks), 12)
    assert decision is not None
    assert (decision.track, decision.propensity, decision.fallback) == (7, 1.0, True)


def _nothing_heard(tracks: object) -> list[bool]:
    return [False] * len(list(tracks))  # type: ignore[call-overload]
