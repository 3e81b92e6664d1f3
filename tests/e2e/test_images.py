"""What the containers run, without containers."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.processes import serve

ROOT = Path(__file__).parents[2]


def test_the_health_check_asks_where_the_service_listens() -> None:
    written = re.search(r"HEALTHCHECK [^\n]*\n +CMD (.*)", (ROOT / "Dockerfile").read_text())
    assert written
    _, *arguments = json.loads(written[1])

    def healthy(port: str) -> bool:
        variables = os.environ | {"RECSVC_PORT": port}
        command = [sys.executable, *arguments]
        return not subprocess.run(
            command, env=variables, capture_output=True, check=False
        ).returncode

    with tempfile.TemporaryDirectory() as name, serve(Path(name)) as served:
        port = served.url.rpartition(":")[2]
        assert healthy(port)
    assert not healthy(port)


@pytest.mark.parametrize(
    ("said", "status", "trained", "ended"),
    [
        ("live      0123456789ab, made today", 0, False, 0),
        ("no table is published yet", 1, True, 0),
        ("", 1, False, 1),  # Redis does not answer
    ],
)
def test_compose_trains_only_when_no_table_is_live(
    tmp_path: Path, said: str, status: int, trained: bool, ended: int
) -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["precompute"]
    command = [*service["entrypoint"], *(line.replace("$$", "$") for line in service["command"])]
    for name, text in {
        "recsvc": f"echo '{said}'; exit {status}",
        "precompute": f'echo "$1" >> {tmp_path}/called',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(command, env=variables, check=False).returncode == ended
    called = tmp_path / "called"
    wanted = ["demo-log", "train", "publish"] if trained else []
    assert (called.read_text().split() if called.exists() else []) == wanted
