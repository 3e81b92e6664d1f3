"""The stage of the faults: a store, a proxy before it, and a service that knows only the proxy."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsvc.redis.embedded import embedded_server
from recsvc.table import Table
from tests.processes import Served, look, recsvc, serve, workers_of, write_artifact
from tests.support import small_table
from tests.torture.checks import Verdict, judge, stored_events
from tests.torture.players import Log, playing
from tests.torture.proxy import Proxy, proxy

__all__ = ["TABLE", "Stage", "pid_of_store", "stage"]

TABLE = small_table(5000, users=tuple(range(400)))


@dataclass(slots=True)
class Stage:
    """A running service whose store can be harmed; `store_url` goes around the proxy."""

    directory: Path
    store_url: str
    proxy: Proxy
    served: Served
    logs: Path
    workers_count: int = 1
    log: Log = field(default_factory=Log)

    @property
    def store(self) -> int:
        """The process id of the store."""
        return pid_of_store(self.directory / "store")

    def workers(self) -> list[int]:
        """The process ids of the workers, when there are several."""
        return workers_of(self.served.process.pid)

    def logged(self) -> list[str]:
        """What the service has written to its log."""
        return self.logs.read_text().splitlines()

    def metric(self, name: str) -> float:
        """Return a figure, summed over its labels."""
        lines = look(f"{self.served.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def cpu(self) -> float:
        """Return the seconds of CPU time that the service and its workers have used."""
        ticks = 0
        for pid in (self.served.process.pid, *self.workers()):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    async def until(self, condition: Callable[[], bool], seconds: float = 15.0) -> float:
        """Wait for a condition; return the seconds that it took."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        while not await asyncio.to_thread(condition):
            assert loop.time() < started + seconds, "it did not happen in time"
            await asyncio.sleep(0.01)
        return loop.time() - started

    async def settled(self) -> None:
        """Wait until everything spooled is in the store."""
        for _ in range(self.workers_count):
            await self.until(lambda: self.metric("recsvc_spool_behind_bytes") == 0)
            if self.workers_count > 1:
                await asyncio.sleep(1.1)  # the figures of the others may be a second old

    async def verdict(self) -> Verdict:
        """Compare what players were told with what is in the store."""
        return judge(self.log, await stored_events(self.store_url))

    @asynccontextmanager
    async def playing(self, **how: Any) -> AsyncIterator[None]:
        """Have players play inside, and end with what they do at the end."""
        async with playing(self.served.url, self.log, **how):
            yield


def pid_of_store(directory: Path) -> int:
    """Return the process id of the embedded server that has its data there; 0 for none."""
    try:
        return int((directory / "valkey" / "valkey.pid").read_text())
    except (FileNotFoundError, ValueError):  # ValueError: it is being written
        return 0


@contextmanager
def stage(table: Table = TABLE, *, workers: int = 1, **settings: object) -> Iterator[Stage]:
    """Set a store, a proxy and a service up."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", table)
        with (
            embedded_server(directory / "store") as url,
            proxy(Path(url.removeprefix("unix://"))) as between,
            (directory / "log.txt").open("wb") as logs,
        ):
            published = recsvc(
                directory, "publish", "--force", directory / "artifact", redis_url=url
            )
            assert published.returncode == 0, published.stderr
            with serve(
                directory,
                stderr=logs,
                redis_url=between.url,
                table_poll=0.5,
                workers=workers,
                **settings,
            ) as served:
                yield Stage(directory, url, between, served, directory / "log.txt", workers)
