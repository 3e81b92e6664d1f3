"""The parts tied together: what opens also closes, whenever it is asked to."""

import asyncio
import time
from pathlib import Path

from pydantic import SecretStr

from recsvc.app import create_app
from recsvc.redis.keys import Keys
from recsvc.settings import Settings


async def test_it_stops_at_any_moment_after_its_start(
    valkey: str, keys: Keys, tmp_path: Path
) -> None:
    # Python 3.11's wait_for, inside redis-py, may lose a cancellation (cpython#86296).
    settings = Settings(redis_url=SecretStr(valkey), key_prefix=keys.prefix, data_dir=tmp_path)
    for steps in range(25):
        app = create_app(settings)
        started = time.monotonic()
        # The timeout ends a stop that hangs; the clock tells that it did.
        async with asyncio.timeout(3.0):
            async with app.router.lifespan_context(app):
                for _ in range(steps):
                    await asyncio.sleep(0)
        assert time.monotonic() - started < 2.5, f"it hung when stopped after {steps} steps"
