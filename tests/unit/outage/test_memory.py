"""What is remembered of listeners, within a worker and between workers."""

import resource
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.outage.memory import Memory
from recsvc.session import Last

NAMES = ("contextual", "personal")


def memory(directory: Path | None = None, listeners: int = 64) -> Memory:
    return Memory(directory, listeners=listeners, ttl=60, names=NAMES)


def hear(kept: Memory, user: int, *tracks: int, now: float = 1000.0) -> None:
    place = kept.place(user, now)
    for track in tracks:
        kept.note(place, now, track, track, "contextual", new=False)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=300), st.integers(0, 2**63 - 1))
def test_it_never_forgets_a_track_of_a_session(tracks: list[int], user: int) -> None:
    kept = memory()
    hear(kept, user, *tracks)
    place = kept.place(user, 1000.0)
    assert all(kept.heard(place, track) for track in tracks)
    assert kept.answers(place) == len(tracks)


@pytest.mark.parametrize(("length", "most"), [(50, 0.002), (150, 0.02), (300, 0.07)])
def test_it_takes_few_other_tracks_for_heard(length: int, most: float) -> None:
    kept, rng, wrong, asked = memory(), Random(1), 0, 0
    for user in range(40):
        tracks = rng.sample(range(100_000), length)
        hear(kept, user, *tracks)
        place, heard = kept.place(user, 1000.0), set(tracks)
        others = [t for t in range(0, 100_000, 200) if t not in heard]
        wrong += sum(kept.heard(place, track) for track in others)
        asked += len(others)
    assert wrong / asked < most


def test_a_session_ends_by_a_new_one_by_request_and_by_idleness() -> None:
    kept = memory()
    hear(kept, 1, 10, 11)
    place = kept.place(1, 1000.0)
    kept.note(place, 1000.0, 12, 13, "personal", new=True, spent=True)
    assert [kept.heard(place, t) for t in (10, 12, 13)] == [False, True, True]
    assert (kept.answers(place), kept.last(place)) == (1, Last("personal", True))
    assert kept.began(place) == 1_000_000
    kept.forget(place, 1001.5)
    assert (kept.heard(place, 12), kept.answers(place), kept.last(place)) == (False, 0, Last(None))
    assert kept.began(place) == 1_001_500
    hear(kept, 1, 20, now=1002.0)
    assert kept.began(place) == 1_001_500
    hear(kept, 1, 14)
    assert kept.heard(kept.place(1, 1059.0), 14)
    assert not kept.heard(kept.place(1, 1062.0), 14)


def test_the_idlest_listener_without_anything_pending_makes_room() -> None:
    kept = memory(listeners=4)
    for user, now in ((1, 1000.0), (2, 1001.0), (3, 1002.0), (4, 1003.0)):
        hear(kept, user, user, now=now)
    kept.pend(kept.place(1, 1003.0), 1003.0)
    hear(kept, 5, 5, now=1004.0)  # takes the place of 2
    assert [kept.heard(kept.place(u, 1004.0), u) for u in (1, 3, 4, 5)] == [True] * 4
    place = kept.place(3, 1004.0)
    assert kept.holds(place, 3)
    assert not kept.holds(place, 2)
    assert not kept.heard(kept.place(2, 1004.0), 2)


def test_what_is_pending_is_counted_and_dated() -> None:
    kept = memory()
    place = kept.place(7, 1000.0)
    kept.learned(place)
    assert kept.pending(place) == 0
    kept.pend(place, 1000.5)
    kept.pend(place, 1010.0)
    assert (kept.pending(place), kept.pending_since(place)) == (2, 1000)
    kept.forget(place)
    kept.learned(place)
    assert kept.pending(place) == 1
    kept.settle(place)
    kept.pend(place, 1020.0)
    assert (kept.pending(place), kept.pending_since(place)) == (1, 1020)


def test_other_names_are_not_remembered(tmp_path: Path) -> None:
    kept = memory(tmp_path)
    place = kept.place(1, 1000.0)
    kept.note(place, 1000.0, 1, 2, "popular", new=True)
    assert kept.last(place) == Last(None)


def test_a_restart_forgets_nothing_and_damage_does_no_harm(tmp_path: Path) -> None:
    kept = memory(tmp_path)
    hear(kept, 1, 10)
    kept.close()
    again = memory(tmp_path)
    assert again.heard(again.place(1, 1000.0), 10)
    again.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(Random(1).randbytes(path.stat().st_size))
    damaged = memory(tmp_path)
    for user in range(200):
        place = damaged.place(user, 1000.0)
        assert damaged.last(place).recommender in (None, *NAMES)
        hear(damaged, user, 10)
        assert damaged.heard(place, 10)


def test_a_full_disk_costs_the_sharing_and_nothing_else(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        kept = memory(tmp_path, listeners=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    for user in range(1000):
        hear(kept, user, 10)
    assert kept.heard(kept.place(999, 1000.0), 10)
    kept.close()


CHILD = """
import sys
from pathlib import Path
from recsvc.outage.memory import Memory
from recsvc.session import Last
kept = Memory(Path(sys.argv[1]), listeners=64, ttl=60, names=("contextual", "personal"))
print("ready", flush=True)
sys.stdin.readline()
for i in range(2000):
    place = kept.place(1, 1000.0)
    with kept.turn(place):
        kept.pend(place, 1000.0)
"""


def test_workers_share_it_and_take_turns(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("go\n", timeout=20)
    kept = memory(tmp_path)
    assert kept.pending(kept.place(1, 1000.0)) == 4000
