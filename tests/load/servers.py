"""Starts what is measured, each in a process of its own on its cores, and stops it again."""

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from recsvc.redis.embedded import embedded_server
from tests.load.errors import LoadError
from tests.load.machine import on
from tests.load.store import Store
from tests.processes import BIN, environment, free_port

__all__ = ["Server", "ceiling", "classical", "service", "valkey"]

ROOT = Path(__file__).parents[2]
_PATIENCE = 90.0  # seconds for a start; a table of a million tracks may be in it


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `seconds` went from its start to its first good answer."""

    port: int
    pid: int
    seconds: float


@contextmanager
def valkey(directory: Path) -> Iterator[str]:
    """Run the embedded server and yield its URL.

    It never rewrites its append-only file, which would fall into one round and not into
    the next.
    """
    with embedded_server(directory) as url:
        with Redis.from_url(url) as server:
            server.config_set("auto-aof-rewrite-percentage", 0)
        yield url


@contextmanager
def ceiling(cores: frozenset[int]) -> Iterator[Server]:
    """Run the bare ASGI function."""
    port = free_port()
    command = [sys.executable, "-m", "tests.load.ceiling", f"--port={port}"]
    with _run(command, dict(os.environ), ROOT, port, cores) as server:
        yield server


@contextmanager
def classical(cores: frozenset[int], redis: str, log: Path) -> Iterator[Server]:
    """Run the classical service; its data is in Redis already."""
    port = free_port()
    module = [sys.executable, "-m", "gevent.monkey", "--module", "tests.load.classical"]
    command = [*module, f"--port={port}", f"--redis={redis}", f"--log={log}"]
    with _run(command, dict(os.environ), ROOT, port, cores) as server:
        yield server


@contextmanager
def service(
    cores: frozenset[int],
    data_dir: Path,
    store: Store,
    *,
    workers: int = 1,
    policy: str = "ensemble",
    **settings: object,
) -> Iterator[Server]:
    """Run `recsvc serve`; all settings that are not named are the defaults."""
    port = free_port()
    command = [str(BIN / "recsvc"), "serve", f"--workers={workers}"]
    kept = {"redis_url": store.url, "key_prefix": store.prefix}
    variables = environment(data_dir, port=port, policy=policy, **kept, **settings)
    # Not in the project's directory: a .env there is not ours.
    with _run(command, variables, data_dir, port, cores) as server:
        yield server


@contextmanager
def _run(
    command: list[str],
    variables: dict[str, str],
    directory: Path,
    port: int,
    cores: frozenset[int],
) -> Iterator[Server]:
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        with on(cores):
            process = subprocess.Popen(
                command, env=variables, cwd=directory, stdout=subprocess.DEVNULL, stderr=log
            )
        try:
            if not _is_ready(process, port):
                log.seek(0)
                said = log.read()[-2000:].decode(errors="replace")
                raise LoadError(f"a server did not get ready: {said}")
            yield Server(port, process.pid, time.perf_counter() - started)
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
            process.kill()
            process.wait()


def _is_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a server answers; tell whether it did before it ended or time was up."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return True
        time.sleep(0.005)
    return False
