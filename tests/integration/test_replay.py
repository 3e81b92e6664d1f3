"""What the server is told later: each event once, and its session as if it had been there."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from recsvc.errors import RecordError, RefusedError, StoreUnavailableError
from recsvc.outage.record import Record, pack, unpack
from recsvc.policy import CATALOGUE, CONTEXTUAL, Plan, Routes, Sample
from recsvc.redis.caller import Caller, ThroughClient
from recsvc.redis.commands import Client
from recsvc.redis.events import read_events
from recsvc.redis.keys import Keys
from recsvc.redis.replay import RedisReplay
from recsvc.redis.sessions import RedisSessions
from recsvc.session import Claimed, Exhausted, idempotency_field
from tests.support import NOW, claim, command, of, pool, record, three_pools


@pytest.fixture
def replay(caller: Caller, keys: Keys) -> RedisReplay:
    return RedisReplay(caller, keys, session_ttl=60, idempotency_ttl=60, events_max=1_000_000)


async def events(client: Client, keys: Keys, partition: int = 0) -> list[dict[str, Any]]:
    stored = await client.xrange(keys.events(partition), "-", "+", 10_000)
    return [json.loads(fields[b"event"]) for _, fields in stored]


async def test_an_answer_becomes_an_event_and_a_session(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    assert await replay.write(of("spool", [(1, record(11)), (2, record(12, track=11))])) == 2
    first, second = await events(client, keys)
    assert first == {
        **record(11).event,
        "session": "0123456789abcdef",
        "position": 0,
        "recommendation": 11,
        "recommender": "contextual",
        "propensity": 0.25,
        "fallback": False,
        "degraded": True,
    }
    assert (second["position"], second["session"]) == (1, first["session"])
    session = await sessions.read(1)
    assert session is not None
    assert (session.position, session.served, session.track) == (2, 12, 11)
    assert (session.recommender, session.started, session.at) == ("contextual", NOW.ms, NOW.ms)
    assert await sessions.listened(1) == [5, 11, 12]
    assert 0 < session.expires_in <= 60


async def test_a_long_session_is_kept_as_claims_keep_it(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    records = [(n, record(100 + n, track=99 + n, name=f"{n:016x}")) for n in range(1, 301)]
    await replay.write(of("spool", records))
    assert await sessions.listened(1) == list(range(100, 401))
    assert await sessions.heard(1, [99, 100, 250, 400, 401]) == [False, True, True, True, False]
    claimed = await sessions.claim(claim(three_pools(), track=400))
    assert isinstance(claimed, Claimed)
    assert claimed.position == 300
    for name in await command(client, "KEYS", f"{keys.prefix}:*:1"):
        assert 0 < await command(client, "PTTL", name) <= 60_000


@pytest.mark.parametrize("before_ms", [0, 5000])
async def test_a_session_that_an_old_record_makes_long_still_ends(
    client: Client,
    keys: Keys,
    replay: RedisReplay,
    sessions: RedisSessions,
    before_ms: int,
) -> None:
    for n in range(0, 128, 2):
        plan = Plan((pool(CONTEXTUAL, {n + 1: 1.0}),), Routes({None: (0,)}))
        await sessions.claim(claim(plan, track=n))
    names = [keys.session(1), keys.bitmap(1)]
    assert await command(client, "EXISTS", *names) == 1
    await replay.write(of("spool", [(1, record(901, track=900, at=NOW.ms - before_ms))]))
    lives = [await command(client, "PTTL", name) for name in names]
    assert all(55_000 < ttl <= 60_000 for ttl in lives), lives


async def test_a_session_goes_on_where_it_was(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    before = await sessions.claim(claim(three_pools()))
    assert isinstance(before, Claimed)
    await replay.write(of("spool", [(1, record(20, track=10))]))
    after = await sessions.claim(claim(three_pools(pick=1), track=20))
    assert isinstance(after, Claimed)
    assert (after.session, after.position) == (before.session, 2)
    assert [e["position"] for e in await events(client, keys)] == [0, 1, 2]
    assert await sessions.listened(1) == [5, 10, 20, after.track]


async def test_a_record_is_written_once_however_often_it_comes(
    client: Client, keys: Keys, replay: RedisReplay
) -> None:
    records = [(n, record(10 + n, name=f"{n:016x}")) for n in range(1, 251)]
    assert await replay.write(of("spool", records)) == 250
    assert await replay.write(of("spool", records)) == 0
    assert await replay.write(of("spool", [*records[-5:], (251, record(999))])) == 1
    assert await replay.write(of("another", records[:1])) == 1
    assert len(await events(client, keys)) == 252
    assert await command(client, "PTTL", keys.replayed(0)) > 0
    await replay.forget("spool", "another", "unknown")
    assert await command(client, "EXISTS", keys.replayed(0)) == 0


async def test_an_older_answer_does_not_hide_a_newer_one(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    await replay.write(of("spool", [(1, record(11, at=NOW.ms))]))
    older = record(12, at=NOW.ms - 1000, recommender="personal")
    await replay.write(of("another", [(1, older)]))
    session = await sessions.read(1)
    assert session is not None
    assert (session.served, session.recommender, session.position) == (11, "contextual", 2)
    assert await sessions.heard(1, [11, 12]) == [True, True]


async def test_a_session_that_would_have_expired_is_not_made(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    assert await replay.write(of("spool", [(1, record(11, at=NOW.ms - 61_000))])) == 1
    assert await sessions.read(1) is None
    (event,) = await events(client, keys)
    assert event["recommendation"] == 11


async def test_the_end_of_a_session_is_the_end_of_that_session_only(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    await replay.write(of("spool", [(1, record(11)), (2, record(None, track=11))]))
    assert await sessions.read(1) is None
    assert await sessions.listened(1) == []
    assert (await events(client, keys))[-1]["position"] == 1
    await replay.write(
        of("spool", [(3, record(12, at=NOW.ms + 10)), (4, record(None, at=NOW.ms - 10))])
    )
    assert await sessions.read(1) is not None
    await replay.write(of("spool", [(5, record(None, user=2))]))
    event = (await events(client, keys))[-1]
    assert (event["message"], event["session"], event["position"]) == ("last", None, 0)


@pytest.mark.parametrize("first", ["the end", "what came after it"])
async def test_a_session_has_ended_whichever_worker_tells_first(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions, first: str
) -> None:
    before = NOW.ms - 3000
    await replay.write(of("spool", [(1, record(11, at=before, name="a" * 16, began=before))]))
    ending = of("one", [(1, record(None, track=12, at=before + 1000))])
    late = of("third", [(1, record(12, track=11, at=before + 500, name="b" * 16, began=before))])
    began = before + 1000
    after = [(n, record(20 + n, at=began + n, name=f"{n:016x}", began=began)) for n in (1, 2)]
    parts = [ending, of("other", after)]
    for part in [*(parts if first == "the end" else parts[::-1]), late]:
        await replay.write(part)
    found = await sessions.read(1)
    assert found is not None
    assert (found.id, found.position, found.started) == (f"{1:016x}", 2, began + 1)
    assert await sessions.listened(1) == [21, 5, 22]
    told = {(e["message"], e["session"], e["position"]) for e in await events(client, keys)}
    assert told == {
        ("next", "a" * 16, 0),
        ("last", "a" * 16, 1),
        ("next", "a" * 16, 1),
        ("next", f"{1:016x}", 0),
        ("next", f"{1:016x}", 1),
    }


async def test_an_answer_told_after_its_session_ended_does_not_begin_it_again(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    await replay.write(of("one", [(1, record(None, track=11, at=NOW.ms))]))
    await replay.write(
        of("other", [(1, record(11, at=NOW.ms - 10)), (2, record(12, at=NOW.ms - 5))])
    )
    assert await sessions.read(1) is None
    answers = [event for event in await events(client, keys) if event["message"] == "next"]
    assert len({event["session"] for event in answers}) == 1
    assert (await sessions.erase(1)).session is False
    left = await command(client, "KEYS", f"{keys.prefix}:*:1")
    assert left == []


async def test_what_is_refused_leaves_what_came_before_it_written_once(
    client: Client, keys: Keys, replay: RedisReplay
) -> None:
    await command(client, "SET", keys.session(2), "no session")
    told = of("spool", [(1, record(11, user=1)), (2, record(12, user=2)), (3, record(13, user=3))])
    with pytest.raises(RefusedError):
        await replay.write(told)
    assert await replay.write(told[:1]) == 0
    assert await replay.write(told[2:]) == 1
    assert [event["user"] for event in await events(client, keys)] == [1, 3]


async def test_an_answer_that_nobody_got_is_taken_back(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    name = "feedfeedfeedfeed"
    asked = claim(three_pools(), key="k")
    made = record(31, name=name, unsure=True)
    orphan = await sessions.claim(replace(asked, event=made.event, at_ms=NOW.ms))
    other = await sessions.claim(claim(three_pools(pick=1)))
    assert isinstance(orphan, Claimed)
    assert isinstance(other, Claimed)
    await replay.write(of("spool", [(1, made), (2, record(32, unsure=True))]))
    assert [e["recommendation"] for e in await events(client, keys)] == [other.track, 31, 32]


async def test_a_key_is_remembered_and_has_one_event(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    asked = claim(three_pools(), key="k")
    field = idempotency_field("next", asked.report)
    made = record(31, name="feedfeedfeedfeed", field=field)
    assert await replay.write(of("spool", [(1, made)])) == 1
    assert await replay.write(of("another", [(1, made)])) == 0
    again = await sessions.claim(asked)
    assert isinstance(again, Claimed)
    assert (again.track, again.propensity, again.recommender) == (31, 0.25, "contextual")
    assert (again.degraded, again.policy, again.table_version) == (True, "ensemble", "v1")
    assert again.request_id == "request"
    assert len(await events(client, keys)) == 1
    ending = record(None, field="last:x")
    assert await replay.write(of("spool", [(2, ending)])) == 1
    assert await replay.write(of("another", [(2, ending)])) == 0


async def test_a_key_whose_reply_was_lost_gets_what_was_answered(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    asked = claim(three_pools(), key="k")
    field = idempotency_field("next", asked.report)
    made = record(31, name="feedfeedfeedfeed", field=field, unsure=True)
    await sessions.claim(replace(asked, event=made.event, at_ms=NOW.ms))
    await replay.write(of("spool", [(1, made)]))
    again = await sessions.claim(asked)
    assert isinstance(again, Claimed)
    assert again.track == 31
    assert [e["recommendation"] for e in await events(client, keys)] == [31]


async def acknowledged(sessions: RedisSessions, count: int, first: int = 0) -> list[Record]:
    """Claims as the journal has them."""
    found = []
    for n in range(first, first + count):
        name = f"{n:016x}"
        plan = Plan((Sample(CATALOGUE, [100 + n], 1000),), Routes({None: (0,)}))
        made = record(0, name=name, track=100 + n - 1)
        one = claim(plan, track=100 + n - 1)
        claimed = await sessions.claim(replace(one, event=made.event, at_ms=NOW.ms))
        assert isinstance(claimed, Claimed)
        found.append(
            record(
                claimed.track,
                name=name,
                track=100 + n - 1,
                recommender=claimed.recommender,
                propensity=claimed.propensity,
                entry=claimed.entry,
                session=claimed.session,
                position=claimed.position,
            )
        )
    return found


async def test_what_the_server_has_lost_is_written_again(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    kept = await acknowledged(sessions, 3)
    dump = {
        name: await command(client, "DUMP", name)
        for name in await command(client, "KEYS", f"{keys.prefix}:*:1")
    }
    lost = await acknowledged(sessions, 2, first=3)
    assert all(r.position in (3, 4) for r in lost)
    before = await events(client, keys)
    for r in lost:  # a crash: the end of the stream and of the session is gone
        await command(client, "XDEL", keys.events(0), r.entry)
    for name, value in dump.items():
        await command(client, "RESTORE", name, 0, value, "REPLACE")

    numbered = of("recent", list(enumerate([*kept, *lost], 1)))
    assert await replay.lost(numbered) == numbered[3:]
    assert await replay.write(numbered) == 2
    assert await replay.write(numbered) == 0
    after = await events(client, keys)
    assert after == before
    session = await sessions.read(1)
    assert session is not None
    assert (session.position, session.id) == (5, kept[0].session)


async def test_what_a_long_stream_has_dropped_is_not_lost(
    client: Client, caller: Caller, keys: Keys, sessions: RedisSessions
) -> None:
    replay = RedisReplay(caller, keys, session_ttl=60, idempotency_ttl=60, events_max=3)
    old, *rest = await acknowledged(sessions, 4)
    await command(client, "XDEL", keys.events(0), old.entry)
    assert await replay.write(of("recent", [(1, old)])) == 0
    # But what is missing at the end of it is.
    await command(client, "XDEL", keys.events(0), rest[-1].entry)
    short = RedisReplay(caller, keys, session_ttl=60, idempotency_ttl=60, events_max=2)
    assert await short.write(of("recent", [(2, rest[-1])])) == 1


async def test_a_lost_erasure_is_made_again(
    client: Client, keys: Keys, replay: RedisReplay, sessions: RedisSessions
) -> None:
    kept = await acknowledged(sessions, 3)
    receipt = await sessions.erase(1)
    await command(client, "XDEL", keys.events(0), receipt.entry, kept[-1].entry)  # a crash
    await command(client, "DEL", keys.forgotten(0))
    await acknowledged(sessions, 2, first=3)

    nothing = {"time": 0.0, "policy": "", "table_version": "", "request_id": "", "id": ""}
    event = {"message": "forget", "timestamp": receipt.at, "user": 1, "track": 0, **nothing}
    forgetting = Record(event, known=True, field="", track=None, entry=receipt.entry)
    numbered = of("recent", list(enumerate([*kept, forgetting], 1)))
    assert await replay.lost(numbered) == numbered[2:]
    assert await replay.write(numbered[2:]) == 2
    assert await sessions.read(1) is None
    assert [line async for line in read_events(client, keys) if b'"forget"' not in line] == []
    late = record(11, at=receipt.at - 1)
    assert await replay.write(of("spool", [(1, late)])) == 0  # it does not come back


async def test_a_count_made_with_another_catalogue_is_made_anew(
    sessions: RedisSessions, replay: RedisReplay
) -> None:
    sample = Plan((Sample(CATALOGUE, [1, 2, 3], 3),), Routes({None: (0,)}))
    await replay.write(of("spool", [(1, record(2, track=999, known=False))]))
    claimed = await sessions.claim(claim(sample, track=2))
    assert isinstance(claimed, Claimed)
    assert claimed.propensity == 1 / 2  # 999 is outside, 2 is heard
    await replay.write(of("spool", [(2, record(7, version="v2"))]))
    assert await sessions.claim(claim(sample, track=2)) == Exhausted(3, None)


@pytest.mark.parametrize(
    "through", [lambda caller, _: caller, lambda _, client: ThroughClient(client)]
)
async def test_what_will_never_be_written_is_told_from_what_cannot_be_just_now(
    caller: Caller, client: Client, keys: Keys, through: Callable[[Caller, Client], Caller]
) -> None:
    replay = RedisReplay(
        through(caller, client), keys, session_ttl=60, idempotency_ttl=60, events_max=1000
    )
    await command(client, "SET", keys.session(1), "no session")
    with pytest.raises(RefusedError):
        await replay.write(of("worker", [(1, record(6, user=1))]))
    await command(client, "CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailableError) as raised:
            await replay.write(of("worker", [(2, record(6, user=2))]))
    finally:
        await command(client, "CONFIG", "SET", "maxmemory", 0)
    assert not isinstance(raised.value, RefusedError)
    await command(client, "ACL", "SETUSER", "default", "-hmget")
    try:
        with pytest.raises(StoreUnavailableError, match="ACL") as raised:
            await replay.write(of("worker", [(2, record(6, user=2))]))
    finally:
        await command(client, "ACL", "SETUSER", "default", "+hmget")
    assert not isinstance(raised.value, RefusedError)


async def test_listeners_of_all_partitions_keep_their_order(
    client: Client, caller: Caller, keys: Keys
) -> None:
    split = Keys(keys.prefix, 3)
    replay = RedisReplay(caller, split, session_ttl=60, idempotency_ttl=60, events_max=1000)
    records = [(n, record(100 + n, user=n % 7, name=f"{n:016x}")) for n in range(1, 400)]
    assert await replay.write(of("spool", records)) == 399
    assert await replay.write(of("spool", records)) == 0
    for partition in range(3):
        stored = await events(client, split, partition)
        expected = [r.track for _, r in records if r.event["user"] % 3 == partition]
        assert [e["recommendation"] for e in stored] == expected


def test_a_record_comes_back_from_bytes() -> None:
    made = record(11, unsure=True, entry="1-1", session="s", position=3, fallback=True)
    assert unpack(pack(made)) == made


@pytest.mark.parametrize("data", [b"", b"[]", b"[1]", b"{}", b"[2,{}]", pack(record(1))[:-1]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        unpack(data)
