"""Sessions that hear the whole catalogue and go on, against the rules in plain Python."""

from pathlib import Path
from random import Random
from typing import Any

import httpx

from tests.processes import recsvc, serve, write_artifact
from tests.support import small_table

TRACKS = 200


def reported(served: int, heard: list[int], call: int, rng: Random) -> int:
    """What a player reports: what it was served, or else what it was not, or nobody knows."""
    match rng.randrange(10):
        case 0:
            return rng.choice(heard)
        case 1:
            return rng.randrange(TRACKS)
        case 2:
            return rng.choice([10**6, 2**62]) + call
        case _:
            return served


def test_every_track_comes_once_and_then_the_one_heard_longest_ago(tmp_path: Path) -> None:
    write_artifact(tmp_path / "artifact", small_table(TRACKS))
    published = recsvc(tmp_path, "publish", "--force", tmp_path / "artifact")
    assert published.returncode == 0, published.stderr
    heard: list[int] = []
    rng, track, beyond = Random(1), 0, 0
    patient: dict[str, Any] = {"deadline": 5, "redis_timeout": 5}
    with serve(tmp_path, **patient) as served, httpx.Client(base_url=served.url) as api:
        for call in range(1200):
            answer = api.post("/next/1", json={"track": track, "time": rng.random()}).json()
            heard = [t for t in heard if t != track] + [track]
            known = [t for t in heard if t < TRACKS]
            if len(known) < TRACKS:
                assert answer["track"] < TRACKS
                assert answer["track"] not in heard
            else:
                oldest = next(t for t in known if t != track)
                assert (answer["track"], answer["recommender"]) == (oldest, "oldest"), call
                beyond += 1
            heard = [t for t in heard if t != answer["track"]] + [answer["track"]]
            track = reported(answer["track"], heard, call, rng)
        assert api.get("/user/1").json()["listened"] == len(heard)
    assert beyond > 500
    assert len(heard) > TRACKS + 64  # more strangers than are looked at at once
