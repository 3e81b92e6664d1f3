"""What the offline half raises on purpose; all of it is a `RecsvcError`."""

from recsvc.errors import RecsvcError

__all__ = ["CatalogueError", "LogError", "ReportError", "SimulationError", "TrainingError"]


class LogError(RecsvcError):
    """A listening log cannot be used; the message says why and where."""


class CatalogueError(RecsvcError):
    """A track catalogue cannot be used; the message says why and where."""


class ReportError(RecsvcError):
    """What was asked about is not in the table."""


class TrainingError(RecsvcError):
    """There is too little in the log, or a setting makes no sense, so nothing can be trained."""


class SimulationError(RecsvcError):
    """A step of a simulated experiment failed."""
