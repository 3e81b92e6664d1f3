"""The service as nobody, without a capability, on a root that cannot be written to."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.processes import BIN, write_artifact
from tests.support import small_table

NOBODY = 65534
DATA = Path("/mnt")

# What a container runtime does, by hand: a mount namespace of its own with a root that is
# only readable, a /tmp, and one place for data. An interpreter under a closed home directory
# is laid open inside the namespace alone.
CONTAIN = """
set -e
mount --bind "$1" /mnt
if [ -n "$3" ]; then
    mount --bind "$2" /media
    mount -t tmpfs -o mode=755 none "$3"
    mkdir -p "$2"
    mount --bind /media "$2"
    mount -o remount,ro "$3"
fi
mount --bind / / && mount -o remount,ro,bind /
mount -t tmpfs none /tmp
shift 3
cd /mnt
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all -- "$@"
"""


def contained(data: Path, *command: object) -> list[str]:
    """A command line that runs `command` so, with `data` at /mnt."""
    base = Path(sys.base_prefix)
    closed = next((p for p in reversed(base.parents) if not p.stat().st_mode & 0o001), "")
    arguments = map(str, (data, base, closed, *command))
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", CONTAIN, "sh", *arguments]


def environment(**settings: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECSVC_")}
    stated = {"data_dir": DATA, "log_level": "warning", **settings}
    return kept | {f"RECSVC_{name.upper()}": str(value) for name, value in stated.items()}


def run(data: Path, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        contained(data, *command),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("only root may make a mount namespace")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(40))
        for path in (directory, directory / "artifact", *directory.glob("artifact/*")):
            os.chown(path, NOBODY, NOBODY)
        tried = run(directory, "true")
        if tried.returncode != 0:
            pytest.skip(f"no mount namespace to be had here: {tried.stderr.strip()}")
        installed = run(directory, BIN / "recsvc", "--help")
        if installed.returncode != 0:  # as below a directory that only its owner may enter
            pytest.skip(f"nobody may not run what is installed here: {installed.stderr.strip()}")
        yield directory


def test_nothing_but_the_data_can_be_written(data: Path) -> None:
    for place, status in (
        (DATA, 0),
        (Path("/"), 1),
        (BIN, 1),
        (Path("/etc"), 1),
        (Path("/usr"), 1),
    ):
        assert run(data, "touch", place / "written").returncode == status, place
    assert (data / "written").stat().st_uid == NOBODY


def test_it_serves_all_the_same(data: Path) -> None:
    published = run(data, BIN / "recsvc", "publish", "--force", DATA / "artifact")
    assert published.returncode == 0, published.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        contained(data, BIN / "recsvc", "serve"),
        env=environment(port=port),
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert process.poll() is None, "it ended before it was up"
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/health/ready").status_code == 200:
                    break
            time.sleep(0.05)
        answer = httpx.post(f"{url}/next/1", json={"track": 3, "time": 0.5}).json()
        assert (answer["degraded"], answer["recommender"]) == (False, "contextual")
        status = Path(f"/proc/{process.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == [str(NOBODY)] * 4
        assert (int(fields["CapEff"], 16), int(fields["CapBnd"], 16)) == (0, 0)
        assert fields["NoNewPrivs"] == "1"
    finally:
        process.terminate()
        assert process.wait(timeout=15) is not None
