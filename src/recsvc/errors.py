"""Everything that recsvc raises on purpose, as one tree without any HTTP in it."""

__all__ = [
    "AccessError",
    "ArtifactError",
    "ExperimentError",
    "GateError",
    "NoPreviousTableError",
    "NotAskedError",
    "NotPublishedError",
    "RecordError",
    "RecsvcError",
    "RefusedError",
    "SpoolFullError",
    "StoreUnavailableError",
    "TableError",
]


class RecsvcError(Exception):
    """The root: catch this to catch whatever recsvc raises on purpose."""


class AccessError(RecsvcError):
    """The API keys as declared cannot be read; the message says why, without a key."""


class TableError(RecsvcError):
    """Bytes that claim to be a table are not a valid one; the message says why."""


class ArtifactError(RecsvcError):
    """An artifact directory or its manifest cannot be used; the message says why."""


class ExperimentError(RecsvcError):
    """The experiments as declared make no sense; the message says why."""


class GateError(RecsvcError):
    """An artifact is valid but not good enough to publish.

    `reasons` holds one plain sentence for each gate that refused it.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class NotPublishedError(RecsvcError):
    """No table, or not the one that was asked for, is published."""


class NoPreviousTableError(NotPublishedError):
    """There is no earlier table to go back to."""


class StoreUnavailableError(RecsvcError):
    """Redis did not answer in time, or answered that it cannot serve."""


class RefusedError(StoreUnavailableError):
    """Redis answered that it will never do this: a key, say, is of another type."""


class NotAskedError(StoreUnavailableError):
    """Redis was not even asked, so it has certainly done nothing."""


class RecordError(RecsvcError):
    """Bytes that claim to be a record of the spool are not one."""


class SpoolFullError(RecsvcError):
    """A record was not kept: its file may not grow any more."""
