"""The whole loop at once: a world, a cold log, a table, an experiment over HTTP, a report.

Each step is a command that a person can repeat by hand; it is printed before it runs.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path

import typer

from precompute.errors import SimulationError
from precompute.simulation.compare import CONTROL, policy_names
from recsvc.experiment import parse

__all__ = ["run_ladder"]

EXPERIMENT = "LADDER"
_DECLARED = files("precompute.simulation").joinpath("ladder.toml")
_START_SECONDS = 60.0

# Nothing may be cut short here: a degraded answer would be a different experiment.
_PATIENT = {"RECSVC_DEADLINE": "30", "RECSVC_REDIS_TIMEOUT": "30"}


def run_ladder(
    directory: Path, *, tracks: int, listeners: int, cold_sessions: int, family: str, seed: int
) -> None:
    """Run every policy on `listeners` simulated listeners and report, all below `directory`.

    The table is trained on a log of random recommendations, `cold_sessions` a listener.
    The same arguments give the same result. Raises `SimulationError` when a step fails.
    """
    world, artifact = directory / "world", directory / "artifact"
    cold, events, oracle = (directory / f"{n}.jsonl" for n in ("cold", "events", "oracle"))
    arms = len(parse(_DECLARED.read_text(), policy_names()).experiments[0].treatments)
    driven = listeners * arms // (arms + 1)  # the others are the oracle's
    seeded = ["--seed", seed]
    _precompute(
        "world", "--output", world, "--tracks", tracks, "--listeners", listeners,
        "--family", family, *seeded,
    )  # fmt: skip
    _precompute("listen", "--world", world, "--output", cold, "--sessions", cold_sessions, *seeded)
    _precompute(
        "train", "--log", cold, "--catalogue", world / "tracks.json", "--output", artifact, *seeded
    )
    with _service(directory / "data", artifact, seed) as url:
        _precompute(
            "simulate", "--world", world, "--url", url, "--log", events, "--connections", 32,
            "--listeners", driven,
            "--timeout", 60, "--seed", seed + 1,
        )  # fmt: skip
    _precompute(
        "listen", "--world", world, "--output", oracle, "--policy", "oracle",
        "--experiment", EXPERIMENT, "--skip", driven, "--seed", seed + 1,
    )  # fmt: skip
    _precompute(
        "report", events, oracle, "--experiment", EXPERIMENT, "--control", CONTROL,
        "--output", directory / "report",
    )  # fmt: skip


@contextmanager
def _service(data_dir: Path, artifact: Path, seed: int) -> Iterator[str]:
    """Publish an artifact and serve it with the experiment on, on a port of its own."""
    with as_file(_DECLARED) as declared:
        port = _free_port()
        settings = _PATIENT | {
            "RECSVC_DATA_DIR": str(data_dir),
            "RECSVC_EXPERIMENTS": str(declared),
            "RECSVC_LOG_LEVEL": "warning",
            "RECSVC_PORT": str(port),
            "RECSVC_REDIS_URL": "embedded",
            "RECSVC_SEED": str(seed),
            "RECSVC_WORKERS": "1",
        }
        environment = os.environ | settings
        _run("recsvc", "publish", "--force", artifact, environment=environment)
        process = subprocess.Popen(_command("recsvc", "serve"), env=environment)  # noqa: S603
        try:
            _wait(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _precompute(*arguments: object) -> None:
    _run("precompute", *arguments)


def _run(program: str, *arguments: object, environment: dict[str, str] | None = None) -> None:
    command = _command(program, *arguments)
    typer.echo(f"$ {shlex.join([program, *command[1:]])}")
    if subprocess.run(command, env=environment, check=False).returncode != 0:  # noqa: S603
        raise SimulationError(f"{program} {arguments[0]} failed; see above")


def _command(program: str, *arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name(program)), *map(str, arguments)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SimulationError("the service did not come up; see above")
