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
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import typer

from precompute.errors import SimulationError
from precompute.simulation.compare import CONTROL, ORACLE, policy_names
from precompute.simulation.world import World
from recsvc.experiment import parse
from recsvc.recommenders.session import SESSION

__all__ = ["Trial", "run_ladder"]

EXPERIMENT = "LADDER"
_DECLARED = files("precompute.simulation").joinpath("ladder.toml")
_START_SECONDS, _STOP_SECONDS = 60.0, 60.0
_ENOUGH = 10  # listeners a treatment, on average, of whom a report says something
_BOTH = 3000  # listeners who are given to the best policy and to the oracle
_EXPLORATION = "0.05"  # of a round: what is learnt from should not only be the best

# Nothing may be cut short here: a degraded answer would be a different experiment.
_PATIENT = {"RECSVC_DEADLINE": "30", "RECSVC_REDIS_TIMEOUT": "30"}


@dataclass(frozen=True, slots=True)
class Trial:
    """What to try: a world to make (or `world`, one that is there), and how to learn of it."""

    tracks: int
    listeners: int
    cold_sessions: int
    """Sessions a listener in the log of random recommendations that is learnt from first."""
    rounds: int
    """How often `session` is served, its log learnt from, and the table replaced."""
    round_listeners: int
    """Listeners of each round; a tenth of all listeners is in no log that is learnt from."""
    family: str
    seed: int
    world: Path | None = None


def run_ladder(directory: Path, trial: Trial) -> None:
    """Run every policy on simulated listeners and report, all below `directory`.

    The same trial gives the same result. Raises `SimulationError` when a step fails.
    """
    world, seed = trial.world or directory / "world", trial.seed
    if trial.world is None:
        _precompute(
            "world", "--output", world, "--tracks", trial.tracks, "--listeners", trial.listeners,
            "--family", trial.family, "--seed", seed,
        )  # fmt: skip
    people = len(World.load(world).listeners)
    known = people - people // 10
    artifact = _learn(directory, world, trial, known)
    arms = len(parse(_DECLARED.read_text(), policy_names()).experiments[0].treatments)
    oracles = people // (arms + 1)  # the first ones; the others are driven
    events, absent, oracle = (directory / f"{n}.jsonl" for n in ("events", "absent", "oracle"))
    seeded: list[object] = ["--seed", seed + 1]
    with as_file(_DECLARED) as declared:
        extra = {"RECSVC_EXPERIMENTS": str(declared), "RECSVC_EXPLORATION": "0"}
        with _service(directory / "data", artifact, seed, extra) as url:
            _simulate(world, url, events, ["--skip", oracles, "--listeners", known, *seeded])
            _simulate(world, url, absent, ["--skip", known, *seeded])
    _precompute(
        "listen", "--world", world, "--output", oracle, "--policy", "oracle",
        "--experiment", EXPERIMENT, "--listeners", oracles, *seeded,
    )  # fmt: skip
    compared = ["--experiment", EXPERIMENT, "--control", CONTROL, "--output"]
    _precompute("report", events, absent, oracle, *compared, directory / "report")
    if people - known >= _ENOUGH * (arms + 1):
        _precompute("report", absent, *compared, directory / "report-absent")
    # An experiment gives each listener to one policy, and listeners differ by far more than the
    # good policies do: the share of the oracle is told by those who have a session with both.
    _precompute(
        "compare", "--world", world, "--artifact", artifact, "--policy", SESSION,
        "--policy", ORACLE, "--listeners", min(people, _BOTH), *seeded,
    )  # fmt: skip


def _learn(directory: Path, world: Path, trial: Trial, known: int) -> Path:
    """Learn from random recommendations, then in rounds from what `session` served.

    Only the first `known` listeners of the world are learnt from. Returns the artifact.
    """
    cold, seeded = directory / "cold.jsonl", ["--seed", trial.seed]
    _precompute(
        "listen", "--world", world, "--output", cold, "--sessions", trial.cold_sessions,
        "--listeners", known, *seeded,
    )  # fmt: skip
    logs: list[object] = ["--log", cold]
    artifact = directory / "artifact-0"
    train = ["train", "--catalogue", world / "tracks.json", *seeded]
    _precompute(*train, *logs, "--output", artifact)
    extra = {"RECSVC_POLICY": SESSION, "RECSVC_EXPLORATION": _EXPLORATION}
    for number in range(1, trial.rounds + 1):
        log = directory / f"round-{number}.jsonl"
        some = ["--listeners", min(trial.round_listeners, known), "--seed", trial.seed + 1 + number]
        with _service(directory / f"data-{number}", artifact, trial.seed, extra) as url:
            _simulate(world, url, log, some)
        logs += ["--log", log]
        before, artifact = artifact, directory / f"artifact-{number}"
        _precompute(*train, *logs, "--start", before, "--output", artifact)
    return artifact


def _simulate(world: Path, url: str, log: Path, options: list[object]) -> None:
    _precompute(
        "simulate", "--world", world, "--url", url, "--log", log, "--connections", 32,
        "--timeout", 60, *options,
    )  # fmt: skip


@contextmanager
def _service(data_dir: Path, artifact: Path, seed: int, extra: dict[str, str]) -> Iterator[str]:
    """Publish an artifact and serve it, on a port of its own."""
    port = _free_port()
    settings = (
        _PATIENT
        | {
            "RECSVC_DATA_DIR": str(data_dir),
            "RECSVC_LOG_LEVEL": "warning",
            "RECSVC_PORT": str(port),
            "RECSVC_REDIS_URL": "embedded",
            "RECSVC_SEED": str(seed),
            "RECSVC_WORKERS": "1",
        }
        | extra
    )
    environment = os.environ | settings
    _run("recsvc", "publish", "--force", artifact, environment=environment)
    process = subprocess.Popen(_command("recsvc", "serve"), env=environment)  # noqa: S603
    try:
        _wait(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
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
