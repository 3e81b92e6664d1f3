"""The atomic step in Redis: the same law as the pure policy, and nothing half done."""

import asyncio
import json
import struct
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsvc.candidates import Candidates
from recsvc.errors import StoreUnavailableError
from recsvc.policy import (
    CATALOGUE,
    CONTEXTUAL,
    OLDEST,
    PERSONAL,
    POPULAR,
    Plan,
    Pool,
    Routes,
    Sample,
    draw,
    settle,
)
from recsvc.redis.caller import Caller
from recsvc.redis.commands import Client
from recsvc.redis.guesses import Guesses
from recsvc.redis.keys import Keys
from recsvc.redis.sessions import RedisSessions
from recsvc.session import UNSURE, Claimed, Exhausted, Last, Moved
from recsvc.tracks import pack_tracks
from tests.support import SET_BITS, claim, command, pool, three_pools

NAMES = (CONTEXTUAL, PERSONAL, POPULAR, CATALOGUE, OLDEST)


async def events(client: Client, keys: Keys) -> list[dict[str, Any]]:
    stored = await client.xrange(keys.events(0), "-", "+", 10_000)
    return [json.loads(fields[b"event"]) for _, fields in stored]


# The largest id with a bit of its own in a bitmap, and two that share those of 60 and of 5.
LARGE = 2**18 - 1
SHARING = (LARGE + 1, 5 * 65_521 + 5)

# Ids that differ in a byte or two, so that some bytes of two of them look like a third; and
# the largest there are, with some that a double cannot tell from their neighbours.
SMALL = (0, 1, 2, 3, 4, 5, 60, 255, 256, 257, 65_536, LARGE)
TRACKS = (*SMALL, *SHARING, 2**53 - 1, 2**53 + 1, 2**62 + 7, 2**63 - 1)
tracks_of = st.sampled_from(TRACKS)
histories = st.lists(tracks_of, unique=True) | st.lists(st.sampled_from(SMALL), unique=True)

SHORT, LONG, WITHOUT_BITMAP = "short", "long", "long, without its bitmap"


async def remember(
    client: Client,
    keys: Keys,
    user: int,
    tracks: list[int],
    *,
    form: str,
    last: str | None = None,
) -> None:
    """Make a session in which these tracks were heard."""
    state: dict[str, Any] = {
        "state": f"id=s recommender={last or 'other'} position=3 outside=0 counted=v1 started=1 "
        "served=2 track=1 time=0.5 at=1 policy=ensemble table=v1"
    }
    if form == SHORT:
        state["heard"] = pack_tracks(tracks)
    elif tracks:
        for i, track in enumerate(tracks):
            await command(client, "HSET", keys.session(user), pack_tracks([track]), i - len(tracks))
        if form == LONG:
            await command(client, "EVAL", SET_BITS, 1, keys.bitmap(user), pack_tracks(tracks))
    await client.hset(keys.session(user), mapping=state)


@st.composite
def pools(draws: st.DrawFn) -> Pool | Sample:
    name = draws(st.sampled_from(NAMES))
    tracks = draws(st.lists(tracks_of, unique=True, max_size=10))
    if tracks and draws(st.integers(0, 3)) == 0:
        return Sample(name, tracks, len(TRACKS))
    weights = draws(st.lists(st.floats(1e-6, 1e3), min_size=len(tracks), max_size=len(tracks)))
    candidates = Candidates(tracks, weights)
    if draws(st.booleans()):
        candidates = candidates.of(pack_tracks(tracks))  # with nothing to rule others out by
    rng = Random(draws(st.integers(0, 10_000)))
    return Pool(name, candidates, draw(rng), draws(st.booleans()))


@st.composite
def plans(draws: st.DrawFn) -> Plan:
    offered = tuple(draws(st.lists(pools(), min_size=1, max_size=4)))
    order = st.permutations(range(len(offered))).map(tuple)
    routes = {last: draws(order) for last in (CONTEXTUAL, PERSONAL, None)}
    return Plan(offered, Routes(routes), draws(st.booleans()))


