"""The last seconds, in two files that take turns."""

import resource
import signal
from pathlib import Path

from recsvc.outage.journal import Journal, read_journal
from recsvc.outage.spool import Entry


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def numbers(directory: Path) -> list[int]:
    return [entry.number for entry in oldest_first(directory)]


def oldest_first(directory: Path) -> list[Entry]:
    return [entry for entries in read_journal(directory) for entry in entries][::-1]


def test_the_last_seconds_are_kept_and_older_ones_go(tmp_path: Path) -> None:
    clock = Clock()
    journal = Journal(tmp_path, keep=5.0, most=10_000, clock=clock)
    for second in range(60):
        clock.now = second
        journal.append(b"%d" % second)
        kept = [int(entry.payload) for entry in oldest_first(tmp_path)]
        assert kept == list(range(kept[0], second + 1))
        assert min(second, 5) <= second - kept[0] <= 12
    assert numbers(tmp_path)[-1] == 60


def test_it_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    journal = Journal(tmp_path, keep=5.0, most=1000, clock=Clock())
    for i in range(500):
        journal.append(b"%100d" % i)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 501))
    assert len(kept) > 8
    journal.append(b"x" * 2000)  # too long for any file
    assert journal.failed == 1


def test_a_disk_that_fails_is_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path, keep=5.0, most=10_000_000, clock=Clock())
    journal.append(b"one")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        journal.append(b"x" * 300_000)  # more than there is room for so far
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    journal.append(b"two")
    assert journal.failed == 1
    assert [entry.payload for entry in oldest_first(tmp_path)] == [b"one", b"two"]
    journal.close()


def test_records_that_came_together_are_kept_as_if_one_by_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path, keep=5.0, most=1000, clock=Clock())
    for i in range(50):
        journal.append_all([b"%100d" % (10 * i + j) for j in range(3)])
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 151))
    assert journal.failed == 0
    journal.append_all([b"x" * 2000, b"y"])
    assert journal.failed == 1
    assert oldest_first(tmp_path)[-1].payload == b"y"


def test_what_is_old_goes_also_where_nothing_is_added(tmp_path: Path) -> None:
    clock = Clock()
    journal = Journal(tmp_path, keep=5.0, most=10_000, clock=clock)
    journal.append(b"one")
    kept = []
    for second in (3, 6, 9, 12, 15):
        clock.now = second
        journal.tidy()
        kept.append(numbers(tmp_path))
    assert kept == [[1], [1], [1], [], []]
    assert b"one" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    journal.append(b"two")
    assert numbers(tmp_path) == [2]
