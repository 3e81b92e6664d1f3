"""However the service ends, it leaves no process behind and loses no session."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import BIN, environment, free_port, recsvc, until, write_artifact
from tests.support import small_table

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks in /proc")


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(100))
        assert recsvc(directory, "publish", "--force", directory / "artifact").returncode == 0
        yield directory
        stop_what_is_left(directory)


def stop_what_is_left(directory: Path) -> None:
    """End a server that a failed test left behind, told by its command line."""
    with suppress(FileNotFoundError):
        left = server(directory)
        if str(directory).encode() in Path(f"/proc/{left}/cmdline").read_bytes():
            os.kill(left, signal.SIGTERM)
            until(lambda: left not in dict(processes()))


class Terminal:
    """The service in a process group of its own, as a shell starts it."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        port = str(free_port())
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RECSVC_")}
        self.url = f"http://127.0.0.1:{port}"
        self.output = directory / "output.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [Path(sys.executable).parent / "recsvc", "serve", *arguments],
                env=clean | {"RECSVC_DATA_DIR": str(directory), "RECSVC_PORT": port},
                cwd=directory,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self.is_ready)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        return answers(f"{self.url}/health/ready")

    def next(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.post(
            f"{self.url}/next/1", json={"track": 3, "time": 0.5}
        ).json()
        return answer

    def group(self) -> set[int]:
        """The processes of the group that live."""
        return {pid for pid, group in processes() if group == self.process.pid}


@contextmanager
def terminal(directory: Path, *arguments: str) -> Iterator[Terminal]:
    opened = Terminal(directory, *arguments)
    try:
        yield opened
    finally:
        if opened.process.poll() is None:
            os.killpg(opened.process.pid, signal.SIGKILL)
        opened.process.wait()


def processes() -> Iterator[tuple[int, int]]:
    """All living processes with their groups."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except (OSError, ValueError):
                continue
            if state != "Z":
                yield int(entry.name), int(group)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def server(directory: Path) -> int:
    return int((directory / "valkey" / "valkey.pid").read_text())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_reaches_all_and_leaves_none(directory: Path, workers: str) -> None:
    with terminal(directory, "--workers", workers) as opened:
        opened.next()
        store = server(directory)
        assert len(opened.group()) >= int(workers)
        os.killpg(opened.process.pid, signal.SIGINT)  # as a terminal does
        assert opened.process.wait(20) == 0, opened.output.read_text()
        # The resource tracker of multiprocessing ends by itself, once it sees this one gone.
        until(lambda: not opened.group(), 5)
        assert store not in dict(processes())
        assert "Traceback" not in opened.output.read_text()


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP])
def test_a_supervisor_that_terminates_it_gets_a_clean_end(
    directory: Path, asked: signal.Signals
) -> None:
    with terminal(directory) as opened:
        store = server(directory)
        opened.process.send_signal(asked)
        assert opened.process.wait(20) == 0
        assert opened.group() == set()
        assert store not in dict(processes())
        assert "Traceback" not in opened.output.read_text()


def test_a_hangup_that_is_ignored_stays_so(directory: Path) -> None:
    command = ["nohup", str(BIN / "recsvc"), "serve", "--port=0"]
    variables = environment(directory, log_level="error")
    with subprocess.Popen(command, env=variables, cwd=directory, stdout=subprocess.PIPE) as served:
        try:
            assert served.stdout is not None
            url = served.stdout.readline().split()[3].rstrip(b";").decode()
            served.send_signal(signal.SIGHUP)
            time.sleep(1)
            assert httpx.get(f"{url}/health/ready").status_code == 200
        finally:
            served.send_signal(signal.SIGINT)
            assert served.wait(20) == 0


def test_killed_outright_it_loses_no_session(directory: Path) -> None:
    with terminal(directory) as opened:
        first = opened.next()
        opened.process.kill()
    with terminal(directory) as opened:
        second = opened.next()
        assert (second["session"], second["position"]) == (first["session"], 1)
        store = server(directory)
        opened.process.send_signal(signal.SIGINT)
        assert opened.process.wait(20) == 0
    assert store not in dict(processes())


def test_workers_end_with_their_supervisor_even_if_it_is_killed(directory: Path) -> None:
    with terminal(directory, "--workers", "2") as opened:
        first = opened.next()
        store = server(directory)
        opened.process.kill()
        opened.process.wait(20)
        until(lambda: not opened.group(), 10)
        assert store not in dict(processes())
        assert "Traceback" not in opened.output.read_text()
    with terminal(directory, "--workers", "2") as opened:
        second = opened.next()
        assert (second["session"], second["position"]) == (first["session"], 1)


def test_a_port_in_use_is_an_error_and_leaves_none(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = recsvc(directory, "serve", "--port", port)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "recsvc answers on" not in done.stdout
    assert not (directory / "valkey" / "valkey.pid").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_it_says_where_it_answers_when_it_chose_the_port(directory: Path, workers: int) -> None:
    command = [str(BIN / "recsvc"), "serve", "--port=0", f"--workers={workers}"]
    variables = environment(directory, log_level="error")
    with subprocess.Popen(command, env=variables, cwd=directory, stdout=subprocess.PIPE) as served:
        try:
            assert served.stdout is not None
            url = served.stdout.readline().split()[3].rstrip(b";").decode()
            assert httpx.get(f"{url}/health/ready").status_code == 200
        finally:
            served.send_signal(signal.SIGINT)
            served.wait(20)


def test_two_services_cannot_have_workers_on_one_port(directory: Path) -> None:
    # At the same moment, so that neither finds the other listening.
    port = free_port()
    with ExitStack() as stack:
        commands = []
        for name in ("one", "two"):
            own = directory / name
            own.mkdir()
            output = stack.enter_context((own / "output.txt").open("wb"))
            variables = environment(own, port=port, workers=2)
            command = subprocess.Popen(
                [BIN / "recsvc", "serve"], env=variables, cwd=own, stdout=output, stderr=output
            )
            commands.append(command)
        try:
            until(lambda: any(command.poll() is not None for command in commands))
            until(lambda: answers(f"http://127.0.0.1:{port}/health/live"))  # the other one
            (ended,) = (command for command in commands if command.poll() is not None)
        finally:
            for command in commands:
                command.send_signal(signal.SIGINT)
                command.wait(20)
        refused = directory / ("one", "two")[commands.index(ended)] / "output.txt"
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in refused.read_text()
    assert "Traceback" not in refused.read_text()
