"""The serving half from its lock alone, in an environment of its own."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.torture.conftest import Report

pytestmark = pytest.mark.torture

ROOT = Path(__file__).parents[2]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=300, check=False
    )


def test_the_lock_installs_what_serves_and_nothing_else(tmp_path: Path, report: Report) -> None:
    venv.create(tmp_path / "own", with_pip=True)
    python = tmp_path / "own" / "bin" / "python"
    lock = ROOT / "requirements" / "serve.txt"
    found = run(python, "-m", "pip", "install", "--require-hashes", "-r", lock)
    if "HASHES" not in found.stderr and "Could not find a version" in found.stderr:
        pytest.skip(f"no package index to be had here: {found.stderr.splitlines()[-1]}")
    assert found.returncode == 0, found.stderr
    built = run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert run(python, "-m", "pip", "install", "--no-deps", wheel).returncode == 0
    assert run(python, "-m", "pip", "check").returncode == 0
    assert "play:phone:" in run(python.parent / "recsvc", "key", "play", "phone").stdout
    assert run(python, "-c", "import torch").returncode != 0
    installed = run(python, "-m", "pip", "list", "--format", "freeze").stdout.splitlines()
    report("supply chain", "an install from the lock, by hash", f"{len(installed)} packages")


def test_a_package_that_was_swapped_is_refused(tmp_path: Path, report: Report) -> None:
    lock = (ROOT / "requirements" / "serve.txt").read_text()
    (entry,) = (e for e in lock.split("\n# via")[0].split("\n\n") if e)
    name = entry.split("==")[0].strip()
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(f"{entry.split(chr(92))[0].strip()} --hash=sha256:{'0' * 64}\n")
    target = tmp_path / "target"
    found = run(
        *(sys.executable, "-m", "pip", "install", "--no-deps", "--target", target),
        *("--require-hashes", "-r", wrong),
    )
    assert found.returncode != 0
    assert not target.exists()
    report("supply chain", f"{name} with other bytes than the lock says", "refused")
