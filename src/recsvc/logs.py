"""JSON logs: one object a line, so nothing in a message can forge a second line."""

import logging
import sys
from datetime import UTC, datetime

import orjson

__all__ = ["configure"]


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": _valid(record.getMessage()),
        }
        if record.exc_info:
            entry["exception"] = _valid(self.formatException(record.exc_info))
        return orjson.dumps(entry).decode()


def _valid(text: str) -> str:
    """Replace lone surrogates, which are no JSON: a line must never be lost to one."""
    return text.encode(errors="replace").decode()


def configure(level: str) -> None:
    """Send all logs from `level` up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True
