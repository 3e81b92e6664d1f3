"""The policy `session`: exact propensities, nothing twice, one belief however it came about."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from recsvc.evidence import NO_EVIDENCE, Evidence, pack, unpack
from recsvc.policy import CONTEXTUAL, PERSONAL, POPULAR, Plan, Pool, probabilities, settle
from recsvc.recommenders.inference import believe, forecast, learn, walk
from recsvc.recommenders.session import SESSION, SessionPolicy
from recsvc.recommenders.source import Source
from recsvc.table import empty
from recsvc.taste import Belief, predict, prior, update
from recsvc.tracks import pack_tracks
from tests.inferring import hear, inferring_table
from tests.support import small_table

A = Source(inferring_table(40, 4, seed=1), "a")
B = Source(inferring_table(44, 6, seed=2, first=4), "b")  # lacks 0..3, has 40..47 and 6 dimensions
POLICY = SessionPolicy(0.1, 8)
UNKNOWN = 10**12

Heard = list[tuple[int, float]]


@pytest.fixture(params=["compiled", "python"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How it is inferred; what is promised holds both ways."""
    if request.param == "python":
        for source in (A, B, MANY):
            monkeypatch.setattr(source, "native", None)
    return str(request.param)


def heard_of(heard: Heard, source: Source = A) -> Evidence:
    """The evidence after these reports, one by one, through the store each time."""
    found = NO_EVIDENCE
    for track, time in heard:
        found = unpack(pack(learn(source, found, track, time)))
    return found


def plan(
    evidence: Evidence = NO_EVIDENCE, *, seed: int = 1, policy: SessionPolicy = POLICY
) -> Plan:
    return recall(3, 0.9, evidence, seed=seed, policy=policy)[0]


def recall(
    track: int,
    time: float,
    evidence: Evidence = NO_EVIDENCE,
    out: Sequence[int] = (),
    *,
    seed: int = 1,
    source: Source = A,
    policy: SessionPolicy = POLICY,
) -> tuple[Plan, Evidence]:
    """The plan of a session with this evidence, and the evidence after it."""
    kept = pack(evidence) if evidence.belief else b""
    made, kept = policy.recall(source, 1, track, time, Random(seed), kept, pack_tracks(out))
    return made, unpack(kept)


def best(made: Plan) -> Pool:
    pool = made.pools[0]
    assert isinstance(pool, Pool)
    assert pool.recommender == SESSION
    return pool


def assert_same(one: Belief | None, other: Belief | None, tolerance: float = 1e-4) -> None:
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.mean, other.mean, atol=tolerance)
    np.testing.assert_allclose(one.covariance, other.covariance, atol=tolerance)


def among(heard: Sequence[int], tracks: Sequence[int]) -> list[bool]:
    return [track in heard for track in tracks]


nothing_heard = partial(among, ())


# --- the draw ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exploration", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 8, 1000])
def test_propensities_are_those_of_greedy_with_a_share_of_exploration(
    exploration: float, count: int
) -> None:
    candidates = best(plan(policy=SessionPolicy(exploration, count))).candidates
    m = min(count, 39)
    chances = probabilities(candidates, [False] * len(candidates))
    assert len(chances) == m
    assert sum(chances) == pytest.approx(1.0)
    assert chances[0] == pytest.approx(1.0 - exploration + exploration / m, abs=1e-6)
    assert chances[1:] == pytest.approx([exploration / m] * (m - 1), abs=1e-6)


def test_draws_come_as_often_as_their_propensity_says() -> None:
    policy, rounds = SessionPolicy(0.3, 6), 2500
    found = [settle(plan(seed=s, policy=policy), None, nothing_heard, 0) for s in range(rounds)]
    counts = Counter(one.track for one in found if one)
    logged = {one.track: one.propensity for one in found if one}
    assert len(counts) == 6
    assert sum(logged.values()) == pytest.approx(1.0)
    expected = [logged[track] * rounds for track in counts]
    assert chisquare(list(counts.values()), expected).pvalue > 1e-4


@pytest.mark.parametrize("exploration", [0.0, 0.1])
def test_when_the_best_turns_out_to_be_heard_another_is_served(exploration: float) -> None:
    made = plan(policy=SessionPolicy(exploration, 8))
    tracks = best(made).candidates.tracks
    for gone in range(1, 8):
        decision = settle(made, None, partial(among, tracks[:gone]), gone)
        assert decision is not None
        assert decision.track in tracks[gone:]
        assert decision.propensity == pytest.approx(1 / (8 - gone))


