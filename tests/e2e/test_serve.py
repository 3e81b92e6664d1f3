"""The commands as a person types them."""

import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
from redis import Redis

from recsvc.redis.embedded import embedded_server
from recsvc.redis.keys import Keys
from recsvc.table import Table
from tests.processes import recsvc, serve, serve_by_asgi, workers_of, write_artifact
from tests.support import small_table

TABLE = small_table(400, users=tuple(range(50)))


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def publish(directory: Path, table: Table = TABLE) -> str:
    version = write_artifact(directory / "artifact", table)
    done = recsvc(directory, "publish", "--force", directory / "artifact")
    assert done.returncode == 0, done.stderr
    assert f"table {version} is live" in done.stdout
    return version


def test_a_thousand_answers_over_a_restart(directory: Path) -> None:
    publish(directory)
    heard: dict[int, list[int]] = {user: [user] for user in range(50)}
    recommenders, sessions = set(), set()
    for round_ in range(2):
        with serve(directory) as served, httpx.Client(base_url=served.url) as api:
            for step in range(10):
                for user, tracks in heard.items():
                    report = {"track": tracks[-1], "time": (user + step) % 10 / 10}
                    answer = api.post(f"/next/{user}", json=report).json()
                    assert answer["position"] == round_ * 10 + step
                    assert answer["track"] not in tracks
                    assert not answer["degraded"]
                    tracks.append(answer["track"])
                    recommenders.add(answer["recommender"])
                    sessions.add(answer["session"])
            assert served.stop() == 0
        assert not (directory / "valkey" / "valkey.pid").exists()
    assert recommenders >= {"contextual", "personal"}
    assert len(sessions) == 50
    lines = [json.loads(line) for line in recsvc(directory, "events").stdout.splitlines()]
    assert len(lines) == 1000
    for user, tracks in heard.items():
        own = [line for line in lines if line["user"] == user]
        assert [line["recommendation"] for line in own] == tracks[1:]
        assert all(0 < line["propensity"] <= 1 and line["message"] == "next" for line in own)


def test_two_workers_answer_as_one(directory: Path) -> None:
    publish(directory)
    with serve(directory, "--workers", "2") as served:
        seen = []
        for step in range(40):
            # A new connection each time, so that both workers get some.
            answer = httpx.post(f"{served.url}/next/7", json={"track": step, "time": 0.5}).json()
            seen.append(answer["track"])
            assert answer["position"] == step
        assert len(set(seen)) == 40


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers share one socket")
def test_workers_have_about_as_many_connections_each(directory: Path) -> None:
    publish(directory)
    with serve(directory, "--workers=2") as served, ExitStack() as stack:
        until = time.monotonic() + 10
        while listeners(served.url) < 2:
            assert time.monotonic() < until, "the second worker does not listen"
            time.sleep(0.02)
        pids = workers_of(served.process.pid)
        before = [open_files(pid) for pid in pids]
        for user in range(64):
            api = HTTPConnection(served.url.removeprefix("http://"), timeout=5)
            stack.enter_context(closing(api)).request(
                "POST", f"/next/{user}", b'{"track":1,"time":1}'
            )
            assert api.getresponse().status == 200
        more = [open_files(pid) - n for pid, n in zip(pids, before, strict=True)]
    assert min(more) > 10  # fewer once in a million times


def test_workers_are_replaced_while_callers_go_on(directory: Path) -> None:
    publish(directory)
    with serve(directory, "--workers=2") as served:
        before = workers_of(served.process.pid)
        served.process.send_signal(signal.SIGHUP)
        until, seen = time.monotonic() + 30, []
        while set(before) & set(workers_of(served.process.pid)):
            assert time.monotonic() < until, "they are not replaced"
            # What a worker has not accepted when it ends is reset.
            with suppress(httpx.TransportError):
                answer = httpx.post(f"{served.url}/next/7", json={"track": 3, "time": 0.5})
                seen.append(answer.json()["position"])
        assert len(workers_of(served.process.pid)) == 2
        assert len(seen) > 10
        assert seen == sorted(set(seen))


