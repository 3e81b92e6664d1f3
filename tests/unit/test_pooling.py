"""The figures of several workers, as files and as one."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from recsvc.answer import Answer
from recsvc.api.metrics import Metrics
from recsvc.api.pooling import Pooling, shared_directory, sharing


class Figures(Collector):
    """A worker with three figures."""

    def __init__(self, answers: dict[str, float], spooled: float = 0.0, tracks: float = 7) -> None:
        self.answers = answers
        self.spooled = spooled
        self.tracks = tracks

    def collect(self) -> Iterator[Metric]:
        counted = CounterMetricFamily("recsvc_answers", "Tracks served.", labels=["policy"])
        for policy, count in self.answers.items():
            counted.add_metric([policy], count)
        yield counted
        yield GaugeMetricFamily("recsvc_spool_bytes", "Waiting.", self.spooled)
        yield GaugeMetricFamily("recsvc_table_tracks", "Tracks.", self.tracks)


def samples(text: bytes) -> dict[tuple[str, str], float]:
    return {
        (s.name, " ".join(s.labels.values())): s.value
        for family in text_string_to_metric_families(text.decode())
        for s in family.samples
    }


def written_by(process: int, worker: Figures, directory: Path) -> None:
    """Have a worker write its figures, as if it were another process."""

    async def briefly() -> None:
        task = asyncio.create_task(Pooling(worker, directory).run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(briefly())
    path = directory / f"{os.getpid()}.json"
    figures = orjson.loads(path.read_bytes()) | {"process": process}
    (directory / f"{process}.json").write_bytes(orjson.dumps(figures))
    path.unlink()


def test_counters_are_added_up_and_gauges_pooled(tmp_path: Path) -> None:
    written_by(os.getppid(), Figures({"a": 5, "b": 1}, spooled=100, tracks=8), tmp_path)
    found = samples(Pooling(Figures({"a": 2}, spooled=20), tmp_path).render())
    assert found["recsvc_answers_total", "a"] == 7
    assert found["recsvc_answers_total", "b"] == 1
    assert found["recsvc_spool_bytes", ""] == 120
    assert found["recsvc_table_tracks", ""] == 8


def test_what_a_dead_worker_counted_still_counts(tmp_path: Path) -> None:
    nobody = 2**22 + 1  # beyond the largest process id there can be
    written_by(nobody, Figures({"a": 5}, spooled=100, tracks=99), tmp_path)
    found = samples(Pooling(Figures({"a": 2}, spooled=20), tmp_path).render())
    assert found["recsvc_answers_total", "a"] == 7
    assert found["recsvc_spool_bytes", ""] == 20
    assert found["recsvc_table_tracks", ""] == 7


def test_alone_there_is_nothing_to_add(tmp_path: Path) -> None:
    assert samples(Pooling(Figures({"a": 2})).render())["recsvc_answers_total", "a"] == 2


def test_the_directory_is_there_while_it_is_shared(tmp_path: Path) -> None:
    directory = tmp_path / "figures" / "8000"
    directory.mkdir(parents=True)
    (directory / "1.json").write_text("left by a service that was killed")
    with sharing(directory):
        assert shared_directory() == directory
        assert list(directory.iterdir()) == []
    assert shared_directory() is None
    assert not directory.exists()


def answer(*, degraded: bool) -> Answer:
    return Answer(1, 2, "popular", 1.0, "ensemble", "v", "r", None, None, False, {}, degraded)


def test_what_the_service_counts() -> None:
    metrics = Metrics()
    for degraded in (True, False, False):
        metrics.answered(answer(degraded=degraded))
    metrics.store_failed("away")
    metrics.turned_away(503, 4)
    found = samples(metrics.render())
    assert found["recsvc_answers_total", "False False ensemble popular"] == 2
    assert found["recsvc_answers_total", "True False ensemble popular"] == 1
    assert found["recsvc_store_faults_total", ""] == 1
    assert found["recsvc_turned_away_total", "503"] == 4
    assert found["recsvc_cpu_seconds_total", ""] > 0


def test_response_times_are_a_histogram() -> None:
    metrics = Metrics()
    for seconds in (0.0, 0.0003, 0.15, 30.0):
        metrics.responded("/next/{user}", 200, time.perf_counter() - seconds)
    found = samples(metrics.render())
    buckets = {
        labels.split()[0]: value
        for (name, labels), value in found.items()
        if name == "recsvc_request_seconds_bucket"
    }
    assert (buckets["0.1"], buckets["0.25"], buckets["1.0"], buckets["+Inf"]) == (2, 3, 3, 4)
    assert found["recsvc_request_seconds_count", "/next/{user} 200"] == 4
    assert found["recsvc_request_seconds_sum", "/next/{user} 200"] == pytest.approx(30.15, abs=0.1)
    assert found["recsvc_cpu_seconds_per_request", ""] > 0
