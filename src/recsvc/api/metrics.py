"""What the service counts, in the format of Prometheus."""

import time
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsvc.redis.watch import Loaded
from recsvc.service import Answer

__all__ = ["Measured", "Metrics"]

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """Counts one worker's work; also the `Observer` of the service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "recsvc_answers_total",
            "Tracks served.",
            ["policy", "recommender", "fallback", "degraded"],
            registry=self.registry,
        )
        self._store_faults = Counter(
            "recsvc_store_faults_total",
            "Calls that the session store failed.",
            registry=self.registry,
        )
        self._requests = Histogram(
            "recsvc_request_seconds",
            "Time from a request to its response.",
            ["route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._turned_away = Counter(
            "recsvc_turned_away_total",
            "Requests refused before they were read, or for want of room.",
            ["status"],
            registry=self.registry,
        )
        self._swaps = Counter(
            "recsvc_table_swaps_total", "Tables put into service.", registry=self.registry
        )
        self._refusals = Counter(
            "recsvc_table_refusals_total", "Tables refused as damaged.", registry=self.registry
        )
        self._loaded = Gauge(
            "recsvc_table_loaded_timestamp_seconds",
            "When the table was put into service.",
            registry=self.registry,
        )
        self._tracks = Gauge("recsvc_table_tracks", "Tracks in the table.", registry=self.registry)
        # Looking a label set up costs more than counting in it.
        self._answer_child = lru_cache(maxsize=256)(self._answers.labels)
        self._request_child = lru_cache(maxsize=1024)(self._requests.labels)
        self._turned_away_child = lru_cache(maxsize=16)(self._turned_away.labels)

    def answered(self, answer: Answer) -> None:
        """Count an answer."""
        self._answer_child(
            answer.policy, answer.recommender, answer.fallback, answer.degraded
        ).inc()

    def store_failed(self, why: str) -> None:
        """Count a fault of the session store."""
        self._store_faults.inc()

    def swapped(self, loaded: Loaded) -> None:
        """Count a table put into service."""
        self._swaps.inc()
        self._loaded.set(loaded.since)
        self._tracks.set(len(loaded.source.table))

    def refused(self, version: str, reason: str) -> None:
        """Count a table that was not put into service."""
        self._refusals.inc()

    def responded(self, route: str, status: int, started: float) -> None:
        """Count a response; `started` is from `time.perf_counter`."""
        self._request_child(route, status).observe(time.perf_counter() - started)

    def add(self, collector: Collector) -> None:
        """Show the figures of `collector` too."""
        self.registry.register(collector)

    def turned_away(self, status: int, count: int) -> None:
        """Count requests that were refused before they were read, or for want of room."""
        self._turned_away_child(status).inc(count)

    def render(self) -> bytes:
        """Return all figures as text."""
        return generate_latest(self.registry)


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
                route = getattr(scope.get("route"), "path", "unknown")
                self.metrics.responded(route, message["status"], started)
            await send(message)

        await self.app(scope, receive, note)
