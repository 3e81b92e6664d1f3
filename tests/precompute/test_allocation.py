"""Memory that was freed is used again, and not fetched anew from the system."""

import subprocess
import sys

import pytest

_SCRIPT = """
import resource
import sys
import numpy as np
from precompute.allocation import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(2):
    np.ones(10_000_000)  # 80 MB, dropped at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """How many pages the system had to provide for an array as large as those before it."""
    command = [sys.executable, "-c", _SCRIPT, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library may not be told elsewhere")
def test_freed_memory_is_used_again() -> None:
    usual = faults("usual")
    assert usual > 100  # of whatever size pages are
    assert faults("kept") < usual / 10
