"""What a log says of sessions: by hand, and as the service counts it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precompute.errors import TrainingError
from precompute.inference.observations import observe
from recsvc.evidence import Evidence
from recsvc.recommenders.inference import walk
from recsvc.recommenders.source import Source
from tests.inferring import inferring_table
from tests.precompute.inference.planted import arrange

ARTIST = np.array([0, 0, 0, 1, 1, 2])
SOURCE = Source(inferring_table(40), "v1")


def test_by_hand() -> None:
    sessions = arrange(
        [[0, 3, 0, 1, -1, 4, 3, 2], [5], [-1, 5, -1, 4], [2, 1]],
        [[0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [0.8], [0.6, 0.5, 0.4, 0.3], [0.2, 1.0]],
        valid=1,
    )
    found = observe(sessions, ARTIST)
    # Left out are what begins a session, the second plays of 0 and 3, and what is unknown; but
    # the artist was played then, too.
    assert found.session.tolist() == [0, 0, 0, 0, 2, 2, 3]
    assert found.track.tolist() == [3, 1, 4, 2, 5, 4, 1]
    assert found.time == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.5, 0.3, 1.0])
    assert found.plays.tolist() == [0, 2, 1, 3, 0, 0, 1]
    assert found.first.tolist() == [0, 5, -1, 2]
    assert found.first_time == pytest.approx([0.9, 0.8, 0.6, 0.2])
    assert found.valid.tolist() == [False, False, False, True]
    assert (len(found), found.count) == (7, 4)


def test_some_of_the_sessions_are_numbered_anew() -> None:
    found = observe(arrange([[0, 3], [5], [4, 5, 0]], [[0.9, 0.1], [0.8], [0.3, 0.2, 0.1]]), ARTIST)
    some = found.among(np.array([False, True, True]))
    assert (some.session.tolist(), some.track.tolist()) == ([1, 1], [5, 0])
    assert (some.first.tolist(), some.count) == ([5, 4], 2)
    assert some.time == pytest.approx([0.2, 0.1])
    nothing = found.among(np.zeros(3, dtype=bool))
    assert (len(nothing), nothing.count) == (0, 0)


def test_sessions_of_a_listener_that_begin_with_an_artist_they_like_are_of_one_interest() -> None:
    tracks = [[0, 3], [3, 1], [2, 4], [1, 5], [1, 3], [-1, 5], [-1, 4], [4, 0]]
    first_times = [0.5, 1.0, 0.9, 0.49, 0.49, 1.0, 1.0, 1.0]
    user = [0, 0, 0, 0, 0, 0, 0, 1]
    found = observe(arrange(tracks, [[t, 0.5] for t in first_times], user=user), ARTIST)
    alike = found.interest[:, None] == found.interest
    expected = np.eye(8, dtype=bool)
    expected[0, 2] = expected[2, 0] = True  # tracks 0, 1, 2 are of one artist; 1 was not liked
    assert (alike == expected).all()
    some = found.among(np.arange(8) >= 2)
    assert (some.interest == found.interest[2:]).all()


@pytest.mark.parametrize("tracks", [[[0], [1]], [[0, 0], [1, -1]], [[-1, -1]]])
def test_a_log_of_first_tracks_teaches_nothing(tracks: list[list[int]]) -> None:
    with pytest.raises(TrainingError, match="more than one track"):
        observe(arrange(tracks, [[0.5] * len(session) for session in tracks]), ARTIST)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 39), min_size=1, max_size=30), min_size=1, max_size=4))
def test_training_and_serving_count_alike(tracks: list[list[int]]) -> None:
    """Of every session the same tracks are learnt from, with the same earlier plays."""
    times = [[0.5] * len(session) for session in tracks]
    served = []
    for number, session in enumerate(tracks):
        steps = walk(SOURCE, Evidence(np.array(session), np.array(times[number])))
        served += [(number, step.row, step.plays) for step in steps if step.before is not None]
    if not served:
        return
    found = observe(arrange(tracks, times), SOURCE.table.artist)
    trained = zip(*(a.tolist() for a in (found.session, found.track, found.plays)), strict=True)
    assert list(trained) == served
