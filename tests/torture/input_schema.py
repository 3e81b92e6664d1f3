"""Requests that schemathesis makes from our own OpenAPI description."""

import os
import re
import subprocess
from pathlib import Path

from tests.processes import BIN

__all__ = ["generated"]

_HERE = Path(__file__).parent


def generated(
    url: str, directory: Path, key: str, *, examples: int, seconds: int = 60
) -> tuple[int, str]:
    """Send requests of every kind the description allows and forbids, and check the answers.

    Returns how many there were, and the report. Raises `AssertionError` when an answer is
    a 5xx, is not as described, takes what it must refuse, or refuses what it must take.
    """
    found = subprocess.run(
        [
            *(BIN / "schemathesis", "--config-file", _HERE / "input_schemathesis.toml"),
            *("run", f"{url}/openapi.json"),
            *("--header", f"Authorization: Bearer {key}", "--no-color", "--continue-on-failure"),
            *("--max-examples", str(examples), "--seed", "6", "--generation-database", "none"),
            *("--suppress-health-check", "all"),
        ],
        cwd=directory,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(_HERE / "input_hooks.py")},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    (cases,) = re.findall(r"(\d+) generated", found.stdout)
    return int(cases), found.stdout
