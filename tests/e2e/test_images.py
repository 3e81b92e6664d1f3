"""What the containers run, without containers."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

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
