"""What callers get wrong, race over, or repeat."""

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from secrets import randbelow
from typing import Any

import httpx
import pytest

from tests.processes import Served, recsvc, serve, write_artifact
from tests.support import small_table

REPORT = {"track": 3, "time": 0.5}


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    write_artifact(directory / "artifact", small_table(200))
    published = recsvc(directory, "publish", "--force", directory / "artifact")
    assert published.returncode == 0, published.stderr
    with serve(directory, deadline=5, redis_timeout=5) as running:
        yield running


@pytest.fixture(scope="module")
def api(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=10) as client:
        yield client


@pytest.fixture
def user() -> int:
    return randbelow(2**63)


def events(directory: Path, user: int) -> list[dict[str, Any]]:
    lines = recsvc(directory, "events").stdout.splitlines()
    return [event for event in map(json.loads, lines) if event["user"] == user]


def post(api: httpx.Client, path: str, body: bytes) -> httpx.Response:
    return api.post(path, content=body)


async def test_a_listener_who_calls_at_once_never_gets_a_track_twice(
    served: Served, user: int
) -> None:
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as client:
        calls = [client.post(f"/next/{user}", json=REPORT) for _ in range(150)]
        answers = [response.json() for response in await asyncio.gather(*calls)]
    assert len({answer["track"] for answer in answers}) == 150
    assert sorted(answer["position"] for answer in answers) == list(range(150))
    assert 3 not in {answer["track"] for answer in answers}


async def test_side_by_side_every_listener_gets_an_answer_of_their_own(served: Served) -> None:
    users = [randbelow(2**63) for _ in range(100)]
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as client:
        calls = [client.post(f"/next/{user}", json=REPORT) for user in users]
        answers = [response.json() for response in await asyncio.gather(*calls)]
    assert [answer["user"] for answer in answers] == users


