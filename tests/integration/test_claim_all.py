"""Claims that go together: one call of the script, and each settled as if alone."""

import asyncio
from dataclasses import replace

import pytest

from recsvc.errors import StoreUnavailableError
from recsvc.policy import CONTEXTUAL, Plan, Pool, Routes
from recsvc.redis.commands import Client
from recsvc.redis.keys import Keys
from recsvc.redis.sessions import RedisSessions
from recsvc.session import Claimed, Exhausted, Moved
from tests.integration.test_claim import LONG, SHORT, events, remember
from tests.support import claim, command, pool, three_pools


async def test_claims_that_go_together_are_settled_each_for_itself(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    exhausted = Plan((pool(CONTEXTUAL, {5: 1.0}),), Routes({None: (0,)}))
    asked = [claim(three_pools(pick=user % 2), user=user) for user in range(10)]
    asked[4] = claim(exhausted, user=4, track=5)
    asked[6] = replace(asked[6], position=3)
    outcomes = await sessions.claim_all(asked)
    assert outcomes[4] == Exhausted(0, 1)
    assert outcomes[6] == Moved()
    rest = [user for user in range(10) if user not in (4, 6)]
    assert {user for user in range(10) if isinstance(outcomes[user], Claimed)} == set(rest)
    recorded = {event["user"]: event for event in await events(client, keys)}
    assert sorted(recorded) == rest
    for user in rest:
        outcome = outcomes[user]
        assert isinstance(outcome, Claimed)
        assert outcome.propensity == (0.75 if user % 2 else 0.25)
        assert recorded[user]["session"] == outcome.session
        assert recorded[user]["recommendation"] == outcome.track


async def test_recalled_together_a_session_is_what_it_is_alone(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await sessions.claim(replace(claim(three_pools(), user=1), evidence=b"\x00\xff"))
    await remember(client, keys, 2, list(range(200)), form=LONG)
    recalled = await sessions.recall_all([1, 2, 3])
    assert recalled == [await sessions.recall(user) for user in (1, 2, 3)]
    assert recalled[0] is not None
    assert (recalled[0].position, recalled[0].evidence) == (1, b"\x00\xff")


async def test_claims_go_out_before_their_outcomes_are_awaited(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await sessions.ping()  # now there is a connection
    outcomes = sessions.claim_all([claim(three_pools(), user=user) for user in range(3)])
    for _ in range(1000):
        await asyncio.sleep(0.001)
        if len(await events(client, keys)) == 3:
            break
    else:
        pytest.fail("they never went out")
    assert [type(outcome) for outcome in await outcomes] == [Claimed] * 3


async def test_broken_keys_of_one_listener_cost_no_other_an_answer(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await command(client, "SET", keys.session(1), "not a hash")
    outcomes = await sessions.claim_all([claim(three_pools(), user=user) for user in range(3)])
    assert [type(outcome) for outcome in outcomes] == [Claimed, Moved, Claimed]
    with pytest.raises(StoreUnavailableError):
        await sessions.claim(claim(three_pools(), user=1))
    assert sorted(event["user"] for event in await events(client, keys)) == [0, 2]
    recalled = await sessions.recall_all([0, 1, 2])
    assert [one and one.position for one in recalled] == [1, None, 1]
    with pytest.raises(StoreUnavailableError):
        await sessions.recall(1)


async def test_what_claims_together_need_to_insist_on_is_left_to_one_alone(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    heard = [c for p in three_pools().pools[:2] if isinstance(p, Pool) for c in p.candidates.tracks]
    await remember(client, keys, 1, heard, form=SHORT)
    late = replace(claim(three_pools(), user=2), expires_ms=1)
    outcomes = await sessions.claim_all([claim(three_pools(), user=1), late])
    assert outcomes == [Moved(), Moved()]
    assert await events(client, keys) == []


def test_a_bundle_has_one_partition_and_a_bound(sessions: RedisSessions) -> None:
    users = list(range(100))
    sessions.keys = replace(sessions.keys, partitions=3)
    bundles = sessions.bundles(users)
    assert sorted(place for bundle in bundles for place in bundle) == users
    assert all(len({place % 3 for place in bundle}) == 1 for bundle in bundles)
    assert max(map(len, bundles)) < 30


async def test_a_server_that_lacks_the_script_gets_it_once_for_all(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    await command(client, "SCRIPT", "FLUSH")
    outcomes = await sessions.claim_all([claim(three_pools(), user=user) for user in range(5)])
    assert [type(outcome) for outcome in outcomes] == [Claimed] * 5
    assert [event["user"] for event in await events(client, keys)] == list(range(5))


async def test_an_answer_given_before_is_given_again_among_others(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    asked = [claim(three_pools(), user=user, key="k" if user else None) for user in range(3)]
    first = await sessions.claim_all(asked[1:])
    again = await sessions.claim_all(asked)
    assert again[1:] == first
    assert isinstance(again[0], Claimed)
    assert len(await events(client, keys)) == 3


async def test_of_a_session_that_is_damaged_what_can_be_read_is_recalled(
    client: Client, keys: Keys, sessions: RedisSessions
) -> None:
    written = (
        "id=317e recommender=personal position=3 outside=0 counted=e03e started=1700 "
        f"served={2**63 - 1} track=10 time=0.3 at=1800 policy=ensemble table=e03e"
    )
    for text, position, served in (
        (written, 3, 2**63 - 1),
        (written.replace("served=", "served "), 3, None),
        (written.replace("position=3", "position="), 0, None),
        ("", 0, None),
    ):
        await client.hset(keys.session(1), "state", text)
        found = await sessions.recall(1)
        assert (found.position, found.served) == (position, served), text
