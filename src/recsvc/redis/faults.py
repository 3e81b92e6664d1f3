"""How redis-py's exceptions become ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from recsvc.errors import StoreUnavailableError

__all__ = ["store_faults"]


@asynccontextmanager
async def store_faults() -> AsyncIterator[None]:
    """Raise `StoreUnavailableError` for whatever redis-py raises inside."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error
