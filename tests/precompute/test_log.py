import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from precompute import log
from precompute.errors import LogError

GOOD: dict[str, object] = {
    "timestamp": 1_700_000_000_000,
    "user": 1,
    "track": 2,
    "time": 0.5,
    "message": "next",
    "recommendation": 3,
    "experiments": {"AA": "control"},
    "propensity": 0.25,
}


def write(path: Path, *events: dict[str, object] | str) -> Path:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_reads_the_columns_and_ignores_other_keys(tmp_path: Path) -> None:
    last = GOOD | {"message": "last", "recommendation": None, "time": 1, "user": 2**63 - 1}
    found = log.read(write(tmp_path / "log.jsonl", GOOD, last))
    assert found.timestamp.tolist() == [1_700_000_000_000] * 2
    assert found.user.tolist() == [1, 2**63 - 1]
    assert found.track.tolist() == [2, 2]
    assert found.time.tolist() == [0.5, 1.0]
    assert found.is_last.tolist() == [False, True]
    assert found.recommendation.tolist() == [3, -1]
    assert (found.lines, found.broken) == (2, 0)


BROKEN: dict[str, dict[str, object] | str] = {
    "cut": '{"timestamp": 1',
    "array": "[1, 2]",
    "no user": {k: v for k, v in GOOD.items() if k != "user"},
    "no time": GOOD | {"time": None},
    "time above one": GOOD | {"time": 1.01},
    "time below zero": GOOD | {"time": -0.1},
    "time not a number": json.dumps(GOOD | {"time": float("nan")}),
    "time a string": GOOD | {"time": "0.5"},
    "time a boolean": GOOD | {"time": True},
    "negative track": GOOD | {"track": -1},
    "track too large": GOOD | {"track": 2**63},
    "track far too large": GOOD | {"track": 2**70},
    "track a float": GOOD | {"track": 1.5},
    "user a boolean": GOOD | {"user": True},
    "unknown message": GOOD | {"message": "skip"},
    "message a number": GOOD | {"message": 1},
    "no timestamp": GOOD | {"timestamp": None},
    "negative timestamp": GOOD | {"timestamp": -1},
    "two on a line": json.dumps(GOOD) + json.dumps(GOOD),
    "not utf-8 by surrogate": '{"user": "\\ud800"}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_left_out_and_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "log.jsonl", GOOD, BROKEN[name], GOOD)
    found = log.read(path)
    assert (len(found), found.lines, found.broken) == (2, 3, 1)
    assert [(s.file, s.line) for s in found.samples] == [(str(path), 2)]


def test_line_numbers_count_blank_lines_and_earlier_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("precompute.lines.BLOCK_BYTES", 300)
    events: list[dict[str, object] | str] = [
        GOOD,
        "",
        GOOD,
        GOOD,
        GOOD,
        "broken",
        GOOD | {"time": 2},
        GOOD,
        GOOD,
    ]
    found = log.read(write(tmp_path / "log.jsonl", *events))
    assert [s.line for s in found.samples] == [6, 7]
    assert (len(found), found.lines) == (6, 8)


@pytest.mark.parametrize("more", [[], ["broken"]])
def test_a_broken_line_changes_nothing_about_the_others(tmp_path: Path, more: list[str]) -> None:
    odd = [{"recommendation": -5}, {"recommendation": -(2**63)}, {"time": 2**60 + 1}]
    path = write(tmp_path / "log.jsonl", GOOD, *[GOOD | fields for fields in odd], *more)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as some editors on Windows do
    found = log.read(path)
    assert (len(found), found.broken) == (3, 1 + len(more))
    assert found.recommendation.tolist() == [3, -1, -1]


def test_too_many_broken_lines_refuse_the_log(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", *[GOOD] * 5, *["broken"] * 11)
    with pytest.raises(LogError, match=r"11 of 16 lines .* 10 are allowed.*log.jsonl:6: not JSON"):
        log.read(path)
    assert log.read(path, log.Settings(broken_share=0.8)).broken == 11


def test_a_log_of_broken_lines_alone_says_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", *[GOOD | {"user": "1"}] * 5)
    reason = r"no event in the log: 5 of 5 lines are broken; the first is .*log\.jsonl:1: user is"
    with pytest.raises(LogError, match=reason):
        log.read(path)


def test_at_most_twenty_samples_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", GOOD, *["broken"] * 30)
    found = log.read(path, log.Settings(broken_always=30))
    assert (found.broken, len(found.samples)) == (30, 20)


def test_compressed_files_directories_and_parquet_read_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with gzip.open(folder / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps(GOOD))  # no newline at the end
    write(folder / "b.log", GOOD | {"user": 2})
    (folder / "notes.txt").write_text("not a log")
    rows = [GOOD | {"user": 3}, GOOD | {"user": 4, "time": 7.0}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "c.parquet")
    found = log.read(folder)
    assert found.user.tolist() == [1, 2, 3]
    assert [(s.file, s.line) for s in found.samples] == [(str(folder / "c.parquet"), 2)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_a_parquet_timestamp_is_read_as_milliseconds(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    [moment] = pa.array([GOOD["timestamp"]], pa.timestamp("ms")).to_pylist()
    moments = pa.array([moment, None], pa.timestamp(unit, zone))
    table = pa.Table.from_pylist([GOOD, GOOD]).set_column(0, "timestamp", moments)
    pq.write_table(table, tmp_path / "log.parquet")
    found = log.read(tmp_path / "log.parquet")
    assert found.timestamp.tolist() == [GOOD["timestamp"]]
    assert [(s.line, s.reason) for s in found.samples] == [
        (2, "timestamp is missing or not milliseconds")
    ]


def test_nan_in_parquet_is_as_good_as_null(tmp_path: Path) -> None:
    nothing = float("nan")
    rows = [GOOD | {"recommendation": 3.0, "user": 1.0}, GOOD | {"recommendation": nothing}]
    pq.write_table(
        pa.Table.from_pylist([*rows, GOOD | {"user": nothing}]), tmp_path / "log.parquet"
    )
    found = log.read(tmp_path / "log.parquet")
    assert found.recommendation.tolist() == [3, -1]
    assert [s.line for s in found.samples] == [3]


@pytest.mark.parametrize(
    ("name", "values"), [("message", [["next"]]), ("track", [1.5]), ("time", [{"seconds": 1}])]
)
def test_a_parquet_column_of_another_type_is_named(
    tmp_path: Path, name: str, values: list[object]
) -> None:
    pq.write_table(pa.table({k: [v] for k, v in GOOD.items()} | {name: values}), tmp_path / "a.pq")
    with pytest.raises(LogError, match=rf"a\.pq cannot be read: column {name} of type"):
        log.read(tmp_path / "a.pq")


def test_a_timestamp_in_float_milliseconds_is_rounded(tmp_path: Path) -> None:
    found = log.read(write(tmp_path / "log.jsonl", GOOD | {"timestamp": 1234.6}))
    assert found.timestamp.tolist() == [1235]
    assert found.timestamp.dtype == np.int64


def test_progress_adds_up_to_the_size_of_the_file(tmp_path: Path) -> None:
    path, seen = write(tmp_path / "log.jsonl", *[GOOD] * 100), list[int]()
    log.read(path, on_bytes=seen.append)
    assert sum(seen) == path.stat().st_size


def test_what_cannot_be_read_is_a_log_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.gz").write_bytes(b"not gzip")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    (tmp_path / "none.jsonl").touch()
    pq.write_table(pa.table({"user": [1]}), tmp_path / "columns.parquet")
    for name, reason in {
        "absent": "does not exist",
        "empty": "holds no log",
        "bad.gz": "cannot be read",
        "bad.parquet": "cannot be read",
        "none.jsonl": "no event",
        "columns.parquet": "no column timestamp, track",
    }.items():
        with pytest.raises(LogError, match=reason):
            log.read(tmp_path / name)
