"""JSON responses by orjson."""

from typing import Any

import orjson
from fastapi.responses import Response

__all__ = ["JSONResponse"]


class JSONResponse(Response):
    """A response whose content is written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write `content`, whose leaves orjson knows."""
        return orjson.dumps(content)
