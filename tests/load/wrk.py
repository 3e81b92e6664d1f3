"""Closed loops by wrk, which is in C and never the bottleneck; by our own one where it lacks."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.load.errors import LoadError
from tests.load.generator import Load, closed_loop
from tests.load.traffic import Traffic

__all__ = ["Closed", "run", "which"]


@dataclass(frozen=True, slots=True)
class Closed:
    """What came of a closed loop; latencies in seconds."""

    answers: int
    failed: int
    seconds: float
    p50: float
    p90: float
    p99: float
    p999: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.answers - self.failed) / self.seconds


def which() -> str | None:
    """Return where wrk is installed, None where it is not."""
    return shutil.which("wrk")


def run(
    port: int, traffic: Traffic, *, connections: int, seconds: int, seed: int, scripts: Path
) -> Closed:
    """Keep `connections` busy for some seconds; `scripts` is a directory for the script."""
    program = which()
    if program is None:
        return _by_ourselves(port, traffic, connections, seconds, seed)
    script = scripts / f"traffic-{port}.lua"
    script.write_text(traffic.lua(seed))
    done = subprocess.run(
        [
            program,
            "--threads=1",
            f"--connections={connections}",
            f"--duration={seconds}s",
            f"--script={script}",
            f"http://127.0.0.1:{port}",
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise LoadError(f"wrk: {done.stderr or done.stdout}")
    answers, failed, micros, *percentiles = map(int, line.split()[1:])
    if answers == 0:
        raise LoadError("wrk got no answer at all")
    return Closed(answers, failed, micros / 1e6, *(value / 1e6 for value in percentiles))


def _by_ourselves(port: int, traffic: Traffic, connections: int, seconds: int, seed: int) -> Closed:
    load = Load(("127.0.0.1", port), traffic.requests(20_000, seed), connections)
    outcome = closed_loop(load, seconds=seconds)
    percentiles = (outcome.percentile(percent) for percent in (50, 90, 99, 99.9))
    return Closed(len(outcome.latencies), outcome.failed, outcome.seconds, *percentiles)
