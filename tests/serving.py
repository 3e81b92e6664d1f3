"""The `recsvc` command as a process of its own, behind a real socket."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from recsvc import artifact
from recsvc.packing import pack
from recsvc.table import Table

__all__ = ["Served", "recsvc", "serve", "until", "write_artifact"]

_COMMAND = (sys.executable, "-c", "from recsvc.cli import app; app()")
# Patient, so that a busy machine does not make an answer degraded.
_PATIENT = {"deadline": 5.0, "redis_timeout": 5.0, "table_poll": 0.1}


@dataclass(frozen=True, slots=True)
class Served:
    """A running service."""

    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        """Interrupt it as Ctrl-C does; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(20.0)


def write_artifact(directory: Path, table: Table) -> str:
    """Write a table as `precompute` does, and return its version."""
    data = pack(table)
    manifest = artifact.describe(data, table)
    artifact.write(directory, data, manifest)
    return manifest.version


def recsvc(
    directory: Path, *arguments: str | Path, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with `directory` as its data and its place."""
    return subprocess.run(
        [*_COMMAND, *map(str, arguments)],
        env=_environment(directory, settings),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )


@contextmanager
def serve(directory: Path, *arguments: str, **settings: object) -> Iterator[Served]:
    """Serve until the block ends; whatever happens in it, no process is left."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = _environment(directory, {**settings, "port": port})
    with (
        (directory / "serve.log").open("ab") as log,
        subprocess.Popen(
            [*_COMMAND, "serve", *arguments],
            env=environment,
            cwd=directory,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        served = Served(url, process)
        try:
            until(lambda: process.poll() is not None or _alive(url), 30.0)
            assert process.poll() is None, (directory / "serve.log").read_text()
            yield served
        finally:
            served.stop()


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for something to become true."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


def _environment(directory: Path, settings: dict[str, object]) -> dict[str, str]:
    """The caller's environment, but for its settings of the service."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RECSVC_")}
    stated = {"data_dir": directory, **_PATIENT, **settings}
    return clean | {f"RECSVC_{name.upper()}": str(value) for name, value in stated.items()}


def _alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
