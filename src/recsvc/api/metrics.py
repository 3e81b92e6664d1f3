"""What the service counts, in the format of Prometheus.

Each answer is counted twice, so counting is adding to a dictionary; what Prometheus wants to
see is made of that when it asks.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsvc.api.pooling import Pooling
from recsvc.redis.watch import Loaded
from recsvc.service import Answer

__all__ = ["Measured", "Metrics"]

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


class _Durations:
    """How many responses took how long."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.total = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Return the bounds as Prometheus writes them, with how many took at most that long."""
        found, below = [], 0
        for bound, count in zip((*map(str, _SECONDS), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


class Metrics(Collector):
    """Counts one worker's work; also the `Observer` of the service."""

    def __init__(self) -> None:
        self._collectors: list[Collector] = []
        self._answers: dict[tuple[str, str, bool, bool], int] = {}
        self._responses: dict[tuple[str, int], _Durations] = {}
        self._turned_away: Counter[int] = Counter()
        self._store_faults = self._swaps = self._refusals = 0
        self._loaded = 0.0
        self._tracks = 0
        self._pooling = Pooling(self)

    # --- what is counted --------------------------------------------------------------------

    def answered(self, answer: Answer) -> None:
        """Count an answer."""
        kind = (answer.policy, answer.recommender, answer.fallback, answer.degraded)
        self._answers[kind] = self._answers.get(kind, 0) + 1

    def store_failed(self, why: str) -> None:
        """Count a fault of the session store."""
        self._store_faults += 1

    def swapped(self, loaded: Loaded) -> None:
        """Count a table put into service."""
        self._swaps += 1
        self._loaded = loaded.since
        self._tracks = len(loaded.source.table)

    def refused(self, version: str, reason: str) -> None:
        """Count a table that was not put into service."""
        self._refusals += 1

    def responded(self, route: str, status: int, started: float) -> None:
        """Count a response; `started` is from `time.perf_counter`."""
        seconds = time.perf_counter() - started
        durations = self._responses.get((route, status))
        if durations is None:
            durations = self._responses[route, status] = _Durations()
        durations.counts[bisect_left(_SECONDS, seconds)] += 1
        durations.total += seconds

    def turned_away(self, status: int, count: int) -> None:
        """Count requests that were refused before they were read, or for want of room."""
        self._turned_away[status] += count

    # --- what is shown ----------------------------------------------------------------------

    def add(self, collector: Collector) -> None:
        """Show the figures of `collector` too."""
        self._collectors.append(collector)

    def pool(self, directory: Path | None) -> Pooling:
        """Show the figures of all workers that share `directory`, from now on."""
        self._pooling = Pooling(self, directory)
        return self._pooling

    def render(self) -> bytes:
        """Return all figures as text."""
        return self._pooling.render()

    def collect(self) -> Iterator[Metric]:
        """Yield this worker's figures."""
        for collector in self._collectors:
            yield from collector.collect()
        yield self._answer_counts()
        yield CounterMetricFamily(
            "recsvc_store_faults", "Calls that the session store failed.", self._store_faults
        )
        yield self._response_times()
        yield self._refused_requests()
        yield CounterMetricFamily("recsvc_table_swaps", "Tables put into service.", self._swaps)
        yield CounterMetricFamily(
            "recsvc_table_refusals", "Tables refused as damaged.", self._refusals
        )
        yield GaugeMetricFamily(
            "recsvc_table_loaded_timestamp_seconds",
            "When the table was put into service.",
            self._loaded,
        )
        yield GaugeMetricFamily("recsvc_table_tracks", "Tracks in the table.", self._tracks)
        yield CounterMetricFamily(
            "recsvc_cpu_seconds", "Processor time of the workers.", time.process_time()
        )

    def _answer_counts(self) -> Metric:
        labels = ["policy", "recommender", "fallback", "degraded"]
        family = CounterMetricFamily("recsvc_answers", "Tracks served.", labels=labels)
        for kind, count in self._answers.items():
            family.add_metric([str(value) for value in kind], count)
        return family

    def _response_times(self) -> Metric:
        family = HistogramMetricFamily(
            "recsvc_request_seconds",
            "Time from a request to its response.",
            labels=["route", "status"],
        )
        for (route, status), durations in self._responses.items():
            family.add_metric([route, str(status)], durations.buckets(), durations.total)
        return family

    def _refused_requests(self) -> Metric:
        about = "Requests refused before they were read, or for want of room."
        family = CounterMetricFamily("recsvc_turned_away", about, labels=["status"])
        for status, count in self._turned_away.items():
            family.add_metric([str(status)], count)
        return family


class Measured:
    """Times every response, by its route's pattern and not by its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note when its response begins."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.responded(_route(scope), message["status"], started)
            await send(message)

        await self.app(scope, receive, note)


def _route(scope: Scope) -> str:
    """Return the pattern that a path was found by; "unknown" when there was none.

    Whatever it is, the paths that a caller may think of make no new figures.
    """
    if "route" in scope:
        return str(scope["route"].path)
    if "endpoint" not in scope:
        return "unknown"
    # Starlette, which serves these, tells no pattern.
    return "/openapi.json" if scope["path"] == "/openapi.json" else "/docs/files"
