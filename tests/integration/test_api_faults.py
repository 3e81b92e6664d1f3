"""What callers get while the session store is away, and when it is back."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsvc.redis.embedded import embedded_server
from tests.processes import recsvc, serve, write_artifact
from tests.support import small_table

REPORT = {"track": 3, "time": 0.5}


class Store:
    """A server of this test's own, which can be made to hang."""

    def __init__(self, directory: Path, url: str) -> None:
        self.url = url
        self.directory = directory
        self.pid = int((directory / "valkey" / "valkey.pid").read_text())

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as name, embedded_server(Path(name)) as url:
        yield Store(Path(name), url)


@pytest.fixture(scope="module")
def directory(store: Store) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(50))
        published = recsvc(
            directory, "publish", "--force", directory / "artifact", redis_url=store.url
        )
        assert published.returncode == 0, published.stderr
        yield directory


@contextmanager
def calling(directory: Path, store: Store) -> Iterator[httpx.Client]:
    with (
        serve(directory, redis_url=store.url, table_poll=0.1) as served,
        httpx.Client(base_url=served.url, timeout=8.0) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def api(directory: Path, store: Store) -> Iterator[httpx.Client]:
    with calling(directory, store) as client:
        yield client


@pytest.fixture(scope="module")
def other(directory: Path, store: Store) -> Iterator[httpx.Client]:
    """Another service with the same directory, as a second worker is."""
    with calling(directory, store) as client:
        yield client


def recovered(api: httpx.Client, user: int) -> float:
    """Wait for an answer that is not degraded; return the seconds that it took."""
    started = time.monotonic()
    while api.post(f"/next/{user}", json=REPORT).json()["degraded"]:
        assert time.monotonic() < started + 10
        time.sleep(0.01)
    return time.monotonic() - started


def test_a_frozen_store_costs_no_answer_no_event_and_no_repeat(
    api: httpx.Client, store: Store
) -> None:
    answers = [api.post("/next/1", json=REPORT).json()]
    with store.frozen():
        for _ in range(8):
            started = time.monotonic()
            answers.append(api.post("/next/1", json=REPORT).json())
            assert time.monotonic() - started < 0.6  # the deadline is 0.25 s
            assert (answers[-1]["degraded"], answers[-1]["session"]) == (True, None)
            assert answers[-1]["table_version"] == answers[0]["table_version"]
    assert recovered(api, 9) < 2.0
    answers += [api.post("/next/1", json=REPORT).json() for _ in range(5)]
    assert not any(answer["degraded"] for answer in answers[-5:])
    assert {answer["session"] for answer in answers[-5:]} == {answers[0]["session"]}
    assert [answer["position"] for answer in answers[-5:]] == [9, 10, 11, 12, 13]
    assert len({answer["track"] for answer in answers} | {3}) == 15
    events = [event for event in stored_events(store) if event["user"] == 1]
    assert [event["recommendation"] for event in sorted(events, key=position)] == [
        answer["track"] for answer in answers
    ]
    assert [event["propensity"] for event in sorted(events, key=position)] == [
        answer["propensity"] for answer in answers
    ]
    assert sum("degraded" in event for event in events) == 8
    assert {event["session"] for event in events} == {answers[0]["session"]}


def position(event: dict[str, Any]) -> int:
    found: int = event["position"]
    return found


def stored_events(store: Store) -> list[dict[str, Any]]:
    done = recsvc(store.directory, "events", redis_url=store.url)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_erasure_that_was_refused_is_not_made_later(api: httpx.Client, store: Store) -> None:
    assert api.delete("/user/8").status_code == 200  # so that the script is there
    tracks = [api.post("/next/20", json=REPORT).json()["track"]]
    with store.frozen():
        assert api.delete("/user/20").status_code == 503
        tracks += [api.post("/next/20", json=REPORT).json()["track"] for _ in range(3)]
    recovered(api, 9)
    tracks += [api.post("/next/20", json=REPORT).json()["track"] for _ in range(20)]
    assert len({3, *tracks}) == 25
    stored = [event["recommendation"] for event in stored_events(store) if event["user"] == 20]
    assert stored == tracks


def test_an_outage_knows_nothing_of_who_was_erased(api: httpx.Client, store: Store) -> None:
    keyed = {"Idempotency-Key": "k"}
    api.post("/next/21", json=REPORT, headers=keyed)
    assert api.delete("/user/21").json()["session"]
    with store.frozen():
        assert api.post("/next/21", json=REPORT, headers=keyed).json()["degraded"]
    recovered(api, 9)


def test_a_session_that_ends_in_an_outage_has_ended(api: httpx.Client, store: Store) -> None:
    first = api.post("/next/7", json=REPORT).json()
    with store.frozen():
        api.post("/next/7", json=REPORT)
        assert api.post("/last/7", json=REPORT).json() == {"user": 7}
        again = api.post("/next/7", json=REPORT).json()
    recovered(api, 9)
    after = api.post("/next/7", json=REPORT).json()
    assert after["session"] != first["session"]
    assert after["position"] == 1
    assert after["track"] != again["track"]
    messages = [(e["message"], e["session"]) for e in stored_events(store) if e["user"] == 7]
    one, two = first["session"], after["session"]
    assert messages == [("next", one), ("next", one), ("last", one), ("next", two), ("next", two)]


def test_a_session_that_ended_at_another_worker_has_ended(
    api: httpx.Client, other: httpx.Client, store: Store
) -> None:
    first = api.post("/next/30", json=REPORT).json()
    with store.frozen():
        api.post("/next/30", json=REPORT)
        for _ in range(5):  # so that this one finds out too
            other.post("/next/31", json=REPORT)
        assert other.post("/last/30", json=REPORT).json() == {"user": 30}
        for _ in range(3):
            assert api.post("/next/30", json=REPORT).json()["degraded"]
    for each in (api, other):
        recovered(each, 9)
    after = api.post("/next/30", json=REPORT).json()
    assert after["session"] != first["session"]
    assert after["position"] == 3
    told = [(e["message"], e["session"]) for e in stored_events(store) if e["user"] == 30]
    assert told.count(("next", first["session"])) == 2
    assert told.count(("next", after["session"])) == 4
    assert told.count(("last", first["session"])) == 1


def test_the_calls_that_need_the_store_say_that_it_is_away(api: httpx.Client, store: Store) -> None:
    with store.frozen():
        for method, path in (
            ("POST", "/explain/2"),
            ("GET", "/user/2"),
            ("DELETE", "/user/2"),
        ):
            response = api.request(method, path, json=REPORT)
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["retry-after"] == "1"
    recovered(api, 2)


def test_alive_but_not_ready(api: httpx.Client, store: Store) -> None:
    with store.frozen():
        assert api.get("/health/live").status_code == 200
        ready = api.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"redis": "it does not answer", "table": "ok"}
    recovered(api, 3)
    assert api.get("/health/ready").status_code == 200


