"""The private server: started by the first, kept by the last, and nothing lost."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from recsvc.redis.connection import connect
from recsvc.redis.embedded import embedded_server


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def pid(directory: Path) -> int | None:
    try:
        return int((directory / "valkey" / "valkey.pid").read_text())
    except (FileNotFoundError, ValueError):  # ValueError: it is being written
        return None


async def write(url: str, value: str) -> None:
    async with connect(url, reply_within=5, connections=1) as client:
        await client.hset("k", "field", value)


async def read(url: str) -> bytes | None:
    async with connect(url, reply_within=5, connections=1) as client:
        return await client.hget("k", "field")


async def test_data_outlives_the_server(directory: Path) -> None:
    with embedded_server(directory) as url:
        await write(url, "kept")
    assert pid(directory) is None
    with embedded_server(directory) as url:
        assert await read(url) == b"kept"


async def test_the_last_one_out_stops_it(directory: Path) -> None:
    with embedded_server(directory) as url:
        first = pid(directory)
        with embedded_server(directory) as same:
            assert same == url
        assert pid(directory) == first
        await write(url, "still there")
    assert pid(directory) is None


@pytest.mark.parametrize("pause", [0.0, 0.01, 0.02, 0.03])
async def test_who_comes_while_the_last_one_leaves_starts_it_again(
    directory: Path, pause: float
) -> None:
    with ExitStack() as last:
        await write(last.enter_context(embedded_server(directory)), "kept")
        leaving = asyncio.create_task(asyncio.to_thread(last.close))
        await asyncio.sleep(pause)
        started = time.monotonic()
        server = embedded_server(directory)
        url = await asyncio.to_thread(server.__enter__)
        try:
            assert time.monotonic() - started < 10.0
            assert await read(url) == b"kept"
        finally:
            await leaving
            await asyncio.to_thread(server.__exit__, None, None, None)


async def test_it_ends_although_its_directory_has_gone(directory: Path) -> None:
    with embedded_server(directory):
        server = pid(directory)
        shutil.rmtree(directory / "valkey")
    assert server is not None
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


HOLD = """
import sys, time
from pathlib import Path
from recsvc.redis.embedded import embedded_server
with embedded_server(Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(60)
"""


async def test_a_server_left_behind_is_taken_over(directory: Path) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(directory), stdout=asyncio.subprocess.PIPE
    )
    assert service.stdout is not None
    assert await service.stdout.readline() == b"up\n"
    left = pid(directory)
    service.kill()
    await service.communicate()
    with embedded_server(directory) as again:
        assert pid(directory) == left
        await write(again, "kept")
    assert pid(directory) is None


async def test_a_server_that_dies_is_started_again_and_only_once(directory: Path) -> None:
    with embedded_server(directory) as url, embedded_server(directory):
        await write(url, "kept")
        for _ in range(3):
            before = pid(directory)
            assert before is not None
            os.kill(before, signal.SIGKILL)
            async with asyncio.timeout(10):
                while pid(directory) == before or not await answers(url):
                    await asyncio.sleep(0.02)
        assert await read(url) == b"kept"
        log = (directory / "valkey" / "valkey.log").read_text()
        assert log.count("Server initialized") == 4
    assert pid(directory) is None


async def answers(url: str) -> bool:
    try:
        await read(url)
    except (RedisError, OSError):
        return False
    return True


async def test_a_server_that_is_only_frozen_is_left_alone(directory: Path) -> None:
    with embedded_server(directory) as url:
        before = pid(directory)
        assert before is not None
        os.kill(before, signal.SIGSTOP)
        await asyncio.sleep(0.5)  # five looks
        os.kill(before, signal.SIGCONT)
        await write(url, "kept")
        assert pid(directory) == before


async def test_only_this_account_can_reach_it(directory: Path) -> None:
    with embedded_server(directory) as url:
        address = Path(url.removeprefix("unix://"))
        assert address.stat().st_mode & 0o077 == 0
        assert (directory / "valkey").stat().st_mode & 0o077 == 0


async def test_a_path_too_long_for_a_socket(directory: Path) -> None:
    deep = directory / ("a" * 60) / ("b" * 60)
    with embedded_server(deep) as url:
        await write(url, "kept")
        assert Path(url.removeprefix("unix://")).parent.stat().st_mode & 0o077 == 0
    with embedded_server(deep) as url:
        assert await read(url) == b"kept"


@pytest.mark.skipif(sys.platform != "linux", reason="the environment of a process is in /proc")
@pytest.mark.parametrize("own", [None, "glibc.malloc.tcache_count=50"])
def test_malloc_keeps_small_strings_at_hand_unless_told_otherwise(
    directory: Path, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    with embedded_server(directory):
        variables = Path(f"/proc/{pid(directory)}/environ").read_bytes().split(b"\0")
    expected = own or "glibc.malloc.tcache_count=300"
    assert f"GLIBC_TUNABLES={expected}".encode() in variables
