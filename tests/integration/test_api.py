"""The HTTP API over a real socket, as its callers use it."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Served, recsvc, serve, write_artifact
from tests.support import small_table

USER = iter(range(1000, 10_000))
REPORT = {"track": 3, "time": 0.5}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(40))
        published = recsvc(directory, "publish", "--force", directory / "artifact")
        assert published.returncode == 0, published.stderr
        with serve(
            directory, admin_key="a-key", table_poll=0.2, body_max=4096, batch_max=5
        ) as running:
            yield running


@pytest.fixture(scope="module")
def api(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=10) as client:
        yield client


@pytest.fixture
def user() -> int:
    return next(USER)


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["detail"]
    return body


def test_a_session_from_first_to_last(api: httpx.Client, user: int) -> None:
    first = api.post(f"/next/{user}", json=REPORT).json()
    assert (first["user"], first["recommender"], first["policy"]) == (
        user,
        "contextual",
        "ensemble",
    )
    assert first["track"] != 3
    assert (first["position"], first["degraded"]) == (0, False)
    second = api.post(f"/next/{user}", json={"track": first["track"], "time": 0.1}).json()
    assert second["session"] == first["session"]
    assert second["position"] == 1
    stored = api.get(f"/user/{user}").json()
    assert (stored["position"], stored["served"], stored["listened"]) == (2, second["track"], 3)
    ended = api.post(f"/last/{user}", json={"track": second["track"], "time": 1})
    assert (ended.status_code, ended.json()) == (200, {"user": user})
    problem(api.get(f"/user/{user}"), 404)
    assert api.post(f"/next/{user}", json=REPORT).json()["session"] != first["session"]


def test_every_track_once_then_the_oldest(api: httpx.Client, user: int) -> None:
    track, served = 3, []
    for _ in range(39):
        track = api.post(f"/next/{user}", json={"track": track, "time": 0.9}).json()["track"]
        served.append(track)
    assert sorted([3, *served]) == list(range(40))
    answer = api.post(f"/next/{user}", json={"track": track, "time": 0.9}).json()
    assert (answer["track"], answer["recommender"], answer["fallback"]) == (3, "oldest", True)
    answer = api.post(f"/next/{user}", json={"track": 3, "time": 0.9}).json()
    assert (answer["track"], answer["recommender"]) == (served[0], "oldest")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json"},
        {"content-type": "application/x-www-form-urlencoded"},
    ],
)
def test_the_body_is_json_whatever_the_content_type(
    api: httpx.Client, user: int, headers: dict[str, str]
) -> None:
    body = b'{"track": 10, "time": 0.3}'
    answer = api.post(f"/next/{user}", content=body, headers=headers)
    assert isinstance(answer.json()["track"], int)
    assert api.post(f"/last/{user}", content=body, headers=headers).json() == {"user": user}


def test_unknown_tracks_and_listeners_get_an_answer(api: httpx.Client) -> None:
    answer = api.post(f"/next/{2**63 - 1}", json={"track": 2**63 - 1, "time": 0}).json()
    assert 0 <= answer["track"] < 40
    assert (answer["recommender"], answer["fallback"]) == ("popular", True)


BAD_BODIES = [
    (b"", 400),
    (b'{"track": 1', 400),
    (b'{"track": 1, "time": 0.5}}', 400),
    (b'{"track": "\\ud800", "time": 1}', 400),
    (b"[" * 900 + b"]" * 900, 400),
    (b"\xff\xfe", 400),
    (b"null", 422),
    (b"[]", 422),
    (b"{}", 422),
    (b'{"track": 1}', 422),
    (b'{"track": 1, "time": NaN}', 422),
    (b'{"track": 1, "time": Infinity}', 422),
    (b'{"track": 1, "time": 1e999}', 422),
    (b'{"track": 1, "time": -0.1}', 422),
    (b'{"track": 1, "time": 1.01}', 422),
    (b'{"track": 1, "time": "0.5"}', 422),
    (b'{"track": 1, "time": true}', 422),
    (b'{"track": true, "time": 1}', 422),
    (b'{"track": "1", "time": 1}', 422),
    (b'{"track": 1.5, "time": 1}', 422),
    (b'{"track": -1, "time": 1}', 422),
    (b'{"track": 9223372036854775808, "time": 1}', 422),
    (b'{"track": 1180591620717411303424, "time": 1}', 422),
    (b" " * 5000, 413),
]


@pytest.mark.parametrize("route", ["next", "last", "explain"])
@pytest.mark.parametrize(("body", "status"), BAD_BODIES)
def test_bad_bodies_are_refused_and_change_nothing(
    api: httpx.Client, user: int, route: str, body: bytes, status: int
) -> None:
    found = problem(api.post(f"/{route}/{user}", content=body), status)
    if status == 422:
        assert all(error["pointer"] in {"", "/track", "/time"} for error in found["errors"])
    problem(api.get(f"/user/{user}"), 404)


@pytest.mark.parametrize(
    "user",
    [
        "+1",
        "-1",
        "1_0",
        " 1",
        "01",
        "1.0",
        "true",
        "x",
        "9223372036854775808",
        "9" * 5000,
        "\u0661",
    ],
)
def test_bad_ids_are_refused(api: httpx.Client, user: str) -> None:
    found = problem(api.post(f"/next/{user}", json=REPORT), 422)
    assert found["errors"][0]["pointer"] == "/user"
    assert "Value error" not in found["detail"]


def test_a_body_of_unknown_length_is_cut_off(api: httpx.Client, user: int) -> None:
    problem(api.post(f"/next/{user}", content=iter([b" " * 3000] * 2)), 413)


def test_paths_and_methods_that_are_not_there(api: httpx.Client) -> None:
    problem(api.get("/nope"), 404)
    problem(api.get("/next/1"), 405)
    problem(api.get("/track/" + "9" * 3000), 422)


def test_the_same_key_gets_the_same_answer(api: httpx.Client, user: int) -> None:
    headers = {"Idempotency-Key": "k"}
    first = api.post(f"/next/{user}", json=REPORT, headers=headers).json()
    assert api.post(f"/next/{user}", json=REPORT, headers=headers).json() == first
    assert api.get(f"/user/{user}").json()["position"] == 1
    problem(api.post(f"/next/{user}", json=REPORT, headers={"Idempotency-Key": "k" * 256}), 422)


def test_a_batch_answers_in_order_and_a_bad_item_spoils_no_other(
    api: httpx.Client, user: int
) -> None:
    items = [{"user": user, **REPORT}, 7, {"user": user + 5000, **REPORT}, {"user": user, **REPORT}]
    answers = api.post("/next", json=items).json()
    assert [a.get("user") for a in answers] == [user, None, user + 5000, user]
    assert answers[1]["status"] == 422
    assert (answers[0]["position"], answers[3]["position"]) == (0, 1)
    assert api.post("/next", json=[]).json() == []
    problem(api.post("/next", json=items * 2), 422)
    problem(api.post("/next", json={"user": 1}), 422)


def test_explain_is_what_next_does_and_changes_nothing(api: httpx.Client, user: int) -> None:
    first = api.post(f"/next/{user}", json=REPORT).json()
    report = {"track": first["track"], "time": 0.2}
    explained = api.post(f"/explain/{user}", json=report).json()
    assert explained["last_recommender"] == "contextual"
    assert "below 0.7" in explained["why"]
    assert api.get(f"/user/{user}").json()["position"] == 1
    answer = api.post(f"/next/{user}", json=report).json()
    assert answer["recommender"] == explained["answered_by"]
    (pool,) = [pool for pool in explained["pools"] if pool["answers"]]
    chances = {row["track"]: row["probability"] for row in pool["candidates"]}
    assert sum(chances.values()) == pytest.approx(1.0)
    assert chances[answer["track"]] == pytest.approx(answer["propensity"])
    assert all(not row["probability"] for row in pool["candidates"] if row["heard"])


def test_tracks_and_neighbours(api: httpx.Client) -> None:
    assert api.get("/track/4").json() == {"track": 4, "artist": "Bo", "title": "Song 4"}
    near = api.get("/track/4/neighbours").json()
    assert [row["track"] for row in near["neighbours"]] == [5, 6, 7, 8, 9]
    assert sum(row["share"] for row in near["neighbours"]) == pytest.approx(1.0)
    problem(api.get("/track/40"), 404)
    problem(api.get("/track/40/neighbours"), 404)


def test_erasing_a_listener(api: httpx.Client, user: int) -> None:
    api.post(f"/next/{user}", json=REPORT)
    receipt = api.delete(f"/user/{user}").json()
    assert receipt.pop("at") > 1_700_000_000_000
    nothing = {"user": user, "found": False, "session": False, "listened": 0, "personal": False}
    assert receipt == {**nothing, "found": True, "session": True, "listened": 2}
    again = api.delete(f"/user/{user}")
    assert again.status_code == 200
    assert again.json() == {**nothing, "at": again.json()["at"]}


def test_health_and_metrics(api: httpx.Client, user: int) -> None:
    assert api.get("/health/live").json()["status"] == "alive"
    assert api.get("/health/ready").json() == {
        "status": "ready",
        "checks": {"redis": "ok", "table": "ok"},
    }
    assert api.get("/").json()["service"] == "recsvc"
    api.post(f"/next/{user}", json=REPORT)
    text = api.get("/metrics").text
    assert 'recsvc_answers_total{degraded="False",fallback="False"' in text
    assert 'route="/next/{user}"' in text
    assert "recsvc_table_tracks 40.0" in text


def test_tables_need_the_admin_key(api: httpx.Client) -> None:
    for call in ("/table/reload", "/table/rollback"):
        problem(api.post(call), 401)
        problem(api.post(call, headers={"X-API-Key": "another"}), 401)
        problem(api.post(call, headers=[(b"X-API-Key", "ä".encode())]), 401)
    view = api.get("/table").json()
    assert view["counts"]["tracks"] == 40
    reloaded = api.post("/table/reload", headers={"Authorization": "Bearer a-key"})
    assert reloaded.json()["version"] == view["version"]
    problem(api.post("/table/rollback", headers={"X-API-Key": "a-key"}), 409)


def test_the_openapi_description_is_complete(api: httpx.Client) -> None:
    described = api.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            assert body is None or body["example"], (method, path)
            if "{" in path:
                assert operation["parameters"][0]["schema"]["maximum"] == 2**63 - 1, path
                assert "application/problem+json" in json.dumps(operation["responses"]["422"])
    assert {"/next/{user}", "/last/{user}", "/next", "/explain/{user}", "/user/{user}"} <= set(
        described["paths"]
    )


def test_the_documentation_needs_nothing_from_another_host(api: httpx.Client) -> None:
    page = api.get("/docs").text
    needed = re.findall(r"""(?:href|src)="([^"]+)"|url: '([^']+)'""", page)
    addresses = {address for pair in needed for address in pair if address}
    assert {"openapi.json", "docs/files/swagger-ui-bundle.js"} <= addresses
    for address in addresses:
        assert "//" not in address
        assert api.get(f"/{address}").status_code == 200, address


def test_documentation_is_counted_by_its_routes(api: httpx.Client) -> None:
    for path in ("docs", "docs/files/swagger-ui.css", "openapi.json", "nowhere"):
        api.get(f"/{path}")
    counts = re.findall(r'seconds_count{route="(.*?)",status="(.*?)"}', api.get("/metrics").text)
    served = {route for route, status in counts if status == "200"}
    assert {"/docs", "/docs/files", "/openapi.json"} < served
    assert "unknown" not in served
    assert ("unknown", "404") in counts
