"""A session as Redis keeps it: bytes that nobody vouches for."""

import pytest

from recsvc.redis.state import read_state

WRITTEN = (
    b"id=317e692f5557fd5e recommender=personal position=3 outside=0 counted=e03e started=1700 "
    b"served=677 track=10 time=0.3 at=1800 policy=ensemble table=e03e"
)


def test_a_session_is_read() -> None:
    assert read_state(WRITTEN) == {
        "id": "317e692f5557fd5e",
        "recommender": "personal",
        "position": 3,
        "outside": 0,
        "counted": "e03e",
        "started": 1700,
        "track": 10,
        "time": 0.3,
        "served": 677,
        "at": 1800,
        "policy": "ensemble",
        "table": "e03e",
    }


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        b"",
        b"\xff\xfe",
        b"id=1",
        WRITTEN[:-12],
        WRITTEN.replace(b"position=3", b"position="),
        WRITTEN.replace(b"served=677", b"served 677"),
        WRITTEN.replace(b"time=0.3", b"time=x"),
    ],
)
def test_what_is_no_session_is_none(damaged: bytes | None) -> None:
    assert read_state(damaged) is None
