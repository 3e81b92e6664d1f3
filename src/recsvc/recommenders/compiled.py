"""The compiled code of this package, where the install could compile it.

It is reached by ctypes, so it takes a C compiler to install and nothing else, and one library
serves every Python.
"""

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["declared", "library"]

_LIBRARY = Path(__file__).with_name("_compiled.so")
_INTERFACE = 6


@cache
def library() -> Any:
    """Return the compiled code; None where there is none, or it is not of this release."""
    if sys.byteorder != "little":
        return None
    try:
        found = ctypes.PyDLL(str(_LIBRARY))  # keeps the interpreter's lock: calls are short
        return declared(found) if found.interface() == _INTERFACE else None
    except (OSError, AttributeError):
        return None


def declared(found: Any) -> Any:
    """Return a library that knows what its functions are called with."""
    integer, pointer, text = ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p
    found.infer.restype = integer
    found.infer.argtypes = [
        pointer,
        text,
        integer,
        integer,
        ctypes.c_double,
        text,
        integer,
        integer,
    ]
    return found  # `candidates` is given what needs no conversion, which is quicker
