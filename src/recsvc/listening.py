"""The sockets that callers connect to, of one worker or of several."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from recsvc.errors import RecsvcError

__all__ = ["OwnDoors", "authority", "bound", "doors", "for_several", "free_port"]

_DOORS = 16


def authority(host: str, port: int) -> str:
    """Write an address as a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_port(host: str, port: int) -> int:
    """Return the port, and for 0 one that is free.

    Raises `RecsvcError` if the address cannot be listened on.
    """
    with bound(host, port) as listener:
        found: int = listener.getsockname()[1]
        return found


def bound(host: str, port: int, *, beside: bool = False) -> socket.socket:
    """Return a socket that may listen on an address; `beside` others of this user that may too.

    Raises `RecsvcError` if it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        (*_, address), *_ = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if beside:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            stack.pop_all()
            return listener
    except OSError as error:
        raise RecsvcError(f"cannot listen on {authority(host, port)}: {error.strerror}") from error


def doors(listener: socket.socket) -> list[socket.socket]:
    """Return a listening socket several times over.

    In a turn of the event loop libuv accepts one connection of each. With one of them, whoever
    is new waits for seconds behind those who are connected already, when these keep it busy.
    """
    return [listener, *(listener.dup() for _ in range(_DOORS - 1))]


class OwnDoors(list[socket.socket]):
    """What several workers are given to listen on: in each of them it becomes its own `doors`.

    So Linux spreads connections evenly. Of a socket that all share, whoever wakes up first takes
    most connections, and they stay: two workers often had 32 and none.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._address = host, port

    def __reduce__(self) -> tuple[Callable[[str, int], list[socket.socket]], tuple[str, int]]:
        """Say how it is made in a worker, to which it goes pickled."""
        return _own_doors, self._address


def _own_doors(host: str, port: int) -> list[socket.socket]:
    return doors(bound(host, port, beside=True))


@contextmanager
def for_several(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Return what several workers listen on, which no other service can do meanwhile.

    Raises `RecsvcError` if another one does so already, or is about to.
    """
    with ExitStack() as stack:
        if sys.platform != "linux":
            yield [stack.enter_context(door) for door in doors(bound(host, port))]
            return
        lock = stack.enter_context(socket.socket(socket.AF_UNIX))
        try:
            lock.bind(
                f"\0recsvc {authority(host, port)}"
            )  # a name that is free again with the process
        except OSError as error:
            raise RecsvcError(
                f"cannot listen on {authority(host, port)}: {error.strerror}"
            ) from error
        yield OwnDoors(host, port)
