"""Names for calls, sessions and requests: 64 random bits, as 16 hex digits.

They need to differ, not to be secret, so the operating system is asked for a seed and not for
each of them.
"""

from random import Random

__all__ = ["fresh_id"]

_random_bits = Random().getrandbits


def fresh_id() -> str:
    """Return a name that nothing else has."""
    return f"{_random_bits(64):016x}"
