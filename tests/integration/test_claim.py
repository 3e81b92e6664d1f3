"""The atomic step in Redis: the same law as the pure policy, and nothing half done."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsvc.policy import (
    CATALOGUE,
    CONTEXTUAL,
    OLDEST,
    PERSONAL,
    POPULAR,
    Candidates,
    Plan,
    Pool,
    Sample,
    draw,
    settle,
)
from recsvc.redis.commands import Client
from recsvc.redis.keys import Keys
from recsvc.redis.sessions import RedisSessions
from recsvc.session import Claimed, Exhausted, Moved
from tests.support import claim, command, pool, three_pools

NAMES = (CONTEXTUAL, PERSONAL, POPULAR, CATALOGUE, OLDEST)


async def events(client: Client, keys: Keys) -> list[dict[str, Any]]:
    stored = await client.xrange(keys.events(0), "-", "+", 10_000)
    return [json.loads(fields[b"event"]) for _, fields in stored]


@st.composite
def pools(draws: st.DrawFn) -> Pool | Sample:
    name = draws(st.sampled_from(NAMES))
    tracks = draws(st.lists(st.integers(0, 12), unique=True, max_size=10))
    if tracks and draws(st.integers(0, 3)) == 0:
        return Sample(name, tracks, 13)
    weights = draws(st.lists(st.floats(1e-6, 1e3), min_size=len(tracks), max_size=len(tracks)))
    candidates = Candidates(tracks, weights)
    rng = Random(draws(st.integers(0, 10_000)))
    return Pool(name, candidates, draw(candidates, rng), draws(st.booleans()))


@st.composite
def plans(draws: st.DrawFn) -> Plan:
    offered = tuple(draws(st.lists(pools(), min_size=1, max_size=4)))
    order = st.permutations(range(len(offered))).map(tuple)
    routes = {last: draws(order) for last in (CONTEXTUAL, PERSONAL, None)}
    return Plan(offered, routes, draws(st.booleans()))


# The fixtures are shared by all examples on purpose: each has a listener of its own.
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    plan=plans(),
    last=st.sampled_from([None, CONTEXTUAL, PERSONAL, POPULAR]),
    heard=st.sets(st.integers(0, 12)),
    user=st.integers(0, 2**63 - 1),
)
async def test_redis_settles_as_the_policy_does(
    client: Client,
    keys: Keys,
    sessions: RedisSessions,
    plan: Plan,
    last: str | None,
    heard: set[int],
    user: int,
) -> None:
    await sessions.erase(user)
    if last is not None:
        await client.hset(
            keys.session(user), mapping={"id": "s", "recommender": last, "position": 3}
        )
    for track in heard:
        await command(client, "SADD", keys.listened(user), track)

    outcome = await sessions.claim(claim(plan, user=user, track=5))

    gone = heard | {5}
    expected = settle(plan, last, lambda tracks: [t in gone for t in tracks], len(gone))
    if expected is None:
        assert isinstance(outcome, Exhausted)
        assert outcome.heard == len(gone)
    else:
        assert isinstance(outcome, Claimed)
        assert outcome.track == expected.track
        assert outcome.recommender == expected.recommender
        assert abs(outcome.propensity - expected.propensity) < 1e-12
        assert outcome.fallback == expected.fallback


async def test_concurrent_claims_never_get_the_same_track(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    candidates = Candidates(list(range(100, 300)), [1.0] * 200)
    rng = Random(1)
    plans = [
        Plan((Pool(POPULAR, candidates, draw(candidates, rng)),), {None: (0,)}) for _ in range(200)
    ]

    outcomes = await asyncio.gather(*(sessions.claim(claim(p, track=100)) for p in plans))

    served = [o.track for o in outcomes if isinstance(o, Claimed)]
    assert sorted(served) == list(range(101, 300))
    assert sum(isinstance(o, Exhausted) for o in outcomes) == 1
    recorded = await events(client, keys)
    assert Counter(e["recommendation"] for e in recorded) == Counter(served)
    assert sorted(e["position"] for e in recorded) == list(range(199))


async def test_the_event_tells_what_was_answered(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    outcome = await sessions.claim(claim(three_pools(pick=1)))
    assert isinstance(outcome, Claimed)
    (event,) = await events(client, keys)
    assert event == {
        "user": 1,
        "session": outcome.session,
        "position": 0,
        "recommendation": 11,
        "recommender": "contextual",
        "propensity": 0.75,
        "fallback": False,
    }


async def test_the_same_key_gets_the_same_answer_and_one_event(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    one = claim(three_pools(), key="k")
    first = await sessions.claim(one)
    later = replace(
        one, policy="other", table_version="v2", report=replace(one.report, request_id="x")
    )
    again = await asyncio.gather(*(sessions.claim(later) for _ in range(20)))
    assert all(answer == first for answer in again)
    assert len(await events(client, keys)) == 1
    other = await sessions.claim(claim(three_pools(pick=1), key="k2"))
    assert isinstance(other, Claimed)
    assert other != first


async def test_an_exhausted_plan_leaves_no_trace(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    plan = Plan((pool(CONTEXTUAL, {5: 1.0}),), {None: (0,)})
    outcome = await sessions.claim(claim(plan, track=5))
    assert outcome == Exhausted(0, 1)
    assert await sessions.read(1) is None
    assert await sessions.listened(1) == []
    assert await events(client, keys) == []


async def test_a_claim_for_a_session_that_has_moved_on_is_refused(sessions: RedisSessions) -> None:
    await sessions.claim(claim(three_pools()))
    late = replace(claim(three_pools(pick=1)), position=0)
    assert await sessions.claim(late) == Moved()
    assert isinstance(await sessions.claim(replace(late, position=1)), Claimed)


async def test_tracks_outside_the_catalogue_are_not_counted_as_heard_of_it(
    sessions: RedisSessions,
) -> None:
    sample = Plan((Sample(CATALOGUE, [1, 2, 3], 3),), {None: (0,)})
    first = await sessions.claim(replace(claim(sample, track=999), known=False))
    assert isinstance(first, Claimed)
    assert first.propensity == 1 / 3
    second = await sessions.claim(claim(sample, track=first.track))
    assert isinstance(second, Claimed)
    assert second.propensity == 1 / 2


async def test_a_sample_of_another_table_needs_a_recount(sessions: RedisSessions) -> None:
    await sessions.claim(claim(three_pools()))
    sample = Plan((Sample(CATALOGUE, [1, 2, 3], 3),), {None: (0,)})
    swapped = replace(claim(sample, track=1), table_version="v2")
    assert await sessions.claim(swapped) == Exhausted(1, None)
    outcome = await sessions.claim(replace(swapped, recount=2))
    assert isinstance(outcome, Claimed)
    assert outcome.propensity == 1 / 2


async def test_every_key_of_a_listener_expires(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await sessions.claim(claim(three_pools(), key="k"))
    names = await command(client, "KEYS", f"{keys.prefix}:*:1*")
    stored = [await command(client, "PTTL", name) for name in names]
    assert len(stored) == 4
    assert all(0 < ttl <= 120_000 for ttl in stored)


async def test_finish_ends_the_session_and_records_it(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    first = await sessions.claim(claim(three_pools()))
    assert isinstance(first, Claimed)
    report = claim(three_pools(), key="end").report
    for _ in range(3):
        await sessions.finish(report, {"message": "last"})
    assert await sessions.read(1) is None
    assert await sessions.listened(1) == []
    recorded = await events(client, keys)
    assert recorded[1:] == [{"message": "last", "session": first.session, "position": 1}]


async def test_read_returns_what_was_stored(sessions: RedisSessions) -> None:
    first = await sessions.claim(claim(three_pools(pick=1), time=0.25))
    assert isinstance(first, Claimed)
    found = await sessions.read(1)
    assert found is not None
    assert (found.id, found.recommender, found.position) == (first.session, "contextual", 1)
    assert (found.track, found.time, found.served, found.listened) == (5, 0.25, 11, 2)
    assert 0 < found.expires_in <= 60
    assert await sessions.listened(1) == [5, 11]
    assert await sessions.heard(1, [11, 4, 5]) == [True, False, True]


async def test_erase_removes_everything_and_says_what_there_was(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await sessions.claim(claim(three_pools(), key="k"))
    receipt = await sessions.erase(1)
    assert (receipt.session, receipt.listened) == (True, 2)
    left = await command(client, "KEYS", f"{keys.prefix}:*:1*")
    assert left == []
    again = await sessions.erase(1)
    assert (again.session, again.listened) == (False, 0)
