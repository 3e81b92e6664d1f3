"""Bad input by the hundred: no 5xx, every error a problem, nothing changed.

The same by the hundred thousand is in tests/torture.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from redis import Redis

from recsvc.redis.embedded import embedded_server
from recsvc.redis.keys import Keys
from tests.processes import Served, recsvc, serve, write_artifact
from tests.support import small_table
from tests.torture.input_mutations import Tally, hostile, mutated, send
from tests.torture.input_schema import generated


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(60))
        recsvc(directory, "publish", "--force", directory / "artifact")
        yield directory


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    with serve(directory, deadline=5, redis_timeout=5, admin_key="a-key") as served:
        yield served


def events(directory: Path) -> int:
    """How many events are stored, those of forgotten listeners too."""
    with embedded_server(directory) as url, Redis.from_url(url) as client:
        stored: Any = client.xlen(Keys().events(0))
    return int(stored)


def test_hostile_requests(served: Served, directory: Path) -> None:
    before, tally = events(directory), Tally()
    for data in hostile():
        tally.add(data, send(served.url, data))
    assert not tally.unanswered
    assert tally.statuses[422] > 50
    assert events(directory) - before == tally.events


def test_tampered_requests(served: Served, directory: Path) -> None:
    before, tally, rng = events(directory), Tally(), Random(6)
    for _ in range(1000):
        data = mutated(rng)
        tally.add(data, send(served.url, data))
    assert tally.statuses[400] > 100
    assert tally.statuses[422] > 20
    assert events(directory) - before == tally.events


def test_requests_made_from_the_schema(served: Served, tmp_path: Path) -> None:
    cases, report = generated(served.url, tmp_path, "a-key", examples=8)
    assert cases > 300, report
