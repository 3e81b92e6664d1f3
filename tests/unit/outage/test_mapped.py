"""Records written by way of mapped memory: read by others at any time, safe from a kill."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsvc.errors import SpoolFullError
from recsvc.outage.mapped import MappedFile
from recsvc.outage.spool import read_records

_LARGE = 1 << 18  # more than is mapped at once


def payloads(path: Path) -> list[bytes]:
    return [entry.payload for entry in read_records(path)]


def test_what_was_added_is_read_back_with_its_numbers_while_it_is_in_use(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "recent", 10_000)
    assert payloads(file.path) == []
    file.add(b"a")
    file.append([b"", b"c" * 300])
    file.append([])
    expected = [(1, b"a"), (2, b""), (3, b"c" * 300)]
    assert [(e.number, e.payload) for e in read_records(file.path)] == expected
    assert read_records(file.path)[-1].end == file.size < file.path.stat().st_size
    file.close()
    assert [(e.number, e.payload) for e in read_records(file.path)] == expected
    assert file.path.stat().st_size == file.size  # nothing is left of what was mapped ahead


@settings(max_examples=50, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.sampled_from([0, 1, 40, 4_080, 4_096, 70_000, 300_000]), max_size=4),
        max_size=8,
    )
)
def test_records_of_any_length_follow_one_another(
    batches: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = MappedFile(tmp_path_factory.mktemp("mapped") / "recent", 1 << 24)
    written = list[bytes]()
    for sizes in batches:
        records = [bytes([1 + len(written) % 250]) * size for size in sizes]
        file.append(records)
        written += records
        assert payloads(file.path) == written
    file.close()
    again = MappedFile(file.path, 1 << 24)
    again.add(b"last")
    assert payloads(file.path) == [*written, b"last"]
    assert read_records(file.path)[-1].number == len(written) + 1
    again.close()


def test_cleared_it_is_empty_and_numbers_go_on(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "recent", 1 << 20)
    for _ in range(3):
        file.append([b"x" * 1000] * 300)
        file.clear()
        assert payloads(file.path) == []
    file.add(b"y")
    assert [(e.number, e.payload) for e in read_records(file.path)] == [(901, b"y")]
    file.close()


def test_it_is_bounded_and_a_refused_batch_leaves_nothing(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "recent", 100)
    file.add(b"x" * 50)
    with pytest.raises(SpoolFullError):
        file.append([b"y", b"z" * 30])
    file.add(b"w" * 10)
    assert [(e.number, len(e.payload)) for e in read_records(file.path)] == [(1, 50), (2, 10)]
    assert file.path.stat().st_size <= 100
    file.close()


def test_a_torn_end_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    first = MappedFile(tmp_path / "recent", 10_000)
    first.append([b"one", b"two"])
    first.close()
    with first.path.open("r+b") as file:
        file.truncate(first.path.stat().st_size - 1)
    second = MappedFile(first.path, 10_000)
    second.add(b"three")
    assert [(e.number, e.payload) for e in read_records(first.path)] == [(1, b"one"), (2, b"three")]
    second.close()


def test_what_was_added_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from recsvc.outage.mapped import MappedFile\n"
        "file = MappedFile(Path(sys.argv[1]), 1 << 24)\n"
        "for number in range(5000): file.add(b'%d' % number * 50)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "recent"
    done = subprocess.run([sys.executable, "-c", script, path], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert payloads(path) == [b"%d" % number * 50 for number in range(5000)]
    assert path.stat().st_size > _LARGE
    assert path.stat().st_mode & 0o777 == 0o600
