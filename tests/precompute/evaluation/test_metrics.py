"""Metrics of listeners, by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from precompute.evaluation.events import read
from precompute.evaluation.metrics import METRICS, ListenerMetrics, measure


def measured(path: Path, records: list[dict[str, Any]]) -> ListenerMetrics:
    (path / "e.jsonl").write_bytes(b"\n".join(map(orjson.dumps, records)))
    return measure(read(path / "e.jsonl", "x"))


def heard(
    user: int, session: str, timestamp: int, time: float, treatment: str | None, **more: Any
) -> dict[str, Any]:
    return {
        "timestamp": timestamp,
        "user": user,
        "session": session,
        "track": timestamp,
        "time": time,
        "message": "next",
        "experiments": {"x": treatment} if treatment else {},
        **more,
    }


def test_metrics_by_hand(tmp_path: Path) -> None:
    metrics = measured(
        tmp_path,
        [
            heard(3, "a", 1, 1.0, "T2", latency=0.01),
            heard(3, "a", 2, 0.5, "T2", latency=0.03),
            heard(3, "a", 3, 0.0, "T2", message="last"),
            heard(3, "b", 9, 1.0, "T2", latency=0.02),
            heard(8, "c", 1, 0.25, "T1"),
        ],
    )
    assert metrics.users.tolist() == [3, 8]
    assert [metrics.treatments[code] for code in metrics.treatment] == ["T2", "T1"]
    expected: dict[str, list[float]] = {
        "time": [2.5, 0.25],
        "sessions": [2, 1],
        "mean_request_latency": [0.02, np.nan],
        "mean_tracks_per_session": [2.0, 1.0],
        "mean_time_per_session": [1.25, 0.25],
    }
    assert set(METRICS) == set(expected)
    for metric, values in expected.items():
        np.testing.assert_allclose(metrics.values[metric], values)
        assert np.isnan(metrics.before[metric]).all()


def test_what_came_before_is_the_pre_period(tmp_path: Path) -> None:
    metrics = measured(
        tmp_path,
        [
            heard(1, "a", 1, 1.0, None),
            heard(1, "b", 2, 0.5, None),
            heard(1, "c", 3, 0.9, "C"),
            heard(1, "d", 4, 0.1, None),  # after it began: neither before nor in it
            heard(2, "e", 3, 0.3, "T"),
            heard(5, "f", 1, 1.0, None),  # never in the experiment
        ],
    )
    assert metrics.users.tolist() == [1, 2]
    np.testing.assert_allclose(metrics.before["mean_time_per_session"], [0.75, np.nan])
    np.testing.assert_allclose(metrics.values["mean_time_per_session"], [0.9, 0.3])


def test_listeners_with_two_treatments_are_left_out(tmp_path: Path) -> None:
    metrics = measured(
        tmp_path,
        [
            heard(1, "a", 1, 1.0, "C"),
            heard(1, "b", 2, 1.0, "T"),
            heard(2, "c", 1, 0.5, "T"),
            heard(3, "d", 1, 0.5, "C"),
        ],
    )
    assert metrics.users.tolist() == [2, 3]
    assert metrics.contaminated == 1


def test_an_experiment_that_is_not_there_has_nobody(tmp_path: Path) -> None:
    metrics = measured(tmp_path, [heard(1, "a", 1, 1.0, None)])
    assert metrics.users.tolist() == []
    assert metrics.treatments == ()
