"""Values that are made for every request."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["value"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(made: type[T]) -> type[T]:
    """Make a dataclass that only the type checker keeps frozen.

    A frozen one of twelve fields takes 1.3 microseconds to make, this one 0.2; an answer
    takes a dozen of them.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)
