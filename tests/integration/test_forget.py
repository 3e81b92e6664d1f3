"""Forget me: nothing of a listener is used, shown or exported any more."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsvc.redis.caller import Caller
from recsvc.redis.commands import Client
from recsvc.redis.events import read_events
from recsvc.redis.forgotten import Forgotten
from recsvc.redis.keys import Keys
from recsvc.redis.replay import RedisReplay
from recsvc.redis.sessions import RedisSessions
from tests.processes import recsvc, serve, write_artifact
from tests.support import claim, command, of, record, small_table, three_pools

REPORT = {"track": 3, "time": 0.5}
LISTENER = 1  # one of the two with a personal list


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(60))
        recsvc(directory, "publish", "--force", directory / "artifact")
        yield directory


@pytest.fixture(scope="module")
def apis(directory: Path) -> Iterator[list[httpx.Client]]:
    """Two services on one store."""
    with ExitStack() as stack:
        served = [stack.enter_context(serve(directory, table_poll=0.1)) for _ in range(2)]
        yield [stack.enter_context(httpx.Client(base_url=s.url, timeout=10)) for s in served]


def personal(api: httpx.Client) -> int:
    """How many tracks of the listener's own the next answer would be drawn from."""
    pools = api.post(f"/explain/{LISTENER}", json=REPORT).json()["pools"]
    return sum(len(pool["candidates"]) for pool in pools if pool["recommender"] == "personal")


def events(directory: Path, user: int) -> list[dict[str, Any]]:
    lines = recsvc(directory, "events").stdout.splitlines()
    return [event for event in map(json.loads, lines) if event["user"] == user]


def test_everything_goes_and_the_receipt_says_what_there_was(
    apis: list[httpx.Client], directory: Path
) -> None:
    api, other = apis
    for user in (LISTENER, 50):
        api.post(f"/next/{user}", json=REPORT, headers={"Idempotency-Key": "k"})
    assert personal(api) == personal(other) == 4
    receipt = api.delete(f"/user/{LISTENER}").json()
    assert (receipt["found"], receipt["session"], receipt["listened"]) == (True, True, 2)
    assert receipt["personal"] is True
    assert api.get(f"/user/{LISTENER}").status_code == 404
    assert personal(api) == 0
    until = time.monotonic() + 10
    while personal(other):
        assert time.monotonic() < until, "the other service goes on using the list"
        time.sleep(0.02)
    (mark,) = events(directory, LISTENER)
    assert (mark["message"], mark["timestamp"]) == ("forget", receipt["at"])
    assert len(events(directory, 50)) == 1

    again = api.delete(f"/user/{LISTENER}").json()
    assert (again["found"], again["personal"]) == (False, False)

    # Who comes back is a new listener: with a new answer for an old key, and events that stay.
    first = api.post(f"/next/{LISTENER}", json=REPORT, headers={"Idempotency-Key": "k"}).json()
    assert first["position"] == 0
    assert [event["message"] for event in events(directory, LISTENER)] == ["forget"] * 2 + ["next"]


def test_a_restart_does_not_bring_the_list_back(directory: Path) -> None:
    with serve(directory) as served, httpx.Client(base_url=served.url) as api:
        api.delete(f"/user/{LISTENER}")
    with serve(directory) as served, httpx.Client(base_url=served.url) as api:
        assert personal(api) == 0


def test_a_table_of_what_was_heard_before_has_no_list_whenever_it_was_made(
    directory: Path,
) -> None:
    exported = datetime.now(UTC)
    with serve(directory, table_poll=0.1) as served, httpx.Client(base_url=served.url) as api:
        api.delete(f"/user/{LISTENER}")
        time.sleep(1.1)  # as long as it took to train
        version = write_artifact(directory / "late", small_table(59), exported)
        recsvc(directory, "publish", "--force", directory / "late")
        until = time.monotonic() + 10
        while api.get("/table").json()["version"] != version:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert personal(api) == 0


def test_a_table_of_what_was_heard_since_may_have_a_list_again(directory: Path) -> None:
    with serve(directory, table_poll=0.1) as served, httpx.Client(base_url=served.url) as api:
        api.delete(f"/user/{LISTENER}")
        assert personal(api) == 0
        time.sleep(1.1)  # the end of the data is told by the second
        write_artifact(directory / "newer", small_table(61), datetime.now(UTC))
        version = recsvc(directory, "publish", "--force", directory / "newer").stdout
        until = time.monotonic() + 10
        while api.get("/table").json()["version"] not in version:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert personal(api) == 4


async def test_no_key_is_left(sessions: RedisSessions, keys: Keys, client: Client) -> None:
    await sessions.claim(claim(three_pools(), user=17, key="k"))
    await sessions.erase(17)
    left = await command(client, "KEYS", f"{keys.prefix}:*")
    assert {key.decode().rpartition(":")[2] for key in left} == {"events", "forgotten"}


MADE, MADE_LATER = "2023-11-14T22:13:20+00:00", "2023-11-14T22:13:40+00:00"
MADE_MS = 1_700_000_000_000


async def test_nobody_is_missed_whom_a_server_with_a_slower_clock_marked(
    client: Client, keys: Keys
) -> None:
    forgotten = Forgotten(client, keys)
    forgotten.look_back_to(MADE)
    await client.zadd(keys.forgotten(0), {"17": MADE_MS + 30_000})
    assert await forgotten.refresh() == {17}
    assert await forgotten.refresh() == set()
    await client.zadd(keys.forgotten(0), {"18": MADE_MS})
    assert await forgotten.refresh() == {18}
    assert await forgotten.refresh() == set()
    assert {*forgotten.users} == {17, 18}


async def test_only_those_are_asked_for_whose_lists_the_table_may_have(
    client: Client, keys: Keys
) -> None:
    marks = {"16": MADE_MS - 1, "17": MADE_MS + 10_000, "18": MADE_MS + 30_000}
    await client.zadd(keys.forgotten(0), marks)
    forgotten = Forgotten(client, keys)
    assert await forgotten.refresh() == set()  # there is no table yet
    forgotten.look_back_to(MADE_LATER)
    assert await forgotten.refresh() == {18}
    forgotten.look_back_to(MADE)  # a rollback
    assert await forgotten.refresh() == {17}
    assert {*forgotten.users} == {17, 18}
    forgotten.look_back_to(MADE_LATER)
    assert {*forgotten.users} == {18}


async def test_what_is_replayed_later_does_not_bring_them_back(
    caller: Caller, sessions: RedisSessions, client: Client, keys: Keys
) -> None:
    replay = RedisReplay(caller, keys, session_ttl=60, idempotency_ttl=60, events_max=1000)
    before = record(6, user=17, at=int(time.time() * 1000) - 5000)
    await sessions.erase(17)
    since = record(7, user=17, at=int(time.time() * 1000) + 5000, name="another")
    assert await replay.write(of("worker", [(1, before), (2, since)])) == 1
    found = [json.loads(line) async for line in read_events(client, keys)]
    assert [event.get("recommendation") for event in found] == [None, 7]
