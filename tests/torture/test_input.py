"""Bad input by the hundred thousand: no 5xx, every error a problem, nothing changed."""

import tempfile
import time
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
from tests.torture.conftest import Report
from tests.torture.input_mutations import Tally, hostile, mutated, send
from tests.torture.input_schema import generated

pytestmark = pytest.mark.torture

TAMPERED = 100_000
SECONDS = 500.0
EXAMPLES = 1500  # of each of 15 operations


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(60))
        recsvc(directory, "publish", "--force", directory / "artifact")
        yield directory


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    with serve(directory, deadline=10, redis_timeout=10, admin_key="a-key") as served:
        yield served


def events(directory: Path) -> int:
    """How many events are stored, those of forgotten listeners too."""
    with embedded_server(directory) as url, Redis.from_url(url) as client:
        stored: Any = client.xlen(Keys().events(0))
    return int(stored)


def test_tampered_requests(served: Served, directory: Path, report: Report) -> None:
    before, tally, rng = events(directory), Tally(), Random(0)
    started = time.monotonic()
    for data in hostile():
        tally.add(data, send(served.url, data))
    while tally.sent < TAMPERED:
        data = mutated(rng)
        tally.add(data, send(served.url, data))
        assert time.monotonic() - started < SECONDS, f"only {tally.sent} in {SECONDS} s"
    added = events(directory) - before
    answers = ", ".join(f"{count:,} {status}" for status, count in sorted(tally.statuses.items()))
    report(
        "bad input",
        f"{tally.sent:,} requests with tampered bytes",
        f"no 5xx, every error a problem ({answers}); {tally.events:,} events acknowledged, "
        f"{added:,} written",
    )
    assert added == tally.events


def test_requests_made_from_the_schema(served: Served, tmp_path: Path, report: Report) -> None:
    cases, _ = generated(served.url, tmp_path, "a-key", examples=EXAMPLES, seconds=590)
    report("bad input", f"{cases:,} requests made from our OpenAPI", "no complaint of schemathesis")
    assert cases >= 20_000
