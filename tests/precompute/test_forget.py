"""What a listener who asked to be forgotten leaves in a log: nothing from before."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from precompute import log
from precompute.errors import LogError
from precompute.evaluation import events


def heard(at: int, user: int, **more: Any) -> dict[str, Any]:
    return {"timestamp": at, "user": user, "track": at, "time": 0.5, "message": "next", **more}


def forget(at: int, user: int) -> dict[str, Any]:
    return {"timestamp": at, "message": "forget", "user": user}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def left(found: log.Log | events.Events) -> list[tuple[int, int]]:
    return sorted(zip(found.user.tolist(), found.timestamp.tolist(), strict=True))


LINES = (
    heard(1, 7),
    heard(2, 8),
    heard(3, 7, message="last"),
    forget(3, 7),
    heard(4, 7),
    heard(5, 2**63 - 1),
    forget(6, 2**63 - 1),
    forget(2, 7),
)
LEFT = [(7, 4), (8, 2)]


@pytest.mark.parametrize("broken", [False, True])
def test_events_up_to_the_request_are_dropped(tmp_path: Path, broken: bool) -> None:
    path = write(tmp_path / "log.jsonl", *LINES)
    if broken:  # then the block is read line by line
        path.write_text(path.read_text() + "no event\n")
    found = log.read(path)
    assert left(found) == LEFT
    assert (found.forgotten, found.broken, found.lines) == (3, int(broken), 8 + broken)


def test_a_request_drops_what_an_older_export_holds(tmp_path: Path) -> None:
    write(tmp_path / "2.jsonl", heard(1, 7), heard(2, 8))
    write(tmp_path / "1.jsonl", forget(3, 7))
    assert left(log.read(tmp_path)) == [(8, 2)]
    assert left(events.read(tmp_path)) == [(8, 2)]


def test_a_report_drops_them_too(tmp_path: Path) -> None:
    assert left(events.read(write(tmp_path / "log.jsonl", *LINES))) == LEFT


def test_parquet(tmp_path: Path) -> None:
    names = ("timestamp", "user", "track", "time", "message")
    rows = [{name: line.get(name) for name in names} for line in LINES]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    assert left(log.read(tmp_path / "log.parquet")) == LEFT


def test_when_nobody_is_left_there_is_no_event(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", heard(1, 7), forget(3, 7))
    for read in (log.read, events.read):
        with pytest.raises(LogError, match="no event"):
            read(path)


def test_a_request_without_a_listener_is_broken(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", heard(1, 7), {"timestamp": 3, "message": "forget"})
    assert log.read(path).broken == 1
