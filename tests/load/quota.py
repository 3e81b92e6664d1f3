"""Gives processes a share of a core each, so that several of them fit beside all else that runs.

By control groups of Linux, of either version; it takes root.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.load.errors import LoadError

__all__ = ["limited"]

_PERIOD = 5_000  # microseconds, after which there is a share again; a share is 1,000 at least


@contextmanager
def limited(pids: Sequence[int], share: float) -> Iterator[None]:
    """Let each of some processes use no more than this share of a core meanwhile.

    Raises `LoadError` where that is not possible.
    """
    root = _root(Path("/proc/mounts").read_text())
    with ExitStack() as stack:
        try:
            for pid in pids:
                stack.enter_context(_alone(pid, root, share))
        except OSError as error:
            raise LoadError(f"no share of a core can be given: {error}") from None
        yield


@contextmanager
def _alone(pid: int, root: Path, share: float) -> Iterator[None]:
    """Put a process into a group of its own, and back where it was."""
    home = root / _home(Path(f"/proc/{pid}/cgroup").read_text())
    group = root / f"recsvc-bench-{os.getpid()}-{pid}"
    group.mkdir()
    try:
        for name, text in _limits(group, share).items():
            (group / name).write_text(text)
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended
            (home / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def _root(mounts: str) -> Path:
    """Return where processor time is shared out: version 1 if that does it, else version 2."""
    found = {}
    for line in mounts.splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            found[kind] = Path(place)
    for kind in ("cgroup", "cgroup2"):
        if kind in found:
            return found[kind]
    raise LoadError("no share of a core can be given: there are no control groups for it")


def _home(groups: str) -> str:
    """Return the group that a process is in, from the lines of its /proc/.../cgroup."""
    homes = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        homes["cpu" if "cpu" in controllers.split(",") else controllers] = path
    return homes.get("cpu", homes.get("", "/")).lstrip("/")


def _limits(group: Path, share: float) -> dict[str, str]:
    quota = round(share * _PERIOD)
    if (group / "cpu.cfs_quota_us").exists():
        return {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)}
    return {"cpu.max": f"{quota} {_PERIOD}"}