def test_the_same_seed_gives_the_same_plan() -> None:
    evidence = heard_of([(7, 0.4), (9, 0.8)])
    one, same = (plan(evidence, seed=5) for _ in range(2))
    assert [p.draw for p in one.pools if isinstance(p, Pool)] == [
        p.draw for p in same.pools if isinstance(p, Pool)
    ]
    assert best(one).candidates.tracks == best(same).candidates.tracks
    assert len({best(plan(evidence, seed=s)).draw.spare for s in range(9)}) == 9


def test_the_best_come_first_and_what_is_foreseen_is_the_models() -> None:
    evidence = heard_of([(7, 0.9), (10, 0.2), (13, 0.5), (2, 0.0)])
    model, table = A.session_model, A.table
    assert model is not None
    assert evidence.belief is not None
    times = predict(model, evidence.belief, model.places)[0]
    plays = np.bincount(table.artist[[7, 10, 13, 2]], minlength=3)
    times *= model.discount ** plays[table.artist]
    times[[7, 10, 13, 2, 20]] = -1.0  # heard, and served
    found, _ = forecast(A, evidence, (20,), 6)
    assert found.tracks.tolist() == np.argsort(-times)[:6].tolist()
    assert found.times.tolist() == pytest.approx(np.sort(times)[::-1][:6].tolist())
    discounts = model.discount ** plays[found.tracks % 3]
    assert found.discounts == pytest.approx(discounts)


def test_nothing_heard_or_just_served_is_offered_until_all_is_heard() -> None:
    rng, evidence = np.random.default_rng(1), NO_EVIDENCE
    heard, served = [3], 38
    for step in range(40):
        time = round(rng.random(), 2)
        made, evidence = recall(heard[-1], time, evidence, (served,), seed=step)
        offered = best(made).candidates.tracks
        assert len(offered) == min(8, 40 - len({*heard, served}))
        assert not set(offered) & {*heard, served}
        assert [p.recommender for p in made.pools] == [SESSION, CONTEXTUAL, PERSONAL, POPULAR]
        if offered:
            served = offered[0]
            heard.append(served)
    assert sorted(heard) == list(range(40))


# --- the shortlist -----------------------------------------------------------------------------

MANY = Source(inferring_table(2000, 6, seed=3, artists=200), "many")


@pytest.mark.parametrize("follows", [True, False])
def test_a_shortlist_keeps_up_with_the_session(follows: bool) -> None:
    """Its plays are those of a recount, and what was heard or went out last is not on it."""
    model, table, rng = MANY.session_model, MANY.table, Random(4)
    assert model is not None
    evidence, heard, looks = NO_EVIDENCE, [3], 0
    out = list[int]()
    for step in range(60):
        made, evidence = recall(heard[-1], (3 + step % 7) / 9, evidence, out, source=MANY)
        rows = model.rows[evidence.shortlist.places]
        plays = np.bincount(table.artist[heard], minlength=200)
        assert evidence.shortlist.plays.tolist() == plays[table.artist[rows]].tolist()
        listed = set(table.tracks[rows].tolist())
        assert len(listed) == len(rows) >= 8
        assert not listed & {*heard, *out}
        assert set(best(made).candidates.tracks) <= listed
        looks += evidence.shortlist.age == 0
        out.append(best(made).candidates.tracks[0])
        heard.append(out[-1] if follows else rng.randrange(2000))
    assert 8 <= looks <= 14


@pytest.mark.parametrize(("time", "age"), [(0.0, 0), (0.29, 0), (0.3, 1), (1.0, 1)])
def test_after_a_miss_it_is_made_anew(time: float, age: int) -> None:
    kept = recall(3, 0.9, source=MANY)[1]
    assert kept.shortlist.age == 0
    kept = recall(4, time, kept, source=MANY)[1]
    assert kept.shortlist.age == age


def test_the_best_of_a_shortlist_is_nearly_the_best_there_is() -> None:
    model, table, shares = MANY.session_model, MANY.table, []
    assert model is not None
    for seed in range(4):
        rng = np.random.default_rng(seed)
        first = int(rng.integers(2000))
        start = prior(model, first, 1.0)
        state = rng.multivariate_normal(start.mean, start.covariance)
        evidence, heard, time = NO_EVIDENCE, [first], 1.0
        for step in range(50):
            made, evidence = recall(heard[-1], time, evidence, seed=step, source=MANY)
            assert evidence.belief is not None
            plays = np.bincount(table.artist[heard], minlength=200)
            exact = predict(model, evidence.belief, model.places)[0]
            exact = exact * model.discount ** plays[table.artist]
            exact[heard] = 0.0
            track = best(made).candidates.tracks[0]
            shares.append(exact[track] / exact.max())
            time = hear(model, state, track, int(plays[table.artist[track]]), rng)
            heard.append(track)
    assert np.mean(shares) > 0.97


