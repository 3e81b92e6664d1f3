"""The parts tied together: what opens also closes, whenever it is asked to."""

import asyncio
from pathlib import Path

from recsvc.app import create_app
from recsvc.redis.keys import Keys
from recsvc.settings import Settings


async def test_it_stops_at_any_moment_after_its_start(
    valkey: str, keys: Keys, tmp_path: Path
) -> None:
    # Python 3.11's wait_for, inside redis-py, may lose a cancellation (cpython#86296).
    for steps in range(25):
        app = create_app(
            Settings(redis_url=valkey, key_prefix=keys.prefix, data_dir=tmp_path)  # type: ignore[arg-type]
        )
        async with asyncio.timeout(5.0), app.router.lifespan_context(app):
            for _ in range(steps):
                await asyncio.sleep(0)
