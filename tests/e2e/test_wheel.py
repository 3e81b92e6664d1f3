"""The built wheel: what people install."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(directory: Path, **variables: str) -> zipfile.ZipFile:
    """Build the wheel from a copy: what is installed here is not to be compiled anew."""
    source, output = directory / "source", directory / "wheel"
    source.mkdir()
    for name in ("src", "precompute"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", output, source],
        env={**os.environ, **variables},
        check=True,
        capture_output=True,
        timeout=120,
    )
    (path,) = output.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_what_is_in_c_is_compiled_for_every_python_of_this_platform(
    wheel: zipfile.ZipFile,
) -> None:
    assert wheel.filename is not None
    assert "-py3-none-" in wheel.filename
    assert not wheel.filename.endswith("-any.whl")
    assert "recsvc/recommenders/_compiled.so" in wheel.namelist()


def test_without_a_compiler_there_is_a_wheel_for_every_platform(tmp_path: Path) -> None:
    found = build(tmp_path, CC="false")
    assert found.filename is not None
    assert found.filename.endswith("-py3-none-any.whl")
    assert not [name for name in found.namelist() if name.endswith(".so")]


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