def test_another_model_makes_a_shortlist_of_its_own() -> None:
    kept = recall(9, 0.9)[1]
    assert len(kept.shortlist.places) == 39
    assert len(learn(B, kept, 12, 0.9).shortlist.places) == 0


# --- the belief ----------------------------------------------------------------------------------

REPORTS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 39), st.sampled_from([0, 1, 3, 4, 45, UNKNOWN])),
        st.integers(0, 100).map(lambda time: time / 100),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(REPORTS)
def test_one_track_at_a_time_or_all_at_once_is_the_same_belief(heard: Heard) -> None:
    evidence = heard_of(heard)
    assert evidence.tracks.tolist() == [track for track, _ in heard]
    assert_same(evidence.belief, believe(A, evidence))


@settings(max_examples=80, deadline=None)
@given(before=REPORTS, after=REPORTS)
def test_another_model_takes_over_as_if_it_had_been_there_all_along(
    before: Heard, after: Heard
) -> None:
    evidence = heard_of(before)
    made, kept = recall(*after[0], evidence, source=B)
    assert kept.version == "b"
    assert_same(kept.belief, heard_of([*before, after[0]], B).belief)
    assert len(best(made).candidates) == 8
    for track, time in after[1:]:
        kept = unpack(pack(learn(B, kept, track, time)))
    assert_same(kept.belief, heard_of([*before, *after], B).belief)


def test_a_belief_of_another_shape_is_formed_anew() -> None:
    foreign = replace(heard_of([(5, 0.4), (6, 0.8)], B), version="a")
    assert_same(learn(A, foreign, 7, 0.5).belief, heard_of([(5, 0.4), (6, 0.8), (7, 0.5)]).belief)


def test_by_hand() -> None:
    model = A.session_model
    assert model is not None
    belief = prior(model, 6, 0.75)
    belief = update(model, belief, 9, 0.3, 1)  # 6, 9, 12, 15 are of one artist, 7 of another
    belief = update(model, belief, 7, 0.5, 0)
    belief = update(model, belief, 12, 0.2, 3)  # 9 was played twice
    heard = [(6, 0.75), (9, 0.3), (7, 0.5), (9, 0.9), (12, 0.2)]
    assert_same(heard_of(heard).belief, belief)


def test_of_a_repeat_nothing_is_learnt() -> None:
    evidence = heard_of([(6, 0.75), (7, 0.3)])
    for time in (0.0, 1.0):
        again = learn(A, evidence, 7, time)
        assert again.belief is evidence.belief
        assert again.tracks.tolist() == [6, 7, 7]


def test_an_unknown_track_says_nothing_and_gets_an_answer() -> None:
    model = A.session_model
    assert model is not None
    made, kept = recall(UNKNOWN, 0.9)
    assert_same(kept.belief, prior(model, None, 0.0))
    assert len(best(made).candidates) == 8
    evidence = heard_of([(6, 0.75), (7, 0.3)])
    assert learn(A, evidence, UNKNOWN, 1.0).belief is evidence.belief


def test_a_walk_tells_what_was_known_before_and_after_each_track() -> None:
    heard = [(6, 0.75), (9, 0.3), (UNKNOWN, 1.0), (9, 0.9), (12, 0.2)]
    evidence = heard_of(heard)
    steps = list(walk(A, evidence))
    assert [(s.row, s.plays) for s in steps] == [(6, 0), (9, 1), (12, 3)]
    assert steps[0].before is None
    assert [s.before for s in steps[1:]] == [s.after for s in steps[:-1]]
    assert_same(steps[-1].after, evidence.belief)


# --- without a model -----------------------------------------------------------------------------


def test_without_a_session_model_the_others_answer() -> None:
    source = Source(small_table(), "plain")
    made, kept = recall(3, 0.9, heard_of([(3, 0.5)]), (4,), source=source)
    assert kept is NO_EVIDENCE
    decision = settle(made, SESSION, nothing_heard, 0)
    assert decision is not None
    assert (decision.recommender, decision.fallback) == (CONTEXTUAL, True)
    assert decision.track in source.neighbours(3).tracks


def test_an_empty_table_offers_nothing() -> None:
    made, kept = recall(3, 0.9, out=(4,), source=Source(empty(), "none"))
    assert kept is NO_EVIDENCE
    assert settle(made, None, nothing_heard, 0) is None
