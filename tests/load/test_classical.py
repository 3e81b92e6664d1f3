"""The baseline follows the rule, or it would be no baseline."""

import logging
from collections.abc import Iterator

import orjson
import pytest
from flask.testing import FlaskClient
from redis import Redis

from recsvc.policy import CONTEXTUAL, PERSONAL, POPULAR
from tests.load.classical import make_app, publish
from tests.load.synthetic import make_table

TABLE = make_table(1_000, neighbours=30, users=5, personal=20, popular=10)


@pytest.fixture
def api(valkey: str) -> Iterator[FlaskClient]:
    with Redis.from_url(valkey) as store:
        for key in store.scan_iter("classical:session:*"):
            store.delete(key)
        publish(TABLE, store)
        yield make_app(store, logging.getLogger("classical")).test_client()


def heard(api: FlaskClient, user: int, track: int, time: float) -> tuple[int, str]:
    body = b'{"track":%d,"time":%.2f}' % (track, time)
    answer = orjson.loads(api.post(f"/next/{user}", data=body).data)
    assert answer["user"] == user
    return answer["track"], answer["recommender"]


def test_it_stays_with_whoever_is_doing_well(api: FlaskClient) -> None:
    track, first = heard(api, 1, 5, 0.1)
    assert first == CONTEXTUAL
    assert track in TABLE.neighbour_row(5).indices
    track, second = heard(api, 1, track, 0.69)
    assert second == PERSONAL
    personal = TABLE.personal_row(1)
    assert personal is not None
    assert track in personal.indices
    track, third = heard(api, 1, track, 0.70)
    assert third == PERSONAL
    assert heard(api, 1, track, 0.2)[1] == CONTEXTUAL


def test_it_never_repeats_and_falls_back(api: FlaskClient) -> None:
    tracks = [7]
    recommenders = set()
    for _ in range(55):
        track, recommender = heard(api, 2, 7, 0.9)
        recommenders.add(recommender)
        assert track not in tracks
        tracks.append(track)
    assert recommenders == {CONTEXTUAL, PERSONAL, POPULAR}
