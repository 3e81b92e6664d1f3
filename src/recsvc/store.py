"""Makes the session store with its guard, and what stands in for it, from the settings."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from recsvc.outage.breaker import Breaker
from recsvc.outage.guarded import GuardedSessions
from recsvc.outage.memory import Memory
from recsvc.outage.recovery import Recovery
from recsvc.outage.standby import Standby
from recsvc.policy import CONTEXTUAL, PERSONAL
from recsvc.redis.address import whereabouts
from recsvc.redis.caller import Caller
from recsvc.redis.embedded import embedded_server
from recsvc.redis.keys import Keys
from recsvc.redis.replay import RedisReplay
from recsvc.redis.sessions import RedisSessions
from recsvc.settings import Settings

__all__ = ["open_store", "redis_url", "run_beside"]

_log = logging.getLogger(__name__)

_LONGEST_PAUSE = 0.2  # seconds between two probes of a store that is away
_AGAIN_SECONDS = 1.0  # before work that has failed begins again

Work = Coroutine[Any, Any, None]


async def open_store(
    settings: Settings, caller: Caller, keys: Keys, stack: AsyncExitStack
) -> tuple[GuardedSessions, Standby]:
    """Return the session store with its guard, and what stands in for it."""
    limits = {
        "session_ttl": settings.session_ttl,
        "idempotency_ttl": settings.idempotency_ttl,
        "events_max": settings.events_max,
    }
    store = RedisSessions(caller, keys, **limits)
    kept = _kept_as(settings)
    _look_for_others(settings.data_dir / "spool", kept, keys.prefix)
    memory = Memory(
        settings.data_dir / "memory" / kept,
        listeners=settings.memory_listeners,
        ttl=settings.session_ttl,
        names=(CONTEXTUAL, PERSONAL),
    )
    stack.callback(memory.close)
    recovery = Recovery(
        settings.data_dir / "spool" / kept,
        RedisReplay(caller, keys, ahead_ms=lambda: store.ahead_ms, **limits),
        most=settings.spool_max,
        streams=settings.partitions,
        clock=time.monotonic,
        replayed=lambda record: standby.learned(record.event["user"]),
        probe=store.ping,
    )
    stack.push_async_callback(recovery.close)
    guarded = GuardedSessions(
        store,
        recovery,
        memory,
        Breaker(failures=settings.breaker_failures, longest=_LONGEST_PAUSE, rng=Random()),
        clock=time.time,
        monotonic=time.monotonic,
        patience=settings.redis_timeout,
    )
    standby = Standby(memory, recovery.outbox, clock=time.time, kept=guarded.spooled)
    stack.push_async_callback(standby.close)
    await guarded.start()
    run_beside(guarded.run, "store guard", stack)
    return guarded, standby


def _kept_as(settings: Settings) -> str:
    """Return the name of the directories in which the workers keep what is for this store only."""
    if settings.embedded:
        return settings.key_prefix
    place = whereabouts(settings.redis_url.get_secret_value())
    return f"{settings.key_prefix}@{hashlib.sha256(place.encode()).hexdigest()[:12]}"


def _look_for_others(spools: Path, mine: str, prefix: str) -> None:
    """Say where events for another store are: it may be this one, at another address."""
    for directory in (spools / prefix, *spools.glob(f"{prefix}@*")):
        with suppress(FileNotFoundError):  # somebody removes one just now
            if directory.name != mine and any(f.stat().st_size for f in directory.glob("*/spool")):
                told = "%s has events for another Redis; if that is this one, move them to %s"
                _log.warning(told, directory, spools / mine)


def run_beside(begin: Callable[[], Work], name: str, stack: AsyncExitStack) -> None:
    """Run something in the background until `stack` closes.

    It begins again should it fail: nobody would notice that it has ended.
    """
    task = asyncio.create_task(_again_and_again(begin, name), name=name)
    stack.push_async_callback(_cancel, task)


async def _again_and_again(begin: Callable[[], Work], name: str) -> None:
    while True:
        try:
            return await begin()
        except Exception:  # a bug, whatever it is; what else the service does goes on
            _log.exception("a bug ended the task %s; it begins again", name)
        await asyncio.sleep(_AGAIN_SECONDS)


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which redis-py waits with, can
    lose a cancellation that comes just as what it waits for is done.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


@asynccontextmanager
async def redis_url(settings: Settings) -> AsyncIterator[str]:
    """Yield the URL to connect to, with the embedded server behind it if it is ours."""
    if not settings.embedded:
        yield settings.redis_url.get_secret_value()
        return
    # It waits on a process, so it works in a thread.
    server = embedded_server(settings.data_dir, fsync=settings.redis_fsync)
    url = await asyncio.to_thread(server.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)
