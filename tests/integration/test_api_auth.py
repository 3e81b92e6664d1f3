"""Who may what, over a real socket."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from recsvc.api import listeners, operations, tables
from recsvc.api.auth import Role, make_key
from recsvc.app import create_app
from recsvc.settings import Settings
from tests.processes import recsvc, serve, write_artifact
from tests.support import small_table

REPORT = {"track": 3, "time": 0.5}
KEYS = {role: make_key(role, f"the-{role}-key") for role in Role}
CALLS = {
    ("POST", "/next/1"): Role.PLAY,
    ("POST", "/last/1"): Role.PLAY,
    ("POST", "/next"): Role.PLAY,
    ("DELETE", "/user/1"): Role.PLAY,
    ("POST", "/explain/1"): Role.READ,
    ("GET", "/user/1"): Role.READ,
    ("GET", "/metrics"): Role.READ,
    ("GET", "/track/1"): None,
    ("GET", "/track/1/neighbours"): None,
    ("GET", "/table"): None,
    ("POST", "/table/reload"): Role.ADMIN,
    ("POST", "/table/rollback"): Role.ADMIN,
}
OPEN = ["/", "/health/live", "/health/ready"]


@pytest.fixture(scope="module")
def log() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "log"


@pytest.fixture(scope="module")
def api(log: Path) -> Iterator[httpx.Client]:
    directory = log.parent
    keys = directory / "keys"
    keys.write_text("\n".join(entry for _, entry in KEYS.values()))
    write_artifact(directory / "artifact", small_table(40))
    recsvc(directory, "publish", "--force", directory / "artifact")
    with (
        log.open("wb") as stderr,
        serve(
            directory,
            stderr=stderr,
            api_keys=keys,
            admin_key="the-other-admin-key",
            docs_open=False,
            metrics_open=False,
            log_level="debug",
        ) as served,
        httpx.Client(base_url=served.url, timeout=10) as client,
    ):
        yield client


def call(api: httpx.Client, method: str, path: str, key: str | None) -> httpx.Response:
    body = [{"user": 1, **REPORT}] if path == "/next" else REPORT
    headers = [] if key is None else [(b"Authorization", f"Bearer {key}".encode())]
    response = api.request(method, path, json=body, headers=headers)
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
    return response


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_each_call_asks_for_its_role(api: httpx.Client, method: str, path: str) -> None:
    needed = CALLS[method, path]
    for key in (None, "rk_wrong", "é"):
        refused = call(api, method, path, key)
        assert refused.status_code == 401, (key, refused.text)
        assert refused.headers["www-authenticate"].startswith("Bearer")
    for role, (key, _) in KEYS.items():
        status = call(api, method, path, key).status_code
        allowed = role in (needed, Role.ADMIN) or needed is None
        assert (status not in (401, 403)) == allowed, (role, status)
        assert allowed or status == 403


def test_the_admin_key_setting_is_a_key_among_the_others(api: httpx.Client) -> None:
    assert call(api, "POST", "/next/1", "the-other-admin-key").status_code == 200
    assert call(api, "POST", "/table/reload", "the-other-admin-key").status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_what_a_probe_asks_is_open(api: httpx.Client, path: str) -> None:
    assert call(api, "GET", path, None).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/docs/files/swagger-ui.css", "/openapi.json"])
def test_closed_documentation_is_not_there(api: httpx.Client, path: str) -> None:
    assert call(api, "GET", path, KEYS[Role.ADMIN][0]).status_code == 404


def test_a_refused_call_changes_nothing(api: httpx.Client) -> None:
    admin = KEYS[Role.ADMIN][0]
    call(api, "DELETE", "/user/5", admin)
    for key in (None, "rk_wrong", KEYS[Role.READ][0]):
        call(api, "POST", "/next/5", key)
    assert call(api, "GET", "/user/5", admin).status_code == 404


def test_every_route_is_on_the_list_above() -> None:
    listed = {(method, path.replace("/1", "/{}")) for method, path in CALLS}
    listed |= {("GET", path) for path in OPEN}
    routers = (listeners.router, tables.router, operations.router, operations.figures)
    routes = [route for router in routers for route in router.routes]
    assert {
        (method, route.path.replace("{user}", "{}").replace("{track}", "{}"))
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    } == listed


def test_openapi_asks_for_keys_where_they_are_asked_for() -> None:
    def secured(settings: Settings) -> set[str]:
        paths = create_app(settings).openapi()["paths"]
        return {
            f"{method.upper()} {path}"
            for path, methods in paths.items()
            for method, operation in methods.items()
            if operation.get("security")
        }

    admin = {"POST /table/reload", "POST /table/rollback"}
    entry = KEYS[Role.PLAY][1]
    assert secured(Settings()) == admin
    everything = secured(Settings.model_validate({"api_keys": entry, "metrics_open": False}))
    assert len(everything) == len(CALLS)


def test_no_key_is_in_the_log_and_no_line_is_forged(api: httpx.Client, log: Path) -> None:
    for key, _ in KEYS.values():
        call(api, "POST", "/next/1", key)
        call(api, "POST", f"/nope/{key}", key)
        call(api, "POST", '/next/1%0d%0a{"level":"error"}%0a', key)
        call(api, "DELETE", "/user/%0a%e2%80%a8%1b[2J", key)
    text = log.read_text()
    assert text
    assert all(json.loads(line)["logger"] for line in text.splitlines())
    for secret in [*(key for key, _ in KEYS.values()), "the-other-admin-key"]:
        assert secret not in text


def test_keys_that_cannot_be_read_stop_the_start(tmp_path: Path) -> None:
    found = recsvc(tmp_path, "serve", api_keys="a-secret-pasted-here")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == "error: RECSVC_API_KEYS is neither entries nor a file with them\n"


def test_metrics_closed_without_keys_need_the_admin_key() -> None:
    app = create_app(Settings(metrics_open=False))
    (operation,) = app.openapi()["paths"]["/metrics"].values()
    assert operation["security"] == [{"key": []}]


def test_the_command_makes_a_key_that_is_let_in(tmp_path: Path) -> None:
    made = recsvc(tmp_path, "key", "play", "phone").stdout.splitlines()
    key, entry = made[0].split()[1], made[1].split()[1]
    assert entry.startswith("play:phone:")
    assert key not in entry
    assert recsvc(tmp_path, "key", "play", "a b").returncode == 1
