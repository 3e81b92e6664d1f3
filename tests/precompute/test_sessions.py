import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from precompute import catalogue, sessions
from precompute.catalogue import Catalogue
from precompute.errors import TrainingError
from precompute.log import Log
from recsvc.table import Text

MINUTE = 60_000


def make_log(events: list[tuple[int, int, int, float, bool]]) -> Log:
    """Events of (user, minute, track, time, is last)."""
    user, minute, track, time, last = (np.array(x) for x in zip(*events, strict=True))
    return Log(
        timestamp=minute.astype(np.int64) * MINUTE,
        user=user.astype(np.int64),
        track=track.astype(np.int64),
        time=time.astype(np.float32),
        is_last=last.astype(bool),
        recommendation=np.full(len(user), -1),
    )


def pairs(log: Log, known: Catalogue) -> list[tuple[int, int]]:
    found = sessions.transitions(sessions.arrange(log, known))
    ids = known.tracks
    return list(zip(ids[found.previous].tolist(), ids[found.next].tolist(), strict=True))


def test_transitions_cross_neither_listeners_nor_last_nor_idleness() -> None:
    log = make_log(
        [
            (2, 0, 20, 0.1, False),
            (1, 0, 10, 0.2, False),
            (1, 1, 11, 0.3, True),  # ends it
            (1, 2, 12, 0.4, False),
            (1, 32, 13, 0.5, False),  # exactly 30 minutes: the same session
            (1, 63, 14, 0.6, False),  # 31 minutes: another
            (2, 1, 21, 0.7, False),
        ]
    )
    known = catalogue.from_log(log)
    assert pairs(log, known) == [(10, 11), (12, 13), (20, 21)]
    found = sessions.transitions(sessions.arrange(log, known))
    np.testing.assert_allclose(found.time, [0.3, 0.5, 0.7])
    np.testing.assert_allclose(found.previous_time, [0.2, 0.4, 0.1])


def test_events_of_one_millisecond_stay_in_the_order_of_the_log() -> None:
    log = make_log([(1, 0, 3, 1, False), (1, 0, 1, 1, False), (1, 0, 2, 1, False)])
    assert pairs(log, catalogue.from_log(log)) == [(3, 1), (1, 2)]


def test_an_unlisted_track_is_in_no_pair_and_is_not_bridged() -> None:
    log = make_log([(1, 0, 1, 1, False), (1, 1, 99, 1, False), (1, 2, 2, 1, False)])
    known = Catalogue(np.array([1, 2]), np.array([0, 0]), Text.of(["A"]), Text.of(["x", "y"]))
    assert pairs(log, known) == []
    with pytest.raises(TrainingError, match="none of the tracks"):
        sessions.arrange(make_log([(1, 0, 99, 1, False)]), known)


def test_the_latest_sessions_are_for_validation_as_a_whole() -> None:
    # Sessions begin at minutes 0, 100, 200, ..., 900; the listeners' order is the reverse.
    events = [(9 - s, 100 * s + k, k, 0.5, False) for s in range(10) for k in range(3)]
    log = make_log(events)
    found = sessions.arrange(log, catalogue.from_log(log), sessions.Settings(valid_share=0.2))
    assert found.count == 10
    assert sorted(set(found.users[found.user[found.valid]].tolist())) == [0, 1]
    assert found.valid.sum() == 6
    assert sessions.transitions(found).valid.sum() == 4


event = st.tuples(
    st.integers(0, 3), st.integers(0, 200), st.integers(0, 5), st.just(0.5), st.booleans()
)


@given(st.lists(event, min_size=1, max_size=40))
def test_transitions_are_those_of_a_plain_loop(
    events: list[tuple[int, int, int, float, bool]],
) -> None:
    log = make_log(events)
    expected, before = [], None
    for now in sorted(events, key=lambda e: e[:2]):
        if before and before[0] == now[0] and not before[4] and now[1] - before[1] <= 30:
            expected.append((before[2], now[2]))
        before = now
    assert pairs(log, catalogue.from_log(log)) == expected
