"""The sections `batch`, `workers`, `start` and `memory`: what a deployment is planned with."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.load.errors import LoadError
from tests.load.figures import Key
from tests.load.flat import sized
from tests.load.machine import Cores
from tests.load.measures import measure_closed, measure_single, warm
from tests.load.procfs import pss_bytes
from tests.load.quota import limited
from tests.load.servers import service
from tests.load.stage import Stage, Target
from tests.load.traffic import Traffic
from tests.processes import workers_of

__all__ = ["measure_batch", "measure_memory", "measure_start", "measure_workers"]

_TRACKS = 50_000
_SMALL = 1_000
_TRAFFIC = Traffic(first=0, users=10_000, tracks=_TRACKS)
_BATCH = 100
_MANY_WORKERS = 4
_SHARE = 0.25
_EACH = ", a quarter of a core each"
_STARTS = 2  # of each kind


def measure_batch(stage: Stage) -> None:
    """Measure one POST /next of 100 items against one call for one."""
    store = sized(stage, _TRACKS)
    directory = _directory(stage, "batch")
    with service(stage.cores.service, directory, store) as server:
        target = Target("POST /next", server, _TRAFFIC, store)
        warm(stage, target)
        one, many = _TRAFFIC.requests(5_000), _TRAFFIC.batches(500, _BATCH)
        for _ in range(stage.pace.rounds):
            measure_single(stage, "batch", target, one, "1 item")
            measure_single(stage, "batch", target, many, f"{_BATCH} items")
    stage.results.ratio(
        f"a batch of {_BATCH}: p50, against one call",
        Key("batch", "POST /next", f"{_BATCH} items", "p50"),
        Key("batch", "POST /next", "1 item", "p50"),
        more=False,
    )


def measure_workers(stage: Stage) -> None:
    """Measure two workers against one, as they are and with a part of a core for each.

    With four cores, two are theirs alone. With fewer they share with Redis and the load,
    which then bound the throughput. With a quarter of a core for each worker there is enough for
    all, and what is measured is whether workers stand in each other's way.
    """
    store = sized(stage, _TRACKS)
    with ExitStack() as stack:
        targets = []
        for workers in (1, 2):
            cores = _worker_cores(stage.cores, workers)
            directory = _directory(stage, f"workers-{workers}")
            running = stack.enter_context(service(cores, directory, store, workers=workers))
            targets.append(Target(_workers(workers), running, _TRAFFIC, store))
        for target in targets:
            # Each worker warms up with about half of what it is asked.
            for _ in range(2):
                warm(stage, target)
        for _ in range(stage.pace.rounds):
            for target in targets:
                measure_closed(stage, "workers", target, 32)
        _compare_workers(stage, "")
        try:
            for _ in range(stage.pace.rounds):
                for target in targets:
                    small = replace(target, name=target.name + _EACH)
                    pid = target.server.pid
                    with limited(workers_of(pid) or [pid], _SHARE):
                        measure_closed(stage, "workers", small, 32)
        except LoadError as error:
            stage.complain(f"workers{_EACH}: not measured: {error}")
        else:
            _compare_workers(stage, _EACH)


def _compare_workers(stage: Stage, condition: str) -> None:
    one, two = _workers(1) + condition, _workers(2) + condition
    for metric, what, more in (
        ("rate", "throughput", True),
        ("processor", "processor time of an answer", False),
    ):
        stage.results.ratio(
            f"{two}: {what}, against 1",
            Key("workers", two, "32 connections", metric),
            Key("workers", one, "32 connections", metric),
            more=more,
        )


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _worker_cores(cores: Cores, workers: int) -> frozenset[int]:
    if workers == 1:
        return cores.service
    return frozenset(sorted(cores.all)[:2])


def measure_start(stage: Stage) -> None:
    """Measure the time from a start to its first good answer, by where the table is."""
    large = stage.pace.tracks
    for _ in range(_STARTS):
        for tracks in (_SMALL, large):
            store = sized(stage, tracks)
            directory = _directory(stage, f"start-{tracks}")
            for place in ("Redis", "the local cache"):  # the first start fills the cache
                with service(stage.cores.service, directory, store) as server:
                    seconds = server.seconds
                key = Key("start", f"{tracks:,} tracks", f"from {place}", "time")
                stage.results.add(key, "s", seconds)
                stage.say(f"start: {tracks:,} tracks from {place}: {seconds:.2f} s")
            shutil.rmtree(directory)
    for place in ("Redis", "the local cache"):
        stage.results.ratio(
            f"start with {large:,} tracks from {place}, against {_SMALL:,}",
            Key("start", f"{large:,} tracks", f"from {place}", "time"),
            Key("start", f"{_SMALL:,} tracks", f"from {place}", "time"),
            more=False,
        )


def measure_memory(stage: Stage) -> None:
    """Measure the memory of a large table, less that of a small one, in 1 and 4 workers."""
    for workers in (1, _MANY_WORKERS):
        used = {tracks: _memory(stage, workers, tracks) for tracks in (_SMALL, stage.pace.tracks)}
        table = used[stage.pace.tracks] - used[_SMALL]
        name = _workers(workers)
        for metric, value in (("all", used[stage.pace.tracks]), ("table", table)):
            key = Key("memory", name, f"{stage.pace.tracks:,} tracks", metric)
            stage.results.add(key, "MiB", value / 2**20)
        stage.say(f"memory: {name}: the table takes {table / 2**20:,.0f} MiB")
    load = f"{stage.pace.tracks:,} tracks"
    stage.results.ratio(
        f"table memory of {_MANY_WORKERS} workers, against 1",
        Key("memory", _workers(_MANY_WORKERS), load, "table"),
        Key("memory", _workers(1), load, "table"),
        more=False,
    )


def _memory(stage: Stage, workers: int, tracks: int) -> int:
    """Return the bytes of a service, once they no longer change."""
    store = sized(stage, tracks)
    directory = _directory(stage, f"memory-{workers}-{tracks}")
    with service(stage.cores.all, directory, store, workers=workers) as server:
        used = [pss_bytes(server.pid)]
        until = time.monotonic() + 60
        while time.monotonic() < until:
            time.sleep(0.3)
            used.append(pss_bytes(server.pid))
            if len(used) > 5 and max(used[-5:]) - min(used[-5:]) < 1 << 20:
                break
        return used[-1]


def _directory(stage: Stage, name: str) -> Path:
    directory = stage.directory / name
    directory.mkdir(exist_ok=True)
    return directory
