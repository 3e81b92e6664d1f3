"""The compiled inference against the Python it stands for, and against nonsense."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmh3 import mmh3_x64_128_digest

from recsvc.evidence import MOST_HEARD, unpack
from recsvc.recommenders.compiled import library
from recsvc.recommenders.inference import infer
from recsvc.recommenders.native import Native
from recsvc.recommenders.source import Source
from recsvc.tracks import pack_tracks
from tests.inferring import inferring_table

ROOT = Path(__file__).parents[2]
UNKNOWN = 10**12
COUNT = 8

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")

Pair = tuple[Source, Source]
Report = tuple[int, float]


@cache
def pair(
    n: int = 300, d: int = 6, leaf: int = 8, discount: float = 0.8, first: int = 0, seed: int = 1
) -> Pair:
    """The same table twice: inferred by the compiled code, and by the Python."""
    table = inferring_table(
        n, d, seed=seed, first=first, artists=max(n // 7, 1), leaf=leaf, discount=discount
    )
    found = Source(table, f"v{n}.{d}.{seed}"), Source(table, f"v{n}.{d}.{seed}", compiled=False)
    assert found[1].native is None
    return found


def compiled(source: Source) -> Native:
    assert source.native is not None
    return source.native


def same(sources: Pair, data: bytes, report: Report, out: list[int], count: int = COUNT) -> bytes:
    """Infer both ways, and return what is to be kept after it has been found to be the same."""
    fast = compiled(sources[0]).infer(data, *report, pack_tracks(out), count)
    assert fast is not None
    slow = infer(sources[1], data, *report, pack_tracks(out), count)
    (told, kept), (expected, other) = fast, slow
    assert len(told) == len(expected)
    # Where rounding decides who comes first, either may.
    np.testing.assert_allclose(told.numbers[0], expected.numbers[0], rtol=1e-4, atol=1e-6)
    apart = np.abs(np.diff(expected.times, prepend=2.0, append=-1.0)) > 1e-4
    alone = apart[:-1] & apart[1:]
    alone[-1:] = False  # nor is it known who comes behind the last
    np.testing.assert_array_equal(told.tracks[alone], expected.tracks[alone])
    np.testing.assert_allclose(
        told.numbers[:, alone], expected.numbers[:, alone], rtol=1e-3, atol=1e-4
    )
    one, two = unpack(kept), unpack(other)
    assert one.belief is not None
    assert two.belief is not None
    np.testing.assert_allclose(one.belief.mean, two.belief.mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one.belief.covariance, two.belief.covariance, rtol=1e-3, atol=1e-4)
    assert (one.version, one.shortlist.age) == (two.version, two.shortlist.age)
    assert one.tracks.tolist() == two.tracks.tolist()
    assert one.times.tolist() == two.times.tolist()
    shared = set(one.shortlist.places.tolist()) & set(two.shortlist.places.tolist())
    assert len(shared) >= min(len(two.shortlist.places), 128) - 2  # who comes last, again
    plays = [dict(zip(e.shortlist.places, e.shortlist.plays, strict=True)) for e in (one, two)]
    assert all(plays[0][place] == plays[1][place] for place in shared)
    return kept


def test_it_was_compiled_when_this_was_installed() -> None:
    """Or all of this would test the Python against itself."""
    assert library() is not None
    assert pair()[0].native is not None


# Vectors that fill blocks of 32 just so, or not; 49 numbers is what is trained.
WIDE = [(300, d, 8) for d in (31, 32, 48, 63, 69)]

# --- the same answers ----------------------------------------------------------------------------

REPORTS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 299), st.sampled_from([0, 1, 7, UNKNOWN])),
        st.integers(0, 100).map(lambda time: time / 100),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(
    reports=REPORTS,
    size=st.sampled_from([(300, 6, 8), (37, 3, 16), (300, 17, 4), (5, 1, 8), (2000, 6, 16), *WIDE]),
    discount=st.sampled_from([0.8, 0.05, 0.0, 1.0]),
    first=st.sampled_from([0, 5, 10**15]),
)
def test_report_by_report(
    reports: list[tuple[int, float, bool]], size: tuple[int, int, int], discount: float, first: int
) -> None:
    sources = pair(*size, discount, first)
    data, out = b"", list[int]()
    for track, time, plays in reports:
        heard = track if track == UNKNOWN else first + track % size[0]
        data = same(sources, data, (heard, time), out)
        if plays:
            told, _ = infer(sources[1], data, heard, time, pack_tracks(out), COUNT)
            out = [*out, *told.tracks[:1].tolist()]


def test_a_session_longer_than_what_is_kept_of_it() -> None:
    sources, rng, data, out = pair(2000, 6, 16), np.random.default_rng(3), b"", list[int]()
    for step in range(MOST_HEARD + 30):
        track = int(rng.integers(2000))
        data = same(sources, data, (track, round(rng.random(), 2)), out)
        out = [*out, track, int(rng.integers(2000))] if step < 128 else out[-1:]
    assert len(unpack(data)) == MOST_HEARD


def test_a_catalogue_heard_to_its_end() -> None:
    sources, data = pair(37, 3, 16), b""
    for track in range(37):
        data = same(sources, data, (track, 0.6), [])
    assert len(infer(sources[0], data, 3, 0.5, b"", COUNT)[0]) == 0


@pytest.mark.parametrize("count", [1, 2, 64, 1000, 1900])
def test_as_many_as_are_asked_for(count: int) -> None:
    sources, data = pair(2000, 6, 16), b""
    for track, time in ((4, 0.9), (900, 0.2), (17, 0.7)):
        data = same(sources, data, (track, time), [], count)


# --- what it leaves to the Python ----------------------------------------------------------------


def test_evidence_of_another_model_is_left() -> None:
    (fast, _), (other, _) = pair(), pair(37, 3, 16)
    _, kept = infer(other, b"", 3, 0.9, b"", COUNT)
    assert compiled(fast).infer(kept, 4, 0.5, b"", COUNT) is None
    assert unpack(infer(fast, kept, 4, 0.5, b"", COUNT)[1]).version == fast.version


def test_more_than_there_is_room_for_is_left() -> None:
    source, _ = pair(2000, 6, 16)
    many = pack_tracks(range(5000))
    assert compiled(source).infer(b"", 4, 0.5, b"", 5000) is None
    assert compiled(source).infer(b"", 4, 0.5, many, COUNT) is None
    assert len(infer(source, b"", 4, 0.5, b"", 5000)[0]) == 13 * 128 - 1  # of those looked at


def test_a_version_too_long_to_be_kept_has_none() -> None:
    assert Source(inferring_table(), "v" * 17).native is None


# --- bytes that nobody can vouch for -------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    heard=st.integers(1, 20),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    time=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_evidence_that_another_program_wrote_is_read_as_the_python_reads_it(
    heard: int, flips: list[tuple[int, int]], time: float
) -> None:
    """Its checksum holds, but what it says may make no sense."""
    sources, data = pair(), b""
    for step in range(heard):
        _, data = infer(sources[0], data, step * 7, step % 5 / 4, b"", COUNT)
    damaged = bytearray(data)
    for position, value in flips:
        damaged[8 + position % (len(damaged) - 8)] = value
    damaged[:8] = mmh3_x64_128_digest(bytes(damaged[8:]))[:8]
    evidence = unpack(bytes(damaged))
    fast = compiled(sources[0]).infer(bytes(damaged), 3, time, b"", COUNT)
    assume(fast is not None)
    assert fast is not None
    assert evidence.belief is not None  # what the one reads, the other does
    # An update of what is no covariance may not be one either; that is none the next time.
    assert len(unpack(fast[1])) in (0, len(evidence) + 1)
    assert len({*fast[0].tracks.tolist()}) == len(fast[0])
    slow = infer(sources[1], bytes(damaged), 3, time, b"", COUNT)
    assert len(fast[0]) == len(slow[0])


@pytest.mark.parametrize("data", [b"\0", bytes(31), bytes(32), bytes(5000), b"x" * 400])
def test_what_is_no_evidence_is_none(data: bytes) -> None:
    sources = pair()
    _, kept = infer(sources[0], data, 3, 0.5, b"", COUNT)
    assert unpack(kept).tracks.tolist() == [3]


def test_nothing_is_read_or_written_out_of_bounds(tmp_path: Path) -> None:
    """All of the above, and damaged evidence, by a library that looks at each access."""
    sanitizer = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(sanitizer).is_absolute():
        pytest.skip("the compiler has no sanitizer")
    done = subprocess.run(
        [sys.executable, "-m", "tests.sanitized", tmp_path / "_compiled.so"],
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": sanitizer,
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "halt_on_error=1",
            "PYTHONMALLOC": "malloc",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 1000


def test_a_table_of_an_other_order_of_ids_is_searched() -> None:
    """Ids with gaps between them are found by bisection."""
    table = inferring_table(300, 6, artists=40)
    gaps = replace(table, tracks=np.cumsum(np.random.default_rng(1).integers(1, 9, 300)))
    sources = Source(gaps, "gaps"), Source(gaps, "gaps", compiled=False)
    data = b""
    for row in range(0, 300, 11):
        data = same(sources, data, (int(gaps.tracks[row]), row % 10 / 10), [])
        data = same(sources, data, (int(gaps.tracks[row]) + 100_000, 0.5), [])
