"""What `make` makes of the settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "from recsvc.settings import read_settings as read; s = read(); "
    "print(s.host, s.port, s.data_dir, s.log_level)"
)


def demo(directory: Path, *, written: str | None = None, **variables: str) -> tuple[str, str]:
    """Run `make demo` without installing or training; return where it trains, what it serves."""
    programs = directory / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, line in {
        "python": ":",
        "precompute": 'echo "$@"',
        "recsvc": f"exec {sys.executable} -c '{SETTINGS}'",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    for name in ("pyproject.toml", "hatch_build.py", ".venv/demo"):
        (directory / name).touch()
    (directory / "Makefile").write_text((ROOT / "Makefile").read_text())
    if written is not None:
        (directory / ".env").write_text(written)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RECSVC_", "MAKE"))}
    done = subprocess.run(
        ["make", "--silent", "demo"],
        env=clean | variables,
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    first, *_, last = done.stdout.splitlines()
    return first.removeprefix("demo-log --output "), last


def test_the_demo_has_the_defaults(tmp_path: Path) -> None:
    assert demo(tmp_path) == ("data/demo", "127.0.0.1 8000 data warning")


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_the_demo_does_what_is_written_in_the_file(tmp_path: Path, quote: str) -> None:
    written = (
        f"RECSVC_HOST=::1\nRECSVC_PORT=9000\nRECSVC_DATA_DIR={quote}else/where{quote} # why\n"
        f"RECSVC_LOG_LEVEL={quote}error{quote}\n"
    )
    assert demo(tmp_path, written=written) == ("else/where/demo", "::1 9000 else/where error")


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    written = "RECSVC_PORT=9000\nRECSVC_DATA_DIR=there\nRECSVC_LOG_LEVEL=error\n"
    given = {"RECSVC_PORT": "9001", "RECSVC_DATA_DIR": "here", "RECSVC_LOG_LEVEL": "info"}
    assert demo(tmp_path, written=written, **given) == ("here/demo", "127.0.0.1 9001 here info")