def test_what_is_in_memory_is_shown_all_the_same(api: httpx.Client, store: Store) -> None:
    with store.frozen():
        assert api.get("/track/4").json()["title"] == "Song 4"
        assert len(api.get("/track/4/neighbours").json()["neighbours"]) == 5
        assert api.get("/").status_code == 200
        assert "recsvc_store_faults_total" in api.get("/metrics").text
    recovered(api, 4)


def test_the_table_is_shown_within_a_second_or_said_to_be_unknown(
    api: httpx.Client, store: Store
) -> None:
    with store.frozen():
        response = api.get("/table", timeout=3.0)
        assert response.status_code in (200, 503)
    recovered(api, 5)


def test_faults_are_counted(api: httpx.Client, store: Store) -> None:
    with store.frozen():
        api.post("/next/6", json=REPORT)
    recovered(api, 6)
    lines = api.get("/metrics").text.splitlines()
    counted = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)
               if name and not name.startswith("#")}  # fmt: skip
    assert counted["recsvc_store_faults_total"] >= 1
    degraded = [value for name, value in counted.items() if 'degraded="True"' in name]
    assert sum(degraded) >= 1


def test_a_batch_is_answered_item_by_item_without_the_store(
    api: httpx.Client, store: Store
) -> None:
    items = [{"user": 70_000 + at % 30, **REPORT} for at in range(60)]
    items[7] = {"user": 1}
    with store.frozen():
        answers = api.post("/next", json=items).json()
    assert answers[7]["status"] == 422
    given = [answer for answer in answers if "track" in answer]
    assert len(given) == 59
    assert all(answer["degraded"] for answer in given)
    assert len({(answer["user"], answer["track"]) for answer in given}) == 59
    recovered(api, 70_000)


def test_what_one_redis_has_to_learn_is_not_told_to_another(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "one") as url:
        pass  # it is away now
    with serve(tmp_path, redis_url=url) as served:
        assert httpx.post(f"{served.url}/next/1", json=REPORT).json()["degraded"]
    with embedded_server(tmp_path / "other") as other, (tmp_path / "log").open("wb+") as log:
        with serve(tmp_path, redis_url=other, stderr=log) as served:
            time.sleep(1.5)  # by then it takes over what others have left
        assert recsvc(tmp_path, "events", redis_url=other).stdout == ""
        log.seek(0)
        assert b"has events for another Redis" in log.read()
    with embedded_server(tmp_path / "one"), serve(tmp_path, redis_url=f"{url}?client_name=again"):
        until = time.monotonic() + 10
        while not recsvc(tmp_path, "events", redis_url=url).stdout:
            assert time.monotonic() < until