def listeners(url: str) -> int:
    """How many sockets listen on a port of loopback."""
    address = f"0100007F:{int(url.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local == address and state == "0A" for _, local, _, state, *_ in rows)


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_server_that_only_knows_asgi_gets_the_same_answers(directory: Path) -> None:
    one, reports = {"track": 3, "time": 0.5}, [{"user": 8, "track": 4, "time": 1}, {"user": -1}]

    def ask(url: str) -> list[tuple[int, str, object]]:
        with httpx.Client(base_url=url, headers={"X-Request-ID": "same"}) as api:
            calls = [
                api.post("/next/7", json=one, headers={"Idempotency-Key": "k"}),
                api.post("/next/7", json=one, headers={"Idempotency-Key": "k"}),
                api.post("/next/7", content=b"{"),
                api.post("/next/7", json={"track": 3}),
                api.post("/next", json=reports),
                api.post("/next", json={}),
                api.post("/next/7", content=b" " * 300_000),
                api.post("/last/7", json=one),
            ]
        return [(c.status_code, c.headers["content-type"], without_names(c.json())) for c in calls]

    def without_names(told: object) -> object:
        """Leave out what is new with each session."""
        if isinstance(told, list):
            return [without_names(item) for item in told]
        assert isinstance(told, dict)
        return {name: value for name, value in told.items() if name != "session"}

    told = []
    for run in (serve, serve_by_asgi):
        own = directory / run.__name__
        own.mkdir()
        publish(own)
        with run(own, seed=1) as served:
            told.append(ask(served.url))
    assert told[0] == told[1]
    assert [status for status, _, _ in told[0]] == [200, 200, 400, 422, 200, 422, 413, 200]


def test_tables_change_while_requests_run(directory: Path) -> None:
    first = publish(directory)
    versions, failures, stop = set(), [], threading.Event()

    def listen(url: str) -> None:
        with httpx.Client(base_url=url) as api:
            step = 0
            while not stop.is_set():
                answer = api.post(f"/next/{step % 50}", json={"track": step % 90, "time": 0.5})
                step += 1
                if answer.status_code != 200 or answer.json()["degraded"]:
                    failures.append(answer.text)
                versions.add(answer.json()["table_version"])

    with serve(directory) as served:
        listener = threading.Thread(target=listen, args=(served.url,))
        listener.start()
        try:
            second = publish(directory, small_table(401))
            wait_for(served.url, second)
            back = recsvc(directory, "rollback")
            assert f"table {first} is live" in back.stdout
            wait_for(served.url, first)
        finally:
            stop.set()
            listener.join()
    assert failures == []
    assert versions == {first, second}


def wait_for(url: str, version: str) -> None:
    for _ in range(1000):
        if httpx.get(f"{url}/table").json()["version"] == version:
            return
    raise AssertionError(f"table {version} was not adopted")


def test_experiments_are_assigned_and_recorded(directory: Path) -> None:
    publish(directory)
    (directory / "experiments.toml").write_text(
        '[[experiment]]\nname = "TRY"\n'
        'treatments = [{name = "C", policy = "contextual"}, {name = "T", policy = "popular"}]\n'
    )
    with serve(directory, experiments=directory / "experiments.toml") as served:
        policies = {}
        for user in range(40):
            answer = httpx.post(f"{served.url}/next/{user}", json={"track": 3, "time": 1}).json()
            policies[user] = answer["policy"]
    lines = [json.loads(line) for line in recsvc(directory, "events").stdout.splitlines()]
    arms = {line["user"]: line["experiments"]["TRY"] for line in lines}
    assert {arms[user]: policies[user] for user in arms} == {"C": "contextual", "T": "popular"}
    assert 8 < sum(arm == "C" for arm in arms.values()) < 32


