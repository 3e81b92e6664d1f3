"""A load on a real server: every answer is right, whatever runs beside it. No timing."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from redis import Redis
from rich.console import Console

from recsvc.redis.keys import Keys
from tests.load import plot
from tests.load.capacity import measure_batch
from tests.load.figures import Key, Results, compare
from tests.load.machine import Canary, Cores, describe
from tests.load.measures import measure_closed, measure_open
from tests.load.procfs import cpu_seconds, pss_bytes
from tests.load.render import show
from tests.load.seeding import copy_session, make_session
from tests.load.servers import ceiling, service
from tests.load.stage import Pace, Stage, Target
from tests.load.store import Store
from tests.load.synthetic import make_table
from tests.load.traffic import Traffic

TRACKS, LISTENERS, CALLS = 2_000, 20, 25
ALL = Cores.split().all


@contextmanager
def serving(valkey: str, directory: Path) -> Iterator[Target]:
    """A service with a table of its own."""
    store = Store(valkey, f"load-{directory.name}")
    store.publish(make_table(TRACKS, users=LISTENERS))
    # Patient, so that a busy machine makes no answer a degraded one.
    with service(ALL, directory, store, deadline=10, redis_timeout=10) as server:
        yield Target("ensemble", server, Traffic(0, LISTENERS, TRACKS), store)


async def listen(api: httpx.AsyncClient, user: int) -> list[dict[str, Any]]:
    """Play a listener: report each track that was served, and ask for the next."""
    rng, track, answers = Random(user), user, []
    for _ in range(CALLS):
        answer = await api.post(f"/next/{user}", json={"track": track, "time": rng.random()})
        assert answer.status_code == 200
        answers.append(answer.json())
        track = answers[-1]["track"]
    return answers


async def listen_all(port: int) -> list[list[dict[str, Any]]]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10.0) as api:
        return await asyncio.gather(*(listen(api, user) for user in range(LISTENERS)))


def test_every_answer_is_right_under_load(valkey: str, tmp_path: Path) -> None:
    with serving(valkey, tmp_path) as target:
        assert target.store is not None
        for user, answers in enumerate(asyncio.run(listen_all(target.server.port))):
            served = [answer["track"] for answer in answers]
            assert len({user, *served}) == CALLS + 1
            assert all(track in range(TRACKS) for track in served)
            assert {answer["user"] for answer in answers} == {user}
            assert [answer["position"] for answer in answers] == list(range(CALLS))
            assert all(0 < answer["propensity"] <= 1 for answer in answers)
            assert not any(answer["degraded"] for answer in answers)
        with Redis.from_url(valkey) as store:
            assert store.xlen(Keys(target.store.prefix).events(0)) == LISTENERS * CALLS


@pytest.mark.parametrize("listened", [0, 700])
def test_seeded_sessions_are_sessions(valkey: str, tmp_path: Path, listened: int) -> None:
    with serving(valkey, tmp_path) as target:
        assert target.store is not None
        make_session(target, 3, listened)  # checks itself through the API
        copy_session(target.store, 3, 100, 5)
        with httpx.Client(base_url=f"http://127.0.0.1:{target.server.port}") as api:
            copies = [api.get(f"/user/{user}") for user in (3, 100, 104, 105)]
            assert [copy.status_code for copy in copies] == [200, 200, 200, 404]
            assert copies[2].json()["listened"] == copies[0].json()["listened"] >= listened
            answer = api.post("/next/104", json={"track": 5, "time": 0.5}).json()
            assert answer["position"] == copies[0].json()["position"]
            assert not answer["degraded"]


def make_stage(valkey: str, directory: Path) -> Stage:
    pace = Pace(rounds=1, seconds=1, spare=0.0)
    console = Console(file=StringIO(), width=160)
    return Stage(
        directory, valkey, Cores.split(), Canary(ALL), pace, ["ensemble"], Results(), console
    )


def test_measurements_end_in_figures_a_table_and_a_picture(valkey: str, tmp_path: Path) -> None:
    stage = make_stage(valkey, tmp_path)
    with ceiling(ALL) as server:
        target = Target("ceiling", server, Traffic(0, 10, 10))
        measure_closed(stage, "closed", target, 2)
        measure_open(stage, "open", target, 100.0, "100 a second")
        assert cpu_seconds(server.pid) > 0
        assert pss_bytes(server.pid) > 1 << 20
    assert stage.results.notes == []
    figures = stage.results.figures
    assert figures[Key("closed", "ceiling", "2 connections", "rate")].median > 0
    percentiles = [
        figures[Key("open", "ceiling", "100 a second", f"p{p}")].median
        for p in ("50", "90", "99", "99.9")
    ]
    assert percentiles == sorted(percentiles)
    shown = StringIO()
    show(stage.results, describe(stage.cores), None, Console(file=shown, width=160))
    assert "ceiling" in shown.getvalue()
    assert plot.save(stage.results, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert not plot.save(Results(), tmp_path / "none.png")


def test_a_section_starts_and_stops_all_it_needs(valkey: str, tmp_path: Path) -> None:
    stage = make_stage(valkey, tmp_path)
    measure_batch(stage)
    assert stage.results.notes == []
    ((name, ratio),) = stage.results.ratios.items()
    assert name == "a batch of 100: p50, against one call"
    assert ratio.median > 1
    assert [s.verdict for s in compare(stage.results, stage.results.document())] == ["same"]


def test_the_canary_tells_of_a_slow_core() -> None:
    canary = Canary(ALL)
    canary.best = {core: seconds / 10 for core, seconds in canary.best.items()}
    assert canary.slowness() > 2
