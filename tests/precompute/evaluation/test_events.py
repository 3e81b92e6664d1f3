"""Reading events: sessions, treatments, and lines that are none."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from precompute.errors import LogError
from precompute.evaluation.events import Events, read

MINUTE = 60_000


def event(timestamp: int, user: int, **more: Any) -> dict[str, Any]:
    usual = {"track": 1, "time": 0.5, "message": "next", "recommendation": 2}
    return {"timestamp": timestamp, "user": user} | usual | more


def load(path: Path, records: list[dict[str, Any]], experiment: str | None = None) -> Events:
    file = path / "events.jsonl"
    file.write_bytes(b"\n".join(map(orjson.dumps, records)))
    return read(file, experiment)


def test_columns_by_listener_and_time(tmp_path: Path) -> None:
    events = load(
        tmp_path,
        [
            event(5, 9, track=3, time=0.25, propensity=0.125, latency=0.002),
            event(7, 4, track=8, message="last", recommendation=None, propensity=None),
            event(6, 4, track=7, time=1, recommendation=-5),
        ],
    )
    assert events.user.tolist() == [4, 4, 9]
    assert events.timestamp.tolist() == [6, 7, 5]
    assert events.track.tolist() == [7, 8, 3]
    assert events.time.tolist() == [1.0, 0.5, 0.25]
    assert events.is_last.tolist() == [False, True, False]
    assert events.recommendation.tolist() == [-1, -1, 2]
    np.testing.assert_array_equal(events.propensity, [np.nan, np.nan, 0.125])
    np.testing.assert_array_equal(events.latency, [np.nan, np.nan, 0.002])
    assert events.session.tolist() == [0, 0, 1]
    assert events.treatment.tolist() == [-1, -1, -1]


def test_sessions_without_a_name_end_with_last_or_silence(tmp_path: Path) -> None:
    times = [0, 1, 2, 31, 62]
    messages = ["next", "last", "next", "next", "next"]
    records = [
        event(t * MINUTE, 1, message=message) for t, message in zip(times, messages, strict=True)
    ]
    assert load(tmp_path, records).session.tolist() == [0, 0, 1, 1, 2]


def test_sessions_with_a_name_may_overlap(tmp_path: Path) -> None:
    names = ["a", "b", "a", "b", None, None, "a"]
    records = [event(t, 1, session=name, track=t) for t, name in enumerate(names)]
    events = load(tmp_path, [*records, event(9, 2, session="a")])
    together = {
        number: events.track[events.session == number].tolist() for number in set(events.session)
    }
    assert sorted(together.values()) == [[0, 2, 6], [1], [1, 3], [4, 5]]
    assert (np.diff(events.session) >= 0).all()


def test_treatments_are_found_in_natural_order(tmp_path: Path) -> None:
    records = [
        event(1, 1, experiments={"x": "T10", "y": "A"}),
        event(2, 2, experiments={"x": "T2"}),
        event(3, 3, experiments={"y": "B"}),
        event(4, 4, experiments={}),
        event(5, 5, experiments=None),
    ]
    events = load(tmp_path, records, "x")
    assert events.treatments == ("T2", "T10")
    assert events.treatment.tolist() == [1, 0, -1, -1, -1]
    assert load(tmp_path, records, "nothing").treatments == ()


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"{}", b'{"timestamp":1,"user":null,"track":1,"time":1,"message":""}']
)
def test_what_is_no_event_is_told(tmp_path: Path, line: bytes) -> None:
    good = orjson.dumps(event(1, 1))
    (tmp_path / "e.jsonl").write_bytes(good + b"\n\n" + line + b"\n")
    with pytest.raises(LogError, match=r"e\.jsonl:3: not an event"):
        read(tmp_path / "e.jsonl")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time", 50),
        ("time", -3),
        ("time", "nan"),
        ("time", True),
        ("time", None),
        ("user", "1"),
        ("user", 2**63),
        ("track", -1),
        ("track", 1.5),
        ("recommendation", "x"),
        ("recommendation", 2**63),
        ("timestamp", 1e300),
        ("timestamp", -1),
        ("timestamp", "2026-01-01"),
        ("message", "skip"),
        ("message", []),
        ("session", [1]),
        ("propensity", "0.5"),
        ("latency", "nan"),
    ],
)
def test_a_field_out_of_its_range_is_named(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(LogError, match=rf"e.*\.jsonl:2: not an event: {name} is "):
        load(tmp_path, [event(1, 1), event(2, 1) | {name: value}])


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_bytes(b"\xef\xbb\xbf" + orjson.dumps(event(1, 1)))
    assert read(tmp_path / "e.jsonl").user.tolist() == [1]


def test_compressed_lines_are_read_and_what_has_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(orjson.dumps(event(1, 1))))
    assert read(tmp_path).user.tolist() == [1]
    (tmp_path / "bad.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(LogError, match=r"bad\.jsonl\.gz cannot be read"):
        read(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(LogError, match=r"a\.parquet is Parquet; a report reads JSON lines"):
        read(tmp_path)


def test_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_bytes(b"\n")
    with pytest.raises(LogError, match="no event"):
        read(tmp_path / "e.jsonl")
