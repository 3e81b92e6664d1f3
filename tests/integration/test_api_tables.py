"""Changing the table by HTTP, while players go on asking."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import recsvc, serve, write_artifact
from tests.support import small_table

KEY = {"X-API-Key": "a-key"}


class Shop:
    """A service, and tables to publish into it."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        self.api = httpx.Client(base_url=url, timeout=10)

    def publish(self, tracks: int) -> str:
        version = write_artifact(self.directory / "artifact", small_table(tracks))
        done = recsvc(self.directory, "publish", "--force", self.directory / "artifact")
        assert done.returncode == 0, done.stderr
        return version


@pytest.fixture
def shop() -> Iterator[Shop]:
    # Polling and announcements come too late here; the calls must do it.
    slow: dict[str, Any] = {"table_poll": 3600, "deadline": 5, "redis_timeout": 5}
    with (
        tempfile.TemporaryDirectory() as name,
        serve(Path(name), admin_key="a-key", **slow) as served,
    ):
        opened = Shop(Path(name), served.url)
        yield opened
        opened.api.close()


def test_before_the_first_table_it_answers_and_is_not_ready(shop: Shop) -> None:
    answer = shop.api.post("/next/1", json={"track": 5, "time": 1}).json()
    assert (answer["track"], answer["recommender"]) == (5, "oldest")
    assert shop.api.get("/health/ready").json()["checks"]["table"] == "none is published yet"
    assert shop.api.get("/track/5").status_code == 404
    view = shop.api.get("/table").json()
    assert (view["version"], view["previous"], view["age_seconds"]) == ("none", None, None)
    reload = shop.api.post("/table/reload", headers=KEY)
    assert (reload.status_code, reload.json()["detail"]) == (409, "no table is published yet")
    assert shop.api.post("/table/rollback", headers=KEY).status_code == 409


def test_reload_and_rollback_while_requests_run(shop: Shop) -> None:
    first = shop.publish(60)
    assert shop.api.post("/table/reload", headers=KEY).json()["version"] == first
    failures: list[str] = []
    versions: set[str] = set()
    stop = threading.Event()

    def listen() -> None:
        with httpx.Client(base_url=shop.url) as player:
            user = 0
            while not stop.is_set():
                user += 1
                response = player.post(f"/next/{user}", json={"track": user % 60, "time": 0.5})
                answer = response.json()
                versions.add(answer.get("table_version", response.text))
                if response.status_code != 200 or answer["degraded"]:
                    failures.append(response.text)

    players = [threading.Thread(target=listen) for _ in range(3)]
    for player in players:
        player.start()
    try:
        second = shop.publish(61)
        view = shop.api.post("/table/reload", headers=KEY).json()
        assert (view["version"], view["previous"]) == (second, first)
        assert view["counts"]["tracks"] == 61
        assert 0 <= view["age_seconds"] < 60
        view = shop.api.post("/table/rollback", headers=KEY).json()
        assert (view["version"], view["previous"]) == (first, second)
        assert shop.api.get("/table").json()["counts"]["tracks"] == 60
    finally:
        stop.set()
        for player in players:
            player.join()
    assert failures == []
    assert first in versions
    assert versions <= {first, second}


def test_a_session_goes_on_over_a_change_of_table(shop: Shop) -> None:
    shop.publish(20)
    shop.api.post("/table/reload", headers=KEY)
    heard = [3]

    def listen(steps: int) -> None:
        for step in range(steps):
            report = {"track": heard[-1], "time": step % 10 / 10}
            answer = shop.api.post("/next/1", json=report).json()
            heard.append(answer["track"])

    listen(15)
    shop.publish(30)
    shop.api.post("/table/reload", headers=KEY)
    listen(14)
    # The second catalogue holds the first: all of its tracks, each once.
    assert sorted(heard) == list(range(30))
    assert shop.api.get("/user/1").json()["position"] == 29


def test_bad_keys_change_nothing(shop: Shop) -> None:
    first, _ = shop.publish(20), shop.publish(21)
    shop.api.post("/table/reload", headers=KEY)
    before = shop.api.get("/table").json()["version"]
    for headers in (
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "a-ke"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic a-key"},
        {"Authorization": "Bearer"},
    ):
        response = shop.api.post("/table/rollback", headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert "a-key" not in response.text
    assert shop.api.get("/table").json()["version"] == before != first
