"""recsvc: a next-track recommendation service."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("recsvc")
