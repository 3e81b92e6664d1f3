"""The policy `session` in a real service: it learns in the session, and forgets with it."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import numpy as np
import pytest

from recsvc.evidence import Evidence, unpack
from recsvc.recommenders.inference import believe, forecast, learn
from recsvc.recommenders.source import Source
from recsvc.redis.caller import Caller
from recsvc.redis.commands import Client
from recsvc.redis.keys import Keys
from recsvc.redis.sessions import RedisSessions
from recsvc.table import Table
from tests.inferring import inferring_table
from tests.processes import recsvc, serve, write_artifact

USER = count(100)
KEY = {"X-API-Key": "a-key"}
FIRST, SECOND = inferring_table(200, 4, seed=1), inferring_table(210, 6, seed=2)


@dataclass(frozen=True, slots=True)
class Shop:
    """A service that answers greedily by `session`, and what it is served from."""

    directory: Path
    url: str
    redis_url: str
    keys: Keys

    def publish(self, table: Table) -> Source:
        version = write_artifact(self.directory / "artifact", table)
        done = recsvc(
            self.directory,
            *("publish", "--force", self.directory / "artifact"),
            redis_url=self.redis_url,
            key_prefix=self.keys.prefix,
        )
        assert done.returncode == 0, done.stderr
        reloaded = httpx.post(f"{self.url}/table/reload", headers=KEY, timeout=10)
        assert reloaded.json()["version"] == version
        return Source(table, version)


@pytest.fixture(scope="module")
def shop(valkey: str) -> Iterator[Shop]:
    keys = Keys(f"test-{token_hex(4)}")
    patient: dict[str, Any] = {"deadline": 5, "redis_timeout": 5, "table_poll": 3600}
    with (
        tempfile.TemporaryDirectory() as name,
        serve(
            Path(name),
            redis_url=valkey,
            key_prefix=keys.prefix,
            policy="session",
            exploration=0,
            admin_key="a-key",
            **patient,
        ) as served,
    ):
        yield Shop(Path(name), served.url, valkey, keys)


@pytest.fixture(scope="module")
def source(shop: Shop) -> Source:
    return shop.publish(FIRST)


@pytest.fixture
async def api(shop: Shop, source: Source) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=shop.url, timeout=10) as client:
        yield client


@pytest.fixture
def store(caller: Caller, shop: Shop) -> RedisSessions:
    return RedisSessions(caller, shop.keys, session_ttl=60, idempotency_ttl=60, events_max=1000)


async def evidence_of(store: RedisSessions, user: int) -> Evidence:
    return unpack((await store.recall(user)).evidence)


async def ask(api: httpx.AsyncClient, user: int, track: int, time: float) -> dict[str, Any]:
    response = await api.post(f"/next/{user}", json={"track": track, "time": time})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert not answer["degraded"]
    return answer


def assert_is_the_best(answer: dict[str, Any], source: Source, evidence: Evidence) -> None:
    """Up to what single precision in the store leaves undecided."""
    found, _ = forecast(source, evidence, (), 8)
    foreseen = dict(zip(found.tracks.tolist(), found.times.tolist(), strict=True))
    assert foreseen[answer["track"]] == pytest.approx(max(foreseen.values()), abs=1e-3)


async def test_a_player_that_does_not_play_what_it_is_served_gets_the_next_best(
    api: httpx.AsyncClient, source: Source, store: RedisSessions
) -> None:
    user, out = next(USER), list[int]()
    for track in range(100, 112):
        answer = await ask(api, user, track, 0.6)
        found, _ = forecast(source, await evidence_of(store, user), out, 8)
        foreseen = dict(zip(found.tracks.tolist(), found.times.tolist(), strict=True))
        assert foreseen[answer["track"]] == pytest.approx(max(foreseen.values()), abs=1e-3)
        assert answer["propensity"] > 0.99
        out.append(answer["track"])


async def test_each_answer_is_the_best_after_all_that_was_heard(
    api: httpx.AsyncClient, store: RedisSessions, source: Source
) -> None:
    user, track, heard = next(USER), 3, Evidence(np.zeros(0, dtype=np.int64), np.zeros(0))
    for step in range(12):
        time = (0.9, 0.0, 0.35, 1.0)[step % 4]
        answer = await ask(api, user, track, time)
        assert (answer["recommender"], answer["policy"]) == ("session", "session")
        assert (answer["position"], answer["fallback"]) == (step, False)
        assert answer["propensity"] == pytest.approx(1.0)
        heard = learn(source, heard, track, time)
        assert_is_the_best(answer, source, heard)
        kept = await evidence_of(store, user)
        assert (kept.tracks.tolist(), kept.version) == (heard.tracks.tolist(), source.version)
        assert kept.belief is not None
        np.testing.assert_allclose(kept.belief.mean, believe(source, heard).mean, atol=1e-4)
        track = answer["track"]


async def test_the_end_of_a_session_is_the_end_of_its_evidence(
    api: httpx.AsyncClient, store: RedisSessions
) -> None:
    user = next(USER)
    first = await ask(api, user, 3, 0.9)
    second = await ask(api, user, first["track"], 0.0)
    assert second["track"] != first["track"]
    assert len(await evidence_of(store, user)) == 2
    ended = await api.post(f"/last/{user}", json={"track": second["track"], "time": 0.2})
    assert ended.json() == {"user": user}
    assert (await store.recall(user)).evidence == b""
    again = await ask(api, user, 3, 0.9)
    assert (again["track"], again["position"]) == (first["track"], 0)
    await api.delete(f"/user/{user}")
    assert (await store.recall(user)).evidence == b""


async def test_thirty_calls_of_one_listener_at_once_get_thirty_tracks(
    api: httpx.AsyncClient, store: RedisSessions, client: Client, shop: Shop
) -> None:
    user = next(USER)
    answers = await asyncio.gather(*(ask(api, user, 3, 0.9) for _ in range(30)))
    tracks = {answer["track"] for answer in answers}
    assert len(tracks) == 30
    assert 3 not in tracks
    assert sorted(answer["position"] for answer in answers) == list(range(30))
    assert {answer["recommender"] for answer in answers} == {"session"}
    stored = await client.xrange(shop.keys.events(0), "-", "+", 10_000)
    events = [json.loads(fields[b"event"]) for _, fields in stored]
    own = [event for event in events if event["user"] == user]
    assert {event["recommendation"] for event in own} == tracks
    assert all(0.0 < event["propensity"] <= 1.0 for event in own)
    assert set((await evidence_of(store, user)).tracks.tolist()) == {3}


async def test_unknown_tracks_and_damaged_evidence_are_answered(
    api: httpx.AsyncClient, store: RedisSessions, client: Client, shop: Shop
) -> None:
    user = next(USER)
    first = await ask(api, user, 2**63 - 1, 1.0)
    assert first["recommender"] == "session"
    for damage in (b"", b"x", b"\xff" * 100):
        await client.hset(shop.keys.session(user), "learnt", damage)
        answer = await ask(api, user, 5, 0.5)
        assert answer["recommender"] == "session"
        assert (await evidence_of(store, user)).tracks.tolist() == [5]


async def test_explain_says_what_next_does_and_why(api: httpx.AsyncClient) -> None:
    user = next(USER)
    first = await ask(api, user, 3, 0.9)
    report = {"track": first["track"], "time": 0.1}
    explained = (await api.post(f"/explain/{user}", json=report)).json()
    assert (explained["answered_by"], explained["policy"]) == ("session", "session")
    told = explained["reasons"]
    assert [row["track"] for row in told["heard"]] == [3, first["track"]]
    assert told["heard"][0]["expected"] is None
    assert told["heard"][1]["expected"] > 0.0
    assert all(r["low"] <= r["expected"] <= r["high"] for r in told["candidates"])
    answer = await ask(api, user, first["track"], 0.1)
    assert answer["track"] == told["candidates"][0]["track"]
    assert answer["position"] == 1


async def test_a_session_goes_on_over_a_change_of_model(
    api: httpx.AsyncClient, store: RedisSessions, source: Source, shop: Shop
) -> None:
    user, track, heard = next(USER), 3, []
    for step in range(10):
        if step == 5:
            source = await asyncio.to_thread(shop.publish, SECOND)
        time = (0.9, 0.2)[step % 2]
        answer = await ask(api, user, track, time)
        heard.append(track)
        assert (answer["recommender"], answer["position"]) == ("session", step)
        assert answer["table_version"] == source.version
        kept = await evidence_of(store, user)
        assert (kept.tracks.tolist(), kept.version) == (heard, source.version)
        assert kept.belief is not None
        np.testing.assert_allclose(kept.belief.mean, believe(source, kept).mean, atol=1e-4)
        assert_is_the_best(answer, source, kept)
        track = answer["track"]
    assert len({*heard, track}) == 11