def test_a_key_repeated_gets_one_event_for_next_and_one_for_last(
    api: httpx.Client, directory: Path, user: int
) -> None:
    headers = {"Idempotency-Key": "one key for both"}
    first, again = (api.post(f"/next/{user}", json=REPORT, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    for _ in range(2):
        ended = api.post(f"/last/{user}", json=REPORT, headers=headers)
        assert ended.json() == {"user": user}
    assert [event["message"] for event in events(directory, user)] == ["next", "last"]


def test_a_key_repeated_with_a_batch_gets_the_same_answers(
    api: httpx.Client, directory: Path, user: int
) -> None:
    headers = {"Idempotency-Key": "of a batch"}
    items = [{"user": each, **REPORT} for each in (user, user ^ 1, user)]
    items.insert(1, {"user": user})  # and a bad one among them
    first, again = (api.post("/next", json=items, headers=headers).json() for _ in range(2))
    assert first == again
    assert first[0]["track"] != first[3]["track"]
    assert [event["position"] for event in events(directory, user)] == [0, 1]
    alone = api.post(f"/next/{user}", json=REPORT, headers=headers).json()
    assert alone == first[0]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_none_is_refused(api: httpx.Client, user: int, key: str) -> None:
    headers = {"Idempotency-Key": key}
    for path, body in ((f"/next/{user}", REPORT), ("/next", [{"user": user, **REPORT}])):
        refused = api.post(path, json=body, headers=headers)
        assert refused.status_code == 422
        assert "Idempotency-Key" in refused.json()["detail"]


def test_a_key_is_the_listeners_own(api: httpx.Client, user: int) -> None:
    headers = {"Idempotency-Key": "k"}
    one = api.post(f"/next/{user}", json=REPORT, headers=headers).json()
    other = api.post(f"/next/{user ^ 1}", json=REPORT, headers=headers).json()
    assert (other["user"], other["position"]) == (user ^ 1, 0)
    assert one["session"] != other["session"]


def test_a_key_of_any_bytes_is_a_key(api: httpx.Client, user: int) -> None:
    headers = [(b"idempotency-key", bytes(range(0x80, 0x100)))]
    first, again = (api.post(f"/next/{user}", json=REPORT, headers=headers) for _ in range(2))
    assert first.status_code == 200
    assert first.json() == again.json()


@pytest.mark.parametrize("given", ["mine-1", "a" * 64])
def test_a_harmless_request_id_is_kept(api: httpx.Client, user: int, given: str) -> None:
    answer = api.post(f"/next/{user}", json=REPORT, headers={"X-Request-ID": given}).json()
    assert answer["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", '"', "a" * 65, "a\tb"])
def test_any_other_request_id_is_replaced(api: httpx.Client, user: int, given: str) -> None:
    answer = api.post(f"/next/{user}", json=REPORT, headers={"X-Request-ID": given}).json()
    assert answer["request_id"] not in (given, "")


def test_an_event_tells_all_that_an_analysis_needs(
    api: httpx.Client, directory: Path, user: int
) -> None:
    answer = api.post(f"/next/{user}", json=REPORT).json()
    (event,) = events(directory, user)
    assert event.pop("timestamp") > 1_700_000_000_000
    assert re.fullmatch("[0-9a-f]{16}", event.pop("id"))
    assert event == {
        "message": "next",
        "user": user,
        "track": 3,
        "time": 0.5,
        "experiments": {},
        "recommendation": answer["track"],
        **{
            name: answer[name]
            for name in ("recommender", "propensity", "policy", "table_version", "request_id")
        },
        **{name: answer[name] for name in ("session", "position", "fallback")},
    }


@pytest.mark.parametrize(
    "path",
    [
        "/next/%ff",
        "/next/1%0a",
        "/next/%00",
        "/next/%D9%A1",
        "/next/1%2F2",
        "/next/-0",
        "/next/0x1",
        "/next/1e3",
        "/next/" + "1" * 4000,
        "/" + "x" * 4000,
        "/next/1/2",
        "//next/1",
        "/user/1 OR 1=1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_strange_paths_are_refused_as_problems(api: httpx.Client, method: str, path: str) -> None:
    response = api.request(method, path, content=b'{"track": 3, "time": 0.5}')
    assert response.status_code in (404, 405, 422)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code
    assert response.status_code != 405 or response.headers["allow"]


@pytest.mark.parametrize(
    "item",
    [
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        b"NaN",
        b'{"user": 1, "track": 3, "time": NaN}',
        b'{"user": 1, "track": 3, "time": 1e999}',
        b'{"user": 1, "track": 3, "time": "0.5"}',
        b'{"user": 1, "track": 3, "time": true}',
        b'{"user": true, "track": 3, "time": 0.5}',
        b'{"user": "1", "track": 3, "time": 0.5}',
        b'{"user": 1.0, "track": 3, "time": 0.5}',
        b'{"user": -1, "track": 3, "time": 0.5}',
        b'{"user": 9223372036854775808, "track": 3, "time": 0.5}',
        b'{"user": 1180591620717411303424, "track": 3, "time": 0.5}',
        b'{"user": 1, "track": 3}',
        b'{"user": "\\ud800", "track": 3, "time": 0.5}',
        b"[" * 150 + b"]" * 150,
    ],
)
def test_a_bad_item_never_spoils_the_others(api: httpx.Client, user: int, item: bytes) -> None:
    good = b'{"user": %d, "track": 3, "time": 0.5}' % user
    response = post(api, "/next", b"[" + good + b"," + item + b"," + good + b"]")
    assert response.status_code == 200, response.text
    first, refused, second = response.json()
    assert (first["position"], second["position"]) == (0, 1)
    assert first["track"] != second["track"]
    assert refused["status"] == 422


def test_the_largest_batch_is_answered_in_order(api: httpx.Client) -> None:
    items = [{"user": randbelow(2**63), **REPORT} for _ in range(1000)]
    answers = api.post("/next", json=items).json()
    assert [answer["user"] for answer in answers] == [item["user"] for item in items]
    assert not any(answer["degraded"] for answer in answers)


def test_numbers_at_their_limits_are_taken(api: httpx.Client) -> None:
    for user in (0, 2**63 - 1):
        for track in (0, 2**63 - 1):
            for time in (0, 1, 1.0, 0.0, 5e-324, -0.0):
                answer = api.post(f"/next/{user}", json={"track": track, "time": time})
                assert answer.status_code == 200, answer.text
        assert api.get(f"/user/{user}").json()["track"] == 2**63 - 1
        assert api.delete(f"/user/{user}").json()["session"]


def test_ids_beyond_a_double_keep_every_digit(api: httpx.Client, directory: Path) -> None:
    user, track = 2**63 - 7, 2**53 + 1
    api.post(f"/next/{user}", json={"track": track, "time": 0.5})
    assert api.get(f"/user/{user}").json()["track"] == track
    assert events(directory, user)[0]["track"] == track


def test_every_item_of_a_batch_has_its_event(api: httpx.Client, directory: Path) -> None:
    users = [randbelow(2**63) for _ in range(30)]
    order = [*users, *users[:3], users[0]]
    answers = api.post("/next", json=[{"user": user, **REPORT} for user in order]).json()
    assert [answer["user"] for answer in answers] == order
    assert [answer["position"] for answer in answers] == [0] * 30 + [1] * 3 + [2]
    lines = recsvc(directory, "events").stdout.splitlines()
    told = {(e["user"], e["position"]): e for e in map(json.loads, lines) if e["user"] in users}
    assert len(told) == len(order)
    for answer in answers:
        event = told[answer["user"], answer["position"]]
        assert event["recommendation"] == answer["track"]
        assert event["propensity"] == answer["propensity"]
        assert event["request_id"] == answer["request_id"]
