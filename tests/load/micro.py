"""The section `micro`: the pure core under pytest-benchmark, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.load.errors import LoadError
from tests.load.figures import Key
from tests.load.machine import on
from tests.load.stage import Stage

__all__ = ["measure_micro"]

_TESTS = Path(__file__).with_name("test_micro.py")


def measure_micro(stage: Stage) -> None:
    """Run the microbenchmarks; note the median of each."""
    report = stage.directory / "micro.json"
    command = [sys.executable, "-m", "pytest", "-q", str(_TESTS), f"--benchmark-json={report}"]
    command += ["--benchmark-enable", "--benchmark-only", f"--benchmark-max-time={_seconds(stage)}"]
    with on(stage.cores.service):
        done = subprocess.run(
            command,
            cwd=_TESTS.parents[2],
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    if done.returncode != 0:
        raise LoadError(f"the microbenchmarks failed:\n{done.stdout}{done.stderr}")
    for found in json.loads(report.read_text())["benchmarks"]:
        name = found["name"].removeprefix("test_").replace("_", " ")
        key = Key("micro", name, "alone", "time")
        stage.results.add(key, "us", found["stats"]["median"] * 1e6)


def _seconds(stage: Stage) -> float:
    return 0.25 * stage.pace.seconds
