"""What can go wrong while measuring."""

__all__ = ["LoadError"]


class LoadError(RuntimeError):
    """A measurement that cannot be made; the reason is in the text."""
