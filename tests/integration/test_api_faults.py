"""What callers get while the session store is away, and when it is back."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
def api(store: Store) -> Iterator[httpx.Client]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(50))
        published = recsvc(
            directory, "publish", "--force", directory / "artifact", redis_url=store.url
        )
        assert published.returncode == 0, published.stderr
        with (
            serve(directory, redis_url=store.url, table_poll=0.1) as served,
            httpx.Client(base_url=served.url, timeout=8.0) as client,
        ):
            yield client


def recovered(api: httpx.Client, user: int) -> float:
    """Wait for an answer that is not degraded; return the seconds that it took."""
    started = time.monotonic()
    while api.post(f"/next/{user}", json=REPORT).json()["degraded"]:
        assert time.monotonic() < started + 10
        time.sleep(0.01)
    return time.monotonic() - started


def test_a_frozen_store_costs_the_memory_and_never_the_answer(
    api: httpx.Client, store: Store
) -> None:
    before = api.post("/next/1", json=REPORT).json()
    with store.frozen():
        for _ in range(5):
            started = time.monotonic()
            answer = api.post("/next/1", json=REPORT).json()
            assert time.monotonic() - started < 0.6  # the deadline is 0.25 s
            assert (answer["degraded"], answer["session"]) == (True, None)
            assert answer["track"] in {4, 5, 6, 7, 8}
            assert answer["table_version"] == before["table_version"]
    assert recovered(api, 1) < 2.0
    assert api.get("/user/1").json()["id"] == before["session"]


def test_the_calls_that_need_the_store_say_that_it_is_away(api: httpx.Client, store: Store) -> None:
    with store.frozen():
        for method, path in (
            ("POST", "/last/2"),
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
