"""The HTTP driver, against a stand-in service, and against the driver in process."""

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from precompute.simulation.batch import simulate
from precompute.simulation.client import HttpClient, RequestError
from precompute.simulation.drive import drive
from precompute.simulation.generate import generate
from precompute.simulation.policies import RandomTracks
from precompute.simulation.world import World

Reply = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def world() -> World:
    return generate(2000, 1500, seed=8)


@asynccontextmanager
async def service(reply: Reply, *, close: bool = False) -> AsyncIterator[str]:
    """A stand-in service on a port of its own; `close` ends each connection after an answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = int(head.split("content-length:")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(size))
                status, content = reply(head.split()[1], body)
                data = json.dumps(content).encode()
                kept = "close" if close else "keep-alive"
                writer.write(
                    f"HTTP/1.1 {status} X\r\nConnection: {kept}\r\n"
                    f"Content-Length: {len(data)}\r\n\r\n".encode()
                    + data
                )
                if close:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        await asyncio.sleep(0.01)


def stride(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 200, {"user": int(path.rsplit("/", maxsplit=1)[-1]), "track": (body["track"] + 7) % 2000}


class Stride:
    def start(self, users: npt.NDArray[Any], tracks: npt.NDArray[Any]) -> None: ...

    def next(
        self, sessions: npt.NDArray[Any], tracks: npt.NDArray[Any], times: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        return (tracks + 7) % 2000


@pytest.mark.parametrize("close", [False, True])
async def test_both_drivers_play_the_same_sessions(world: World, close: bool) -> None:
    rows = np.arange(200)
    async with service(stride, close=close) as url, HttpClient(url, connections=8) as client:
        driven = await drive(world, client, seed=5, listeners=rows, sessions=2, concurrency=50)
    batch = simulate(world, Stride(), seed=5, listeners=rows, sessions=2)
    assert driven.failures == ()
    # The batch goes session by session, the drive listener by listener.
    order = np.lexsort((batch.sessions.numbers, batch.sessions.listeners))
    np.testing.assert_array_equal(driven.plays.tracks, batch.tracks[order])
    np.testing.assert_array_equal(driven.plays.times, batch.times[order])
    assert driven.requests == batch.lengths.sum()
    heard = driven.plays.tracks >= 0
    assert (np.isnan(driven.latencies) == ~heard).all()
    assert (driven.latencies[heard] > 0).all()


async def test_both_drivers_give_the_same_distribution(world: World) -> None:
    rng = random.Random(3)

    def anything(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"track": rng.randrange(2000)}

    async with service(anything) as url, HttpClient(url) as client:
        driven = await drive(world, client, seed=1, concurrency=300)
    batch = simulate(world, RandomTracks(world, 4), seed=2)
    for ours, theirs in (
        (driven.plays.session_times, batch.session_times),
        (driven.plays.lengths, batch.lengths),
    ):
        assert stats.ks_2samp(ours, theirs).pvalue > 0.01
        assert stats.ttest_ind(ours, theirs, equal_var=False).pvalue > 0.01


async def test_the_service_is_told_the_api_and_nothing_else(world: World) -> None:
    seen: dict[str, list[tuple[str, dict[str, Any]]]] = {}

    def watch(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        _, message, user = path.split("/")
        seen.setdefault(user, []).append((message, body))
        return stride(path, body)

    async with service(watch) as url, HttpClient(url) as client:
        await drive(world, client, seed=5, listeners=np.arange(40), max_steps=20)
    assert len(seen) == 40
    for said in seen.values():
        assert all(body.keys() == {"track", "time"} for _, body in said)
        assert said[0][1]["time"] == 1.0
        assert [message for message, _ in said] == ["next"] * (len(said) - 1) + ["last"]
        assert len(said) <= 21


async def test_the_log_has_an_event_for_each_request(world: World) -> None:
    def about(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path.startswith("/last"):
            return 200, {"user": 1}
        status, answer = stride(path, body)
        more = {"policy": "stride", "propensity": 0.5, "experiments": {"x": "T1"}}
        return status, answer | more

    file = io.BytesIO()
    async with service(about) as url, HttpClient(url) as client:
        driven = await drive(world, client, seed=5, listeners=np.arange(30), log=file)
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    assert len(events) == driven.requests
    for event in events:
        assert event["experiments"] == {"x": "T1"}
        assert event["policy"] == "stride"
        assert event["latency"] > 0
        served = (event["track"] + 7) % 2000 if event["message"] == "next" else None
        assert event["recommendation"] == served
        assert event.get("propensity") == (None if served is None else 0.5)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((500, {"title": "broken"}), "status 500"),
        ((200, {"track": 2000}), "not in the catalogue"),
        ((200, {"track": "4"}), "no track"),
        ((200, {"track": True}), "no track"),
        ((200, {}), "no track"),
    ],
)
async def test_failures_are_counted_and_left_out(
    world: World, answer: tuple[int, dict[str, Any]], reason: str
) -> None:
    def sometimes(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return answer if path == "/next/3" else stride(path, body)

    async with service(sometimes) as url, HttpClient(url) as client:
        driven = await drive(world, client, seed=5, listeners=np.arange(10))
    assert len(driven.failures) == 1
    assert reason in driven.failures[0]
    assert driven.plays.sessions.listeners.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_a_client_says_what_went_wrong() -> None:
    with pytest.raises(RequestError, match="not an http address"):
        HttpClient("localhost:8000")
    async with HttpClient("http://127.0.0.1:1") as client:
        with pytest.raises(RequestError, match="/next/1"):
            await client.post("/next/1", b"{}")


async def test_a_silent_service_times_out_and_its_connection_is_not_used_again() -> None:
    calls = 0

    async def silent_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await reader.read()
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
            )
        writer.close()

    server = await asyncio.start_server(silent_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with HttpClient(f"http://127.0.0.1:{port}", timeout=0.1, connections=1) as client:
        with pytest.raises(RequestError, match=r"no answer in 0\.1 s"):
            await client.post("/next/1", b"")
        answer = await client.post("/next/1", b"")
        assert (answer.status, answer.body) == (200, b"{}")
    server.close()


async def test_no_more_connections_than_allowed() -> None:
    open_now, most = 0, 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.01)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        open_now -= 1
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with HttpClient(f"http://127.0.0.1:{port}", connections=3) as client:
        await asyncio.gather(*(client.post("/last/1", b"") for _ in range(20)))
    server.close()
    assert most == 3
