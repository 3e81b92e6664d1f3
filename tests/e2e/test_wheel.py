"""The built wheel: what people install."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    output = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", output, ROOT],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (path,) = output.glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_module_and_script_is_in_it(wheel: zipfile.ZipFile) -> None:
    packed = set(wheel.namelist())
    for base, package in ((ROOT / "src", "recsvc"), (ROOT, "precompute")):
        files = [p for p in (base / package).rglob("*") if p.suffix in {".py", ".lua"}]
        assert files
        assert {p.relative_to(base).as_posix() for p in files} <= packed
    assert {"recsvc/redis/claim.lua", "recsvc/redis/finish.lua"} <= packed
    assert not [name for name in packed if name.startswith(("tests", "docs", ".venv"))]


def test_serving_needs_nothing_that_trains(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith("/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    needed = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert needed
    heavy = ("torch", "pyarrow", "scipy", "matplotlib")
    assert not [r for r in needed if r.startswith(heavy)]
    assert metadata["License-Expression"] == "Apache-2.0"


def test_both_commands_are_installed(wheel: zipfile.ZipFile) -> None:
    (name,) = (n for n in wheel.namelist() if n.endswith("/entry_points.txt"))
    text = wheel.read(name).decode()
    assert "recsvc = recsvc.cli:app" in text
    assert "precompute = precompute.cli:app" in text
