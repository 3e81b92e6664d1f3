"""What the routes share: made once by `create_app`, found on `app.state`."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from recsvc.api.auth import Keyring
from recsvc.api.metrics import Metrics
from recsvc.redis.tables import PublishedTables
from recsvc.redis.watch import TableWatch
from recsvc.service import Service
from recsvc.settings import Settings
from recsvc.together import Together

__all__ = ["Context", "Ctx"]


@dataclass(slots=True)
class Context:
    """The running parts of one worker."""

    settings: Settings
    service: Service
    together: Together
    tables: TableWatch
    published: PublishedTables
    metrics: Metrics
    keyring: Keyring


# Asynchronous, for FastAPI runs a plain function in a thread: a hop for every request.
async def _context(request: Request) -> Context:
    return cast("Context", request.app.context)


Ctx = Annotated[Context, Depends(_context)]
