"""How redis-py's exceptions become ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisClusterException, RedisError, ResponseError

from recsvc.errors import RefusedError, StoreUnavailableError
from recsvc.redis.resp import refuses

__all__ = ["FAULTS", "store_faults"]

FAULTS = (RedisError, RedisClusterException, OSError)
"""What redis-py raises when a call fails; that of a Cluster without a node is no `RedisError`."""


@asynccontextmanager
async def store_faults() -> AsyncIterator[None]:
    """Raise `StoreUnavailableError` for whatever redis-py raises inside.

    `RefusedError` for what the server will never do.
    """
    try:
        yield
    except ResponseError as error:
        raise _kind(error)(f"{type(error).__name__}: {error}") from error
    except FAULTS as error:
        raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error


def _kind(error: ResponseError) -> type[StoreUnavailableError]:
    """Tell what an error reply means, as `resp.error_reply` does.

    redis-py has classes of its own for some codes, which pass.
    """
    final = type(error) is ResponseError and refuses(str(error))
    return RefusedError if final else StoreUnavailableError
