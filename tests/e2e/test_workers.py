"""Several workers: one that is lost is replaced, whatever is out of order meanwhile."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from recsvc.api.auth import Role, make_key
from tests.processes import Served, look, recsvc, serve, until, workers_of, write_artifact
from tests.support import small_table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks in /proc")

EXPERIMENTS = (
    '[[experiment]]\nname = "TRY"\n'
    'treatments = [{name = "C", policy = "contextual"}, {name = "T", policy = "popular"}]\n'
)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(100))
        assert recsvc(directory, "publish", "--force", directory / "artifact").returncode == 0
        yield directory


def kill_a_worker(served: Served) -> int:
    """Kill one of two workers; return the other."""
    lost, other = workers_of(served.process.pid)
    os.kill(lost, signal.SIGKILL)
    until(lambda: lost not in workers_of(served.process.pid))
    return other


def answers(served: Served) -> bool:
    with suppress(httpx.TransportError):
        return httpx.post(f"{served.url}/next/1", json={"track": 3, "time": 1}).status_code == 200
    return False


def lines(log: Path) -> list[str]:
    """The messages of a log, each line of which must be a JSON object."""
    return [json.loads(line)["message"] for line in log.read_text().splitlines()]


def serving(directory: Path, served: Served) -> list[int]:
    """The workers that have begun to serve: each writes its figures down then."""
    figures = directory / "figures" / served.url.rpartition(":")[2]
    return [pid for pid in workers_of(served.process.pid) if (figures / f"{pid}.json").exists()]


def test_a_worker_that_cannot_start_is_tried_again_until_it_can(directory: Path) -> None:
    experiments, log = directory / "experiments.toml", directory / "log"
    experiments.write_text(EXPERIMENTS)
    with (
        log.open("wb") as stderr,
        serve(directory, "--workers=2", stderr=stderr, experiments=experiments) as served,
    ):
        until(lambda: len(serving(directory, served)) == 2)
        time.sleep(1)  # the supervisor sees it too
        experiments.write_text("broken[")
        other = kill_a_worker(served)
        began = time.monotonic()
        until(lambda: log.read_text().count("has ended (3)") >= 2)
        assert time.monotonic() - began > 3, "no pause between them"
        assert answers(served)
        experiments.write_text(EXPERIMENTS)
        until(lambda: {other} < set(serving(directory, served)))
        assert served.stop() == 0
    assert any("the experiments are not TOML" in line for line in lines(log))


def test_a_first_start_that_fails_ends_the_service(directory: Path) -> None:
    (directory / "memory").write_text("in the way of a directory")
    started = time.monotonic()
    failed = recsvc(directory, "serve", "--workers=2", port=0)
    assert failed.returncode == 1
    assert "error: the service could not start; its log says why" in failed.stderr
    assert "could not start, and no other has" in failed.stderr
    assert time.monotonic() - started < 20


def test_a_worker_is_replaced_while_the_keys_are_damaged(directory: Path) -> None:
    keys, log = directory / "keys", directory / "log"
    taken_away, old = make_key(Role.PLAY, "old")
    key, entry = make_key(Role.PLAY, "phone")
    keys.write_text(f"{old} {entry}")

    def lets_in(given: str) -> set[int]:
        """What several connections get, some of them to each worker."""
        return {
            look(f"{served.url}/table", headers={"X-API-Key": given}).status_code for _ in range(12)
        }

    with (
        log.open("wb") as stderr,
        serve(directory, "--workers=2", stderr=stderr, api_keys=keys) as served,
    ):
        until(lambda: len(serving(directory, served)) == 2)
        keys.write_text(entry)
        until(lambda: lets_in(taken_away) == {401})
        time.sleep(2)  # the supervisor looks too
        keys.write_bytes(b"damaged \xff")
        other = kill_a_worker(served)
        until(lambda: {other} < set(serving(directory, served)))
        assert (lets_in(key), lets_in(taken_away)) == ({200}, {401})
        new, entry = make_key(Role.PLAY, "new")
        keys.write_text(entry)
        until(lambda: lets_in(new) == {200})
        assert lets_in(key) == {401}
        assert served.stop() == 0
    assert any("the keys are those from before" in line for line in lines(log))
