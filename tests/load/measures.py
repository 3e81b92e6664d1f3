"""The measurements that sections are made of: each notes its figures on the stage."""

import time

import numpy as np
from redis import Redis

from recsvc.redis.keys import Keys
from tests.load import wrk
from tests.load.figures import Key
from tests.load.generator import Load, Outcome, closed_loop, open_loop
from tests.load.procfs import cpu_seconds, tree
from tests.load.stage import Stage, Target

__all__ = ["measure_closed", "measure_open", "measure_single", "peak", "warm"]

_OPEN_CONNECTIONS = 64
_VARIETY = 20_000  # different requests of an open loop
_WARMING = 50_000  # requests at most


def warm(stage: Stage, target: Target) -> None:
    """Ask about each track once, as far as the time allows, so that caches are filled."""
    requests = target.traffic.each_track_once(_WARMING)
    load = Load(target.address, requests, 16)
    closed_loop(load, count=len(requests), seconds=3 * stage.pace.seconds)


def measure_closed(
    stage: Stage, section: str, target: Target, connections: int, seconds: int | None = None
) -> None:
    """Measure a closed loop: rate, latency, and the processor time of an answer.

    That is the service's alone, and with what its Redis used.
    """
    load = f"{connections} connections" if connections > 1 else "1 connection"
    what = f"{section}: {target.name}, {load}"

    def measure() -> tuple[wrk.Closed, float, float]:
        before, recorded = _used(target), _recorded(target)
        found = wrk.run(
            target.server.port,
            target.traffic,
            connections=connections,
            seconds=seconds or stage.pace.seconds,
            seed=time.monotonic_ns() % 1_000_000,
            scripts=stage.directory,
        )
        after = _used(target)
        _check(stage, what, target, found.answers - found.failed, found.failed, recorded)
        own, both = (late - early for late, early in zip(after, before, strict=True))
        return found, own / found.answers, both / found.answers

    found, own, both = stage.steadily(measure)
    for metric, unit, value in (
        ("rate", "answers/s", found.rate),
        ("p50", "ms", found.p50 * 1e3),
        ("p99", "ms", found.p99 * 1e3),
        ("processor", "us/answer", own * 1e6),
        ("with Redis", "us/answer", both * 1e6),
    ):
        stage.results.add(Key(section, target.name, load, metric), unit, value)
    stage.say(f"{what}: {found.rate:,.0f} answers/s, p50 {found.p50 * 1e3:.3f} ms")


def measure_open(stage: Stage, section: str, target: Target, rate: float, name: str) -> None:
    """Measure an open loop at a fixed rate, which `name` calls."""
    what = f"{section}: {target.name}, {name} ({rate:,.0f}/s)"

    def measure() -> Outcome:
        requests = target.traffic.requests(_VARIETY, seed=time.monotonic_ns() % 1_000_000)
        recorded = _recorded(target)
        load = Load(target.address, requests, _OPEN_CONNECTIONS)
        found = open_loop(load, rate=rate, seconds=stage.pace.seconds)
        _check(stage, what, target, len(found.latencies) - found.failed, found.failed, recorded)
        return found

    found = stage.steadily(measure)
    figures = [("offered", "requests/s", rate)]
    figures += [(f"p{p:g}", "ms", found.percentile(p) * 1e3) for p in (50, 90, 99, 99.9)]
    if len(found.late):
        late = float(np.percentile(found.late, 99))
        figures.append(("generator late, p99", "ms", late * 1e3))
        if late > found.percentile(99) / 2:
            stage.complain(f"{what}: the load itself was late, by {late * 1e3:.0f} ms at p99")
    for metric, unit, value in figures:
        stage.results.add(Key(section, target.name, name, metric), unit, value)
    p50, p99 = found.percentile(50) * 1e3, found.percentile(99) * 1e3
    stage.say(f"{what}: p50 {p50:.3f}, p99 {p99:.3f} ms")


def measure_single(
    stage: Stage, section: str, target: Target, requests: list[bytes], load: str
) -> None:
    """Measure the latency of some requests, one after the other over one connection."""

    def measure() -> Outcome:
        return closed_loop(Load(target.address, requests, 1), seconds=stage.pace.seconds)

    found = stage.steadily(measure)
    what = f"{section}: {target.name}, {load}"
    _check(stage, what, target, 0, found.failed, 0)
    p50 = found.percentile(50) * 1e3
    stage.results.add(Key(section, target.name, load, "p50"), "ms", p50)
    stage.say(f"{what}: p50 {p50:.3f} ms")


def peak(stage: Stage, target: Target) -> float:
    """Return the answers a second at 32 connections, measured now if they were not before."""
    key = Key("closed", target.name, "32 connections", "rate")
    if key not in stage.results.figures:
        measure_closed(stage, "closed", target, 32)
    return stage.results.figures[key].median


def _used(target: Target) -> tuple[float, float]:
    """Return the processor seconds used so far: by a target, and together with its Redis."""
    own = cpu_seconds(*tree(target.server.pid))
    if target.store is None:
        return own, own
    with Redis.from_url(target.store.url) as store:
        return own, own + cpu_seconds(int(store.info("server")["process_id"]))


def _recorded(target: Target) -> int:
    """Return how many events the target has ever written."""
    if target.store is None:
        return 0
    with Redis.from_url(target.store.url) as store:
        name = Keys(target.store.prefix).events(0)
        return int(store.xinfo_stream(name)["entries-added"]) if store.exists(name) else 0


def _check(
    stage: Stage, what: str, target: Target, answers: int, failed: int, recorded: int
) -> None:
    """Complain of calls that failed, and of answers that left no event.

    Those were degraded: they are cheap, and would flatter the service.
    """
    if failed:
        stage.complain(f"{what}: {failed} calls failed")
    if target.store is not None:
        missing = answers - (_recorded(target) - recorded)
        if missing > 0:
            stage.complain(f"{what}: {missing} of {answers} answers were degraded")