# The fixtures are shared by all examples on purpose: each has a listener of its own.
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    plan=plans(),
    last=st.sampled_from([None, CONTEXTUAL, PERSONAL, POPULAR]),
    heard=histories,
    reported=tracks_of,
    form=st.sampled_from([SHORT, LONG, WITHOUT_BITMAP]),
    user=st.integers(0, 2**63 - 1),
    guess=st.just(UNSURE)
    | st.builds(Last, st.sampled_from([None, CONTEXTUAL, PERSONAL]), st.booleans()),
)
async def test_redis_settles_as_the_policy_does(
    client: Client,
    keys: Keys,
    sessions: RedisSessions,
    plan: Plan,
    last: str | None,
    heard: list[int],
    reported: int,
    form: str,
    user: int,
    guess: Last,
) -> None:
    sessions.guesses = Guesses()
    await sessions.erase(user)
    await remember(client, keys, user, heard, form=form, last=last)

    outcome = await sessions.claim(claim(plan, user=user, track=reported), guess)

    gone = {*heard, reported}
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
        latest = [reported, outcome.track] if reported != outcome.track else [reported]
        assert await sessions.listened(user) == [t for t in heard if t not in latest] + latest
        assert await sessions.heard(user, TRACKS) == [t in gone | set(latest) for t in TRACKS]


