"""Records on disk: whatever a crash leaves, what was whole is read and nothing else."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.errors import SpoolFullError
from recsvc.outage.spool import SpoolFile, frame, read_records, scan


def payloads(path: Path) -> list[bytes]:
    return [entry.payload for entry in read_records(path)]


def test_what_was_appended_is_read_back_with_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    file = SpoolFile(path, 10_000)
    file.append([b"a", b""])
    file.append([b"c" * 300])
    file.sync()
    assert [(e.number, e.payload) for e in read_records(path)] == [
        (1, b"a"),
        (2, b""),
        (3, b"c" * 300),
    ]
    assert read_records(path)[-1].end == file.size == path.stat().st_size
    assert read_records(tmp_path / "missing") == []


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.data())
def test_a_file_cut_anywhere_keeps_every_record_before_the_cut(
    written: list[bytes], draws: st.DataObject
) -> None:
    data = b"".join(frame(i, p) for i, p in enumerate(written))
    ends = [entry.end for entry in scan(data)]
    cut = draws.draw(st.integers(0, len(data)))
    assert [e.payload for e in scan(data[:cut])] == written[: sum(end <= cut for end in ends)]


def test_a_flipped_bit_ends_the_file_there(tmp_path: Path) -> None:
    data = b"".join(frame(i, bytes([i]) * 20) for i in range(5))
    ends = [0, *(entry.end for entry in scan(data))]
    rng = Random(1)
    for _ in range(2000):
        bit = rng.randrange(len(data) * 8)
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        whole = sum(end <= bit // 8 for end in ends) - 1
        assert [e.number for e in scan(bytes(damaged))] == list(range(whole))


def test_a_torn_end_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    first = SpoolFile(path, 10_000)
    first.append([b"one", b"two"])
    first.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    second = SpoolFile(path, 10_000)
    second.append([b"three"])
    assert [(e.number, e.payload) for e in read_records(path)] == [(1, b"one"), (2, b"three")]


def test_it_is_bounded_and_a_refused_batch_leaves_nothing(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool", 100)
    file.append([b"x" * 50])
    with pytest.raises(SpoolFullError):
        file.append([b"y", b"z" * 30])
    assert payloads(file.path) == [b"x" * 50]
    file.append([b"w" * 10])
    assert [e.number for e in read_records(file.path)] == [1, 2]


def test_a_disk_that_is_full_leaves_no_half_record(tmp_path: Path) -> None:
    import resource
    import signal

    file = SpoolFile(tmp_path / "spool", 10_000)
    file.append([b"whole"])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.size + 40, limit[1]))
    try:
        with pytest.raises(OSError, match="large"):
            file.append([b"x" * 100])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    file.append([b"again"])
    assert payloads(file.path) == [b"whole", b"again"]


def test_it_is_read_in_pieces_and_cleared(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool", 10_000)
    file.append([bytes([i]) * 100 for i in range(10)])
    found, at = [], 0
    while entries := file.read(at, 250):
        assert len(entries) == 2
        found += entries
        at = entries[-1].end
    assert [e.number for e in found] == list(range(1, 11))
    assert len(file.read(0, 1)) == 1  # a record longer than the piece is read all the same
    file.clear()
    assert file.read(0, 1000) == []
    file.append([b"more"])
    assert [e.number for e in file.read(0, 1000)] == [11]
    assert file.path.stat().st_mode & 0o077 == 0