def test_status_and_clear_errors(directory: Path) -> None:
    nothing = recsvc(directory, "status")
    assert (nothing.returncode, nothing.stdout) == (1, "no table is published yet\n")
    missing = recsvc(directory, "publish", directory / "nowhere")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: ")
    assert missing.stderr.count("\n") == 1
    wrong = recsvc(directory, "status", port="x")
    assert wrong.returncode == 1
    assert "RECSVC_PORT" in wrong.stderr
    unreachable = recsvc(directory, "status", redis_url=f"unix://{directory}/none")
    assert unreachable.returncode == 1
    assert unreachable.stderr.startswith("error: ")
    publish(directory)
    assert "previous  none" in recsvc(directory, "status").stdout


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("[[experiment", "not TOML"),
        ('[[experiment]]\nname = "X"', "treat"),
    ],
)
def test_experiments_that_make_no_sense_stop_the_start_with_one_line(
    directory: Path, text: str | None, reason: str
) -> None:
    declared = directory / "experiments.toml"
    if text is not None:
        declared.write_text(text)
    refused = recsvc(directory, "serve", experiments=declared, port=0)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the experiments")
    assert reason in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("url", ["redis://:pass#word@host:1x/0", "redis+sentinel://h:word/m", "x"])
def test_a_url_that_cannot_be_read_stops_the_start_with_one_line(
    directory: Path, url: str, workers: int
) -> None:
    refused = recsvc(directory, "serve", redis_url=url, workers=workers, port=0)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: RECSVC_REDIS_URL cannot be read; it is ")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--port=70000", "--port=-1", "--workers=0", "--workers=257"])
def test_an_option_that_makes_no_sense_is_refused(directory: Path, option: str) -> None:
    refused = recsvc(directory, "serve", option)
    assert refused.returncode == 2
    assert option.partition("=")[0] in refused.stderr


def test_a_gate_refuses_unless_forced(directory: Path) -> None:
    publish(directory)
    write_artifact(directory / "smaller", small_table(40))
    refused = recsvc(directory, "publish", directory / "smaller")
    assert refused.returncode == 1
    assert "error: " in refused.stderr
    forced = recsvc(directory, "publish", "--force", directory / "smaller")
    assert forced.returncode == 0
    assert "published all the same" in forced.stderr


def test_a_damaged_live_table_is_replaced_without_being_compared(directory: Path) -> None:
    live = publish(directory)
    write_artifact(directory / "smaller", small_table(40))
    with embedded_server(directory) as url, Redis.from_url(url) as redis:
        redis.hset(Keys().table(live), "0", b"damaged")
        done = recsvc(directory, "publish", "--force", directory / "smaller", redis_url=url)
    assert done.returncode == 0
    assert "not compared with the live table: " in done.stderr
    assert "is live" in done.stdout


def test_redis_away_at_the_start_and_back(directory: Path) -> None:
    with serve(directory, redis_url=f"unix://{directory}/none") as served:
        answer = httpx.post(f"{served.url}/next/1", json={"track": 5, "time": 0.5}).json()
        assert answer["degraded"]
        assert answer["track"] == 5  # nothing else is known
        ready = httpx.get(f"{served.url}/health/ready")
        assert ready.status_code == 503
        assert httpx.get(f"{served.url}/health/live").status_code == 200
        ended = httpx.post(f"{served.url}/last/1", json={"track": 5, "time": 0.5})
        assert ended.status_code == 200  # it is kept on disk, and told later
        refused = httpx.get(f"{served.url}/user/1")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"


def test_any_worker_tells_the_figures_of_all(directory: Path) -> None:
    publish(directory)
    with serve(directory, "--workers=2") as served:
        # A connection stays with the worker that took it: many make sure that both have some.
        for user in range(40):
            with httpx.Client(base_url=served.url) as api:
                assert api.post(f"/next/{user}", json={"track": 1, "time": 0.5}).status_code == 200
        until = time.monotonic() + 10
        while (counted := answers_counted(served.url)) != {40.0}:
            assert time.monotonic() < until, counted
        assert served.stop() == 0
    assert list((directory / "figures").iterdir()) == []


def answers_counted(url: str) -> set[float]:
    """How many answers there were, by any worker that is asked."""
    totals = set()
    for _ in range(8):
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        counted = [line for line in lines if line.startswith("recsvc_answers_total{")]
        totals.add(sum(float(line.rpartition(" ")[2]) for line in counted))
    return totals