async def test_a_weight_that_looks_like_a_heard_track_is_none(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    whole, half = struct.unpack("<qq", struct.pack("<dd", 1.0, 0.5))
    plan = Plan((pool(CONTEXTUAL, {0: 1.0, 2**16: 0.5}),), Routes({None: (0,)}))
    for user, (heard, reported) in enumerate([([whole, half], 5), ([half], whole)]):
        await remember(client, keys, user, heard, form=SHORT)
        outcome = await sessions.claim(claim(plan, user=user, track=reported))
        assert isinstance(outcome, Claimed)
        assert (outcome.track, outcome.propensity) == (0, 2 / 3)


async def test_concurrent_claims_never_get_the_same_track(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    candidates = Candidates(list(range(100, 300)), [1.0] * 200)
    rng = Random(1)
    only = Routes({None: (0,)})
    plans = [Plan((Pool(POPULAR, candidates, draw(rng)),), only) for _ in range(200)]

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
    plan = Plan((pool(CONTEXTUAL, {5: 1.0}),), Routes({None: (0,)}))
    outcome = await sessions.claim(claim(plan, track=5))
    assert outcome == Exhausted(0, 1)
    assert await sessions.read(1) is None
    assert await sessions.listened(1) == []
    assert await events(client, keys) == []


@pytest.mark.parametrize("form", [SHORT, LONG])
async def test_personal_tracks_that_are_all_heard_are_not_looked_up_again(
    client: Client, keys: Keys, sessions: RedisSessions, form: str
) -> None:
    await remember(client, keys, 1, [21, 22], form=form)
    offered = (pool(PERSONAL, {21: 1.0, 22: 1.0}), pool(CONTEXTUAL, dict.fromkeys(range(5), 1.0)))
    one = claim(Plan(offered, Routes({None: (0, 1)})), track=21)

    async def answer(version: str) -> str:
        outcome = await sessions.claim(replace(one, table_version=version))
        assert isinstance(outcome, Claimed)
        assert outcome.fallback == (outcome.recommender == CONTEXTUAL)
        return outcome.recommender

    assert await answer("v1") == CONTEXTUAL
    # Were they looked up, these would be found not to be heard any more.
    await client.unlink(keys.bitmap(1))
    heard = ("heard", pack_tracks([21]), pack_tracks([22]))
    await command(client, "HDEL", keys.session(1), *heard)
    assert await answer("v1") == CONTEXTUAL
    assert await answer("v2") == PERSONAL  # another table has other personal tracks


async def test_whoever_is_served_the_last_personal_track_has_heard_them_all(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await remember(client, keys, 1, [21], form=SHORT)
    only = Routes({None: (0,)})

    async def answer(*tracks: int, memory: bool = True) -> Claimed:
        offered = pool(PERSONAL, dict.fromkeys(tracks, 1.0), memory=memory)
        outcome = await sessions.claim(claim(Plan((offered,), only), track=5))
        assert isinstance(outcome, Claimed)
        return outcome

    assert not (await answer(20, memory=False)).spent
    first, last = await answer(21, 22, 23), await answer(21, 22, 23)
    assert (first.spent, last.spent) == (False, True)
    assert {first.track, last.track} == {22, 23}


class Counting:
    """Notes of each command to the store how many pools of 70 candidates it can have."""

    _POOL = len(Candidates(range(70), [1.0] * 70).packed)

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.pools: list[int] = []

    def call(self, written: bytes) -> Awaitable[Any]:
        self.pools.append(len(written) // self._POOL)
        return self.caller.call(written)


def wide_pools(empty: str = "") -> Plan:
    """A plan like the ensemble's, of 70 tracks each but for an empty one."""
    names = {CONTEXTUAL: 1000, PERSONAL: 2000, POPULAR: 3000}
    offered = tuple(
        pool(name, {} if name == empty else dict.fromkeys(range(first, first + 70), 1.0))
        for name, first in names.items()
    )
    return Plan(offered, three_pools().routes)


async def test_only_what_is_asked_next_is_sent_when_it_is_known_who_answered_last(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    sessions.caller = sent = Counting(sessions.caller)
    await remember(client, keys, 1, [], form=SHORT, last=PERSONAL)
    for guess in (Last(PERSONAL), UNSURE):
        outcome = await sessions.claim(claim(wide_pools()), guess)
        assert isinstance(outcome, Claimed)
        assert outcome.recommender == PERSONAL
    assert sent.pools == [1, 2]


async def test_a_wrong_guess_costs_one_round_trip_and_then_no_others_are_made_for_a_while(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    sessions.caller = sent = Counting(sessions.caller)
    await remember(client, keys, 1, [], form=SHORT, last=PERSONAL)
    outcome = await sessions.claim(claim(wide_pools()), Last(CONTEXTUAL))
    assert isinstance(outcome, Claimed)
    assert (outcome.recommender, outcome.fallback) == (PERSONAL, False)
    assert sent.pools == [1, 3]
    for _ in range(100):
        await sessions.claim(claim(wide_pools(), user=2), Last(PERSONAL))
    await sessions.claim(claim(wide_pools(), user=3), Last(None))
    assert sent.pools[2:] == [2] * 100 + [1]


async def test_where_the_first_has_nothing_the_next_is_sent_along(sessions: RedisSessions) -> None:
    sessions.caller = sent = Counting(sessions.caller)
    outcome = await sessions.claim(claim(wide_pools(empty=CONTEXTUAL)), Last(None))
    assert isinstance(outcome, Claimed)
    assert (outcome.recommender, outcome.fallback) == (PERSONAL, True)
    assert sent.pools == [1]  # one of the two is empty


async def test_a_personal_list_that_is_spent_is_only_named_until_there_is_another_table(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    sessions.caller = sent = Counting(sessions.caller)
    await remember(client, keys, 1, list(range(2000, 2070)), form=LONG, last=PERSONAL)

    async def answer(version: str, last: Last) -> Last:
        outcome = await sessions.claim(replace(claim(wide_pools()), table_version=version), last)
        assert isinstance(outcome, Claimed)
        assert (outcome.recommender, outcome.fallback) == (CONTEXTUAL, True)
        await client.hset(keys.session(1), "state", state)
        return Last(PERSONAL, outcome.spent)

    state = bytes(await client.hget(keys.session(1), "state") or b"")
    last = await answer("v1", UNSURE)
    assert (last, sent.pools) == (Last(PERSONAL, spent=True), [2])
    last = await answer("v1", last)
    assert (last, sent.pools) == (Last(PERSONAL, spent=True), [2, 1])
    await answer("v2", last)
    assert sent.pools == [2, 1, 1, 3]


async def test_a_session_that_cannot_be_read_is_begun_anew(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await client.hset(keys.session(1), "state", "id=s recommender=personal position=many")
    await command(client, "HSET", keys.session(1), pack_tracks([7]), 3, "spent", "v1")
    assert await sessions.read(1) is None
    assert (await sessions.recall(1)).position == 0
    outcome = await sessions.claim(claim(three_pools()))
    assert isinstance(outcome, Claimed)
    assert outcome.position == 0
    found = await sessions.read(1)
    assert found is not None
    assert (found.id, found.position, found.served) == (outcome.session, 1, outcome.track)
    assert set(await command(client, "HKEYS", keys.session(1))) == {b"state", b"heard"}


async def test_a_session_whose_count_cannot_be_read_is_counted_anew(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await remember(client, keys, 1, [7], form=SHORT)
    state = bytes(await client.hget(keys.session(1), "state") or b"")
    damaged = state.replace(b"outside=0", b"outside=")
    await client.hset(keys.session(1), "state", damaged)
    # Not by this one, which does not need it.
    assert isinstance(await sessions.claim(replace(claim(three_pools()), known=False)), Claimed)
    sample = Plan((Sample(CATALOGUE, [1, 2, 3], 5),), Routes({None: (0,)}))
    assert await sessions.claim(claim(sample, track=7)) == Exhausted(4, None)
    outcome = await sessions.claim(replace(claim(sample, track=7), recount=1))
    assert isinstance(outcome, Claimed)
    assert (outcome.session, outcome.propensity) == ("s", 1 / (5 - 2))


async def test_a_claim_for_a_session_that_has_moved_on_is_refused(sessions: RedisSessions) -> None:
    await sessions.claim(claim(three_pools()))
    late = replace(claim(three_pools(pick=1)), position=0)
    assert await sessions.claim(late) == Moved()
    assert isinstance(await sessions.claim(replace(late, position=1)), Claimed)


async def test_tracks_outside_the_catalogue_are_not_counted_as_heard_of_it(
    sessions: RedisSessions,
) -> None:
    sample = Plan((Sample(CATALOGUE, [1, 2, 3], 3),), Routes({None: (0,)}))
    first = await sessions.claim(replace(claim(sample, track=999), known=False))
    assert isinstance(first, Claimed)
    assert first.propensity == 1 / 3
    second = await sessions.claim(claim(sample, track=first.track))
    assert isinstance(second, Claimed)
    assert second.propensity == 1 / 2


async def test_a_sample_of_another_table_needs_a_recount(sessions: RedisSessions) -> None:
    await sessions.claim(claim(three_pools()))
    sample = Plan((Sample(CATALOGUE, [1, 2, 3], 3),), Routes({None: (0,)}))
    swapped = replace(claim(sample, track=1), table_version="v2")
    assert await sessions.claim(swapped) == Exhausted(1, None)
    outcome = await sessions.claim(replace(swapped, recount=2))
    assert isinstance(outcome, Claimed)
    assert outcome.propensity == 1 / 2


async def test_a_count_is_nobodys_after_answers_by_another_table(
    sessions: RedisSessions,
) -> None:
    sample = Plan((Sample(CATALOGUE, [1, 2, 3], 3),), Routes({None: (0,)}))
    await sessions.claim(claim(sample, track=1))  # of the first table: all of 1, 2, 3
    other = Plan((pool(CONTEXTUAL, {101: 1.0}),), Routes({None: (0,)}))
    await sessions.claim(replace(claim(other, track=100), table_version="v2"))
    # Back to the first. Four tracks are heard, of which two are none of its own.
    assert await sessions.claim(claim(sample, track=1)) == Exhausted(2, None)
    outcome = await sessions.claim(replace(claim(sample, track=1), recount=2))
    assert isinstance(outcome, Claimed)
    assert outcome.propensity == 1


async def test_a_session_that_grows_long_goes_on_as_it_was(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    served: list[int] = []
    for i in range(100):
        weights = {1000 + 2 * i + j: 1.0 for j in range(2)} | dict.fromkeys(served[:60], 5.0)
        plan = Plan((pool(CONTEXTUAL, weights, pick=2 * i % len(weights)),), Routes({None: (0,)}))
        outcome = await sessions.claim(replace(claim(plan, track=2000 + i), known=i % 2 == 0))
        assert isinstance(outcome, Claimed)
        assert outcome.track not in served
        assert outcome.propensity == 0.5
        served.append(outcome.track)
        long = 2 * (i + 1) > 128
        assert await command(client, "EXISTS", keys.bitmap(1)) == long
        assert await command(client, "HEXISTS", keys.session(1), "heard") != long
        found = await sessions.read(1)
        assert found is not None
        assert (found.listened, found.outside) == (2 * (i + 1), (i + 1) // 2)
    expected = [track for i in range(100) for track in (2000 + i, served[i])]
    assert await sessions.listened(1) == expected
    assert await sessions.listened(1, most=3) == expected[:3]
    assert all(await sessions.heard(1, expected))
    # A track that is reported again has been heard last.
    await sessions.claim(claim(three_pools(), track=expected[0]))
    assert await sessions.listened(1) == [*expected[1:], expected[0], 10]


@pytest.mark.parametrize("seed", range(4))
async def test_ids_of_all_sizes_from_the_first_track_to_a_long_session(
    sessions: RedisSessions, seed: int
) -> None:
    rng = Random(seed)
    small = range(0, 400, 2)
    sharing = (place + 65_521 * n for place in (6, 7, 8) for n in range(1, 40))
    catalogue = [*small, *sharing, *(2**63 - 1 - 65_521 * n for n in range(40))]
    heard: list[int] = []
    for _ in range(120):
        # A player reports what it was served, now and then what it heard before, or another track.
        reported = rng.choice([heard[-1:] or catalogue, heard or catalogue, catalogue])
        track = rng.choice(reported)
        heard = [t for t in heard if t != track] + [track]
        offered = dict.fromkeys(rng.sample(catalogue, 60), 1.0)
        unheard = [t for t in offered if t not in heard]
        if not unheard:
            continue
        plan = Plan((pool(CONTEXTUAL, offered, pick=rng.randrange(60)),), Routes({None: (0,)}))
        outcome = await sessions.claim(claim(plan, track=track))
        assert isinstance(outcome, Claimed)
        assert outcome.track in unheard
        assert abs(outcome.propensity - 1 / len(unheard)) < 1e-12
        heard.append(outcome.track)
    assert len(heard) > 128
    assert await sessions.listened(1) == heard
    assert await sessions.heard(1, catalogue) == [track in heard for track in catalogue]


async def bits(client: Client, keys: Keys) -> set[int]:
    stored = bytes(await command(client, "GET", keys.bitmap(1)))
    return {bit for bit in range(8 * len(stored)) if stored[bit // 8] & 128 >> bit % 8}


async def share_of_the_last(sessions: RedisSessions, *tracks: int) -> float:
    """Ask for one of these tracks, all weighted alike, and want the last."""
    offered = pool(CONTEXTUAL, dict.fromkeys(tracks, 1.0), pick=len(tracks) - 1)
    outcome = await sessions.claim(claim(Plan((offered,), Routes({None: (0,)})), track=2))
    assert isinstance(outcome, Claimed)
    assert outcome.track == tracks[-1]
    return outcome.propensity


async def test_small_ids_have_bits_of_their_own_and_nothing_else_is_asked(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await remember(client, keys, 1, [0, 6, 60, LARGE], form=LONG)
    await sessions.claim(claim(three_pools(), track=2))  # 10 is the answer
    assert await bits(client, keys) == {0, 2, 4, 8, 12, 62, LARGE + 2}
    await command(client, "HDEL", keys.session(1), *map(pack_tracks, [[0], [6], [LARGE]]))
    assert await share_of_the_last(sessions, 0, 2, 6, LARGE, 59, 61) == 0.5


async def test_large_ids_share_bits_and_are_told_apart(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await remember(client, keys, 1, [5, SHARING[0]], form=LONG)
    assert await bits(client, keys) == {0, 1, 7, 62}
    assert await share_of_the_last(sessions, 5, 61, 60) == 0.5
    assert await share_of_the_last(sessions, 5, 60, 61, *SHARING) == 0.5


async def test_a_bitmap_that_was_lost_is_not_trusted_when_it_is_begun_anew(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await remember(client, keys, 1, [5, 6], form=WITHOUT_BITMAP)
    assert await share_of_the_last(sessions, 5, 6, 7, 8) == 0.5
    assert 0 not in await bits(client, keys)
    assert await share_of_the_last(sessions, 5, 6, 8, 9) == 1.0


async def test_what_was_heard_longest_ago_is_known_however_much_is_heard_again(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    heard, rng = list(range(1200)), Random(1)
    await remember(client, keys, 1, heard, form=LONG)
    for step in range(700):
        assert await sessions.listened(1, most=20) == heard[:20], step
        kept = await command(client, "LLEN", keys.oldest(1))
        assert 20 <= kept <= 1000
        # As a service does that has nothing else left; what is reported is something else.
        again, track = heard[0], rng.choice([0, 1, 15, 500, -1])
        plan = Plan((pool(OLDEST, {again: 1.0}, memory=False),), Routes({None: (0,)}))
        reported = heard[track]
        await sessions.claim(claim(plan, track=reported))
        heard = [t for t in heard if t not in (reported, again)]
        heard += [reported, again] if reported != again else [again]
    assert await sessions.listened(1) == heard


async def test_what_was_heard_longest_ago_is_kept_no_longer_than_the_session(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    for end in (sessions.erase(1), sessions.finish(claim(three_pools()).report, {})):
        await remember(client, keys, 1, list(range(200, 400)), form=LONG)
        assert await sessions.listened(1, most=2) == [200, 201]
        assert 0 < await command(client, "PTTL", keys.oldest(1)) <= 60_000
        await end
        assert await sessions.listened(1, most=2) == []
        assert await command(client, "KEYS", f"{keys.prefix}:*:1") == []


async def test_a_long_session_that_is_damaged_is_a_fault_of_the_store(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await remember(client, keys, 1, [1, 2], form=LONG)
    await command(client, "HSET", keys.session(1), pack_tracks([3]), "when?")
    with pytest.raises(StoreUnavailableError, match="damaged"):
        await sessions.listened(1)


async def test_a_session_that_ends_while_it_is_looked_through_leaves_nothing(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    class Meddler:
        """Erases the session after the first page."""

        pages = 0

        async def call(self, written: bytes) -> Any:
            reply = await sessions.caller.call(written)
            if b"HSCAN" in written:
                self.pages += 1
                if self.pages == 1:
                    await sessions.erase(1)
            return reply

    await remember(client, keys, 1, list(range(2000)), form=LONG)
    meddler = Meddler()
    other = RedisSessions(meddler, keys, session_ttl=60, idempotency_ttl=60, events_max=1000)
    assert await other.listened(1, most=20) == []
    assert meddler.pages == 2
    assert await command(client, "KEYS", f"{keys.prefix}:*:1") == []


async def test_every_key_of_a_listener_expires(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await remember(client, keys, 1, list(range(200, 400)), form=LONG)
    await sessions.claim(claim(three_pools(), key="k"))
    await sessions.listened(1, most=5)
    names = await command(client, "KEYS", f"{keys.prefix}:*:1*")
    stored = [await command(client, "PTTL", name) for name in names]
    assert len(stored) == 4
    assert all(0 < ttl <= 120_000 for ttl in stored)
    await sessions.claim(claim(three_pools(), user=2))
    assert await command(client, "KEYS", f"{keys.prefix}:*:2") == [keys.session(2).encode()]
    assert 0 < await command(client, "PTTL", keys.session(2)) <= 60_000


async def test_pools_that_are_not_asked_first_are_sent_when_they_are_needed(
    sessions: RedisSessions,
) -> None:
    plan = three_pools(pick=1)
    tracks = []
    for _ in range(6):
        outcome = await sessions.claim(claim(plan, track=5))
        assert isinstance(outcome, Claimed)
        tracks.append((outcome.track, outcome.fallback))
    first, second, third = tracks[:2], tracks[2:4], tracks[4:]
    assert {t for t, _ in first} == {10, 11}
    assert {t for t, _ in second} == {20, 21}
    assert {t for t, _ in third} == {30, 31}
    assert await sessions.claim(claim(plan, track=5)) == Exhausted(6, 7)


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


async def test_an_erasure_that_comes_too_late_changes_nothing(sessions: RedisSessions) -> None:
    await sessions.claim(claim(three_pools()))
    with pytest.raises(StoreUnavailableError, match="too late"):
        await sessions.erase(1, int(time.time() * 1000) - 1)
    assert await sessions.read(1) is not None
    assert (await sessions.erase(1, int(time.time() * 1000) + 10_000)).session


async def test_erase_removes_everything_and_says_what_there_was(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await sessions.claim(claim(three_pools(), key="k"))
    window = int(time.time()) // sessions.idempotency_ttl
    await client.hset(keys.idempotency(1, window - 2), "next:of a while ago", "11 contextual")
    receipt = await sessions.erase(1)
    assert (receipt.session, receipt.listened) == (True, 2)
    left = await command(client, "KEYS", f"{keys.prefix}:*:1*")
    assert left == []
    again = await sessions.erase(1)
    assert (again.session, again.listened) == (False, 0)
    await remember(client, keys, 1, list(range(200, 400)), form=LONG)
    assert (await sessions.erase(1)).listened == 200
    assert await command(client, "KEYS", f"{keys.prefix}:*:1*") == []
