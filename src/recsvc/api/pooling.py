"""The figures of all workers as one.

Whichever worker is asked must answer for all of them. So each writes its figures to a file of
its own every second, and whoever is asked adds up its own, as they are now, and the others'.
`prometheus_client` has a way of its own for this, which puts every figure into shared memory
as it is counted; that makes counting several times dearer, and knows no figures that are
made when they are asked for.

Counters go on when a worker has died, for Prometheus must not see them fall; they begin anew
with the service. Gauges are those of workers that live.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Pooling", "shared_directory", "sharing"]

_VARIABLE = "RECSVC_SHARED_FIGURES"  # tells a worker the directory; nobody else is to set it

_EVERY = 1.0  # seconds between two writings
_WINDOW = 10.0  # seconds, at least, that the processor time of a request is taken over
_CPU, _REQUESTS = "recsvc_cpu_seconds_total", "recsvc_request_seconds_count"

# How a gauge of several workers becomes one figure; those not named here are alike in all.
_GAUGES: dict[str, Callable[[Iterable[float]], float]] = {
    "recsvc_spool_bytes": sum,
    "recsvc_spool_behind_bytes": sum,
    "recsvc_table_loaded_timestamp_seconds": min,
}

Figures = dict[str, Any]
"""`process`: whose they are. `families`: name, type, help, and samples of each."""


@contextmanager
def sharing(directory: Path) -> Iterator[None]:
    """Let the workers that are started meanwhile find each other's figures in `directory`."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    os.environ[_VARIABLE] = str(directory)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        shutil.rmtree(directory, ignore_errors=True)


def shared_directory() -> Path | None:
    """Return where this worker finds the figures of the others, None if there are none."""
    named = os.environ.get(_VARIABLE)
    return Path(named) if named else None


class Pooling(Collector):
    """One worker's figures and, through files in `directory`, those of the others.

    Without a directory there are no others.
    """

    def __init__(self, own: Collector, directory: Path | None = None) -> None:
        self.own = own
        self.directory = directory
        self._marks = [self._mark(), self._mark()]

    def render(self) -> bytes:
        """Return everything as text, in the format of Prometheus."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the figures of all workers together, and what only all together have."""
        families = _merge([self._figures(), *self._others()])
        yield from families
        yield GaugeMetricFamily(
            "recsvc_cpu_seconds_per_request",
            "Processor time of the workers for each response, lately.",
            self._cpu_per_request(families),
        )

    async def run(self) -> None:
        """Write this worker's figures for the others, every second; cancel to stop."""
        try:
            while True:
                self._write()
                await asyncio.sleep(_EVERY)
        finally:
            self._write()

    def _figures(self) -> Figures:
        families = [
            (f.name, f.type, f.documentation, [(s.name, s.labels, s.value) for s in f.samples])
            for f in self.own.collect()
        ]
        return {"process": os.getpid(), "families": families}

    def _write(self) -> None:
        if self.directory is None:
            return
        path = self.directory / f"{os.getpid()}.json"
        partial = path.with_suffix(".partial")
        with suppress(OSError):  # a full disk costs figures, and nothing else
            partial.write_bytes(orjson.dumps(self._figures()))
            partial.replace(path)

    def _others(self) -> list[Figures]:
        if self.directory is None:
            return []
        own = f"{os.getpid()}.json"
        paths = [path for path in self.directory.glob("*.json") if path.name != own]
        return [orjson.loads(path.read_bytes()) for path in sorted(paths)]

    def _cpu_per_request(self, families: Iterable[Metric]) -> float:
        now = self._mark(families)
        before = self._marks[0]
        if now[0] - self._marks[1][0] > _WINDOW:
            self._marks = [self._marks[1], now]
        requests = now[2] - before[2]
        return (now[1] - before[1]) / requests if requests > 0 else 0.0

    def _mark(self, families: Iterable[Metric] | None = None) -> tuple[float, float, float]:
        """Return the time, and how much processor time and how many responses there were."""
        samples = [s for f in families or _merge([self._figures()]) for s in f.samples]
        cpu = sum(sample.value for sample in samples if sample.name == _CPU)
        requests = sum(sample.value for sample in samples if sample.name == _REQUESTS)
        return time.monotonic(), cpu, requests


def _merge(workers: Sequence[Figures]) -> list[Metric]:
    merged: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
    for figures in workers:
        alive = _lives(figures["process"])
        for name, kind, about, samples in figures["families"]:
            merged.setdefault(name, Metric(name, about, kind))
            if alive or kind != "gauge":
                for sample, labels, value in samples:
                    found = values.setdefault(name, {})
                    found.setdefault((sample, tuple(sorted(labels.items()))), []).append(value)
    for name, family in merged.items():
        pool = _GAUGES.get(name, max) if family.type == "gauge" else sum
        for (sample, labelled), each in values.get(name, {}).items():
            family.add_sample(sample, dict(labelled), pool(each))
    return list(merged.values())


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
