"""Runs the application under uvicorn, in this process or in several."""

import logging
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from recsvc.api.pooling import sharing
from recsvc.errors import RecsvcError
from recsvc.listening import authority, bound, doors, for_several

__all__ = ["run"]

_PAUSE_SECONDS = 3.0  # between two tries to start a worker that cannot start

_log = logging.getLogger(__name__)


def run(
    host: str,
    port: int,
    workers: int,
    say: Callable[[str], None],
    figures: Path,
    keys: Callable[[], str],
) -> None:
    """Serve until interrupted; `say` is told how to call the service once it answers.

    Several workers share their figures in the directory `figures`. `keys` tells which keys are
    let in: a worker that starts while the file of them is damaged gets to know so.

    uvicorn raises the signal that stopped it again, so this may end in `KeyboardInterrupt`.
    """
    config = uvicorn.Config(
        "recsvc.app:create_app" if workers == 1 else _Application(keys),
        factory=True,
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http="recsvc.protocol:GuardedProtocol",
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=2048,
        timeout_graceful_shutdown=3,
    )
    # A descriptor a connection: as many as may be had, or slow callers could use them up.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    threading.Thread(target=_announce, args=(host, port, say), daemon=True).start()
    with ExitStack() as stack:
        if workers == 1:
            server = uvicorn.Server(config)
            server.run([stack.enter_context(door) for door in doors(bound(host, port))])
            failed = not server.started
        else:
            stack.enter_context(sharing(figures))
            sockets = stack.enter_context(for_several(host, port))
            failed = _Workers(config, sockets, keys).run_all()
    if failed:
        raise RecsvcError("the service could not start; its log says why")


class _Application:
    """Makes the application in a worker, with the keys of the moment at which that was started.

    All that it needs is imported there, where the worker can already say that it lives.
    """

    def __init__(self, keys: Callable[[], str]) -> None:
        self._keys = keys

    def __call__(self) -> object:
        from recsvc import worker  # noqa: PLC0415

        return worker.make(self._keys())

    def __reduce__(self) -> tuple[type["_Application"], tuple[Callable[[], str]]]:
        """Say how it is made in a worker, to which it goes pickled."""
        return _Application, (partial(str, self._keys()),)


class _Workers(Multiprocess):
    """Several workers, none of which hears a Ctrl-C.

    A terminal sends it to all; one that is still importing would end in a traceback. The
    supervisor hears it too and ends them with SIGTERM, as it does in every other case.
    """

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], keys: Callable[[], str]
    ) -> None:
        super().__init__(config, sockets)
        self._keys = keys
        self._served = self._failed = False
        self._tried = 0.0  # when a worker was replaced

    def run_all(self) -> bool:
        """Serve until told to stop; tell whether it was because no worker could start."""
        # It is started with the first worker, and unblocks what is blocked then.
        resource_tracker.ensure_running()
        self.run()
        return self._failed

    def init_processes(self) -> None:
        """Start all workers."""
        with self._starting():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that have died; one that could not start, after a pause.

        uvicorn itself would end the service then. But a file that a worker reads at its start
        may be damaged for a while, and the others have long read it and serve.
        """
        self._keys()  # they are looked at all the time, or it would keep what was taken away
        with self._starting():
            for place, worker in enumerate(self.processes):
                if not self._lives(worker):
                    self._replace(place, worker)
                if self.should_exit.is_set():
                    return

    def handle_signals(self) -> None:
        """Do what signals ask for; some of them start workers."""
        with self._starting():
            super().handle_signals()

    def _lives(self, worker: Process) -> bool:
        if worker.is_alive(timeout=self.config.timeout_worker_healthcheck):
            self._served = self._served or worker.is_ready()
            return True
        if worker.exitcode is None:  # it hangs
            worker.kill()
            worker.join()
        return False

    def _replace(self, place: int, worker: Process) -> None:
        if (worker.exitcode or 0) > 0:  # by itself, and not by a signal
            if not self._served:
                _log.error("worker %s could not start, and no other has: the end", worker.pid)
                self._failed = True
                self.should_exit.set()
                return
            if time.monotonic() - self._tried < _PAUSE_SECONDS:
                return
        _log.warning("worker %s has ended (%s); it is replaced", worker.pid, worker.exitcode)
        self._tried = time.monotonic()
        self.processes[place] = Process(self.config, self.sockets)
        self.processes[place].start()

    @contextmanager
    def _starting(self) -> Iterator[None]:
        with _deaf_to_interrupts():
            yield
        for process in self.processes:
            # The worker's end of the pipe by which it is asked whether it lives. As long as it is
            # open here too, one that is killed when it has just been asked is waited for 5 s.
            process.child_conn.close()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Block SIGINT: children started meanwhile keep it blocked, here it comes afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _announce(host: str, port: int, say: Callable[[str], None]) -> None:
    address = f"http://{authority(host, port)}"
    for _ in range(600):
        with suppress(OSError), socket.create_connection((host, port), timeout=1):
            say(f"recsvc answers on {address}; its documentation is at {address}/docs")
            say(f"""try: curl -d '{{"track": 10, "time": 0.3}}' {address}/next/1""")
            return
        time.sleep(0.1)
