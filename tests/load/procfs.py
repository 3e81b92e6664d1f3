"""What a process and its children have used, as Linux counts it."""

import os
from pathlib import Path

__all__ = ["cpu_seconds", "pss_bytes", "tree"]

_TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def cpu_seconds(*pids: int) -> float:
    """Return the processor time that some processes have used, their children not included."""
    return sum(_ticks(process) for process in pids) / _TICK


def pss_bytes(pid: int) -> int:
    """Return the memory of a process tree, what is shared counted once (its PSS)."""
    return sum(_pss(process) for process in tree(pid))


def _ticks(pid: int) -> int:
    # The command's name, in parentheses, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
