"""The lock of the serving install, and how the containers are held."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = [ROOT / "requirements" / name for name in ("serve.txt", "build.txt")]
HEAVY = {"torch", "pyarrow", "scipy", "matplotlib", "safetensors"}


def locked(path: Path) -> dict[str, tuple[Version, int]]:
    """The packages of a lock, each with its version and how many hashes it may have."""
    entries = re.split(r"\n(?=\S)", path.read_text().replace("\\\n", ""))
    found: dict[str, tuple[Version, int]] = {}
    for entry in entries:
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", entry)
        assert match, entry
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)
        found[canonicalize_name(match[1])] = Version(match[2]), len(hashes)
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_everything_is_locked_by_hash_and_no_index_is_named(path: Path) -> None:
    assert all(hashes for _, hashes in locked(path).values())
    assert not re.search(r"://|index-url|find-links|trusted-host", path.read_text())


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (LOCKS[0], PROJECT["project"]["dependencies"]),
        (LOCKS[1], PROJECT["build-system"]["requires"]),
    ],
    ids=["serve", "build"],
)
def test_the_lock_is_of_what_the_project_asks_for(path: Path, wanted: list[str]) -> None:
    versions = locked(path)
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not locked: make lock"
        assert versions[name][0] in requirement.specifier, f"{name} is locked too old: make lock"


def test_nothing_that_trains_is_locked() -> None:
    assert not HEAVY & set(locked(LOCKS[0]))


def test_the_image_installs_by_hash() -> None:
    steps = re.split(r"\nFROM ", (ROOT / "Dockerfile").read_text())
    serve = next(step for step in steps if " AS serve" in step)
    installs = re.findall(r"pip install [^\n&]*", serve)
    assert len(installs) == 2
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    assert re.search(r"^USER [1-9]", serve, re.MULTILINE)


def test_every_container_is_held() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert set(services) == {"valkey", "precompute", "recsvc"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(str(service["user"]).split(":")[0]) > 0
        assert all(not mount.startswith("/") for mount in service["volumes"])
