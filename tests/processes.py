"""The service as its users meet it: a process of its own, over a real socket."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import httpx

from recsvc import artifact
from recsvc.packing import pack
from recsvc.table import Table

__all__ = [
    "BIN",
    "Served",
    "environment",
    "free_port",
    "look",
    "recsvc",
    "serve",
    "serve_by_asgi",
    "until",
    "workers_of",
    "write_artifact",
]

BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Served:
    """A running service."""

    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        """Interrupt it as Ctrl-C does and wait for its end."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=15)


def write_artifact(directory: Path, table: Table, data_until: datetime | None = None) -> str:
    """Write a table as an artifact and return its version."""
    data = pack(table)
    manifest = artifact.describe(data, table, data_until=data_until)
    artifact.write(directory, data, manifest)
    return manifest.version


def recsvc(
    data_dir: Path, *arguments: object, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run a `recsvc` command to its end."""
    return subprocess.run(
        [BIN / "recsvc", *map(str, arguments)],
        env=environment(data_dir, **settings),
        cwd=data_dir,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def serve(
    data_dir: Path, *arguments: str, stderr: IO[bytes] | None = None, **settings: object
) -> Iterator[Served]:
    """Run `recsvc serve` until it answers; stop it in the end whatever happened.

    Its log goes to `stderr`, where one is given.
    """
    port = free_port()
    command: list[str | Path] = [BIN / "recsvc", "serve", *arguments]
    with _running(command, data_dir, port, stderr, settings) as served:
        yield served


@contextmanager
def serve_by_asgi(data_dir: Path, **settings: object) -> Iterator[Served]:
    """Run the application under a server that knows nothing of it but ASGI."""
    port = free_port()
    server: list[str | Path] = [BIN / "uvicorn", "--factory", f"--port={port}"]
    command = [*server, "recsvc.app:create_app"]
    with _running(command, data_dir, port, subprocess.DEVNULL, settings) as served:
        yield served


@contextmanager
def _running(
    command: Sequence[str | Path],
    data_dir: Path,
    port: int,
    stderr: IO[bytes] | int | None,
    settings: dict[str, object],
) -> Iterator[Served]:
    process = subprocess.Popen(
        command,
        env=environment(data_dir, port=port, **settings),
        cwd=data_dir,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
    served = Served(f"http://127.0.0.1:{port}", process)
    try:
        _wait(served)
        yield served
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def workers_of(process: int) -> list[int]:
    """Return the process ids of the workers of a service that has several."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            command = stat.with_name("cmdline").read_bytes()
            if fields[1] == str(process) and b"spawn_main" in command:
                found.append(int(stat.parent.name))
    return sorted(found)


def environment(data_dir: Path, **settings: object) -> dict[str, str]:
    """Variables for a service of its own; none of the caller's settings leaks in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECSVC_")}
    stated = {"data_dir": data_dir, "log_level": "warning", **settings}
    return kept | {f"RECSVC_{name.upper()}": str(value) for name, value in stated.items()}


def look(url: str, **options: Any) -> httpx.Response:
    """Get a page without what httpx does for each client: to read all authorities' certificates.

    That takes tens of milliseconds, in which players of the same process hear no answers.
    """
    return httpx.get(url, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **options)


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something to come true."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


def _wait(served: Served) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        assert served.process.poll() is None, "the service ended before it was up"
        with suppress(httpx.TransportError):
            if look(f"{served.url}/health/live", timeout=1).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the service did not come up")
