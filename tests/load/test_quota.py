"""A share of a core is no more than that, and only as long as it is asked for."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.load.errors import LoadError
from tests.load.procfs import cpu_seconds
from tests.load.quota import _home, _limits, _root, limited

V1 = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
"""
V2 = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"


def test_a_busy_process_gets_its_share_and_then_all_again() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            cgroup = Path(f"/proc/{busy.pid}/cgroup")
            home = cgroup.read_text()
            try:
                with limited([busy.pid], 0.25):
                    assert cgroup.read_text() != home
                    before, started = cpu_seconds(busy.pid), time.monotonic()
                    time.sleep(1.0)
                    used, took = cpu_seconds(busy.pid) - before, time.monotonic() - started
            except LoadError as error:
                pytest.skip(str(error))
            assert used < 0.5 * took
            assert cgroup.read_text() == home
        finally:
            busy.kill()


def test_the_hierarchy_that_shares_out_the_processor_is_found() -> None:
    assert _root(V1) == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert _root(V2) == Path("/sys/fs/cgroup")
    with pytest.raises(LoadError, match="no control groups"):
        _root("proc /proc proc rw 0 0\n")


def test_a_process_goes_back_where_it_was() -> None:
    assert _home("4:memory:/a\n1:cpu,cpuacct:/b/c\n0::/d\n") == "b/c"
    assert _home("0::/user.slice/session-1.scope\n") == "user.slice/session-1.scope"


def test_a_limit_is_written_as_each_version_has_it(tmp_path: Path) -> None:
    assert _limits(tmp_path, 0.25) == {"cpu.max": "1250 5000"}
    (tmp_path / "cpu.cfs_quota_us").touch()
    assert _limits(tmp_path, 0.25) == {"cpu.cfs_period_us": "5000", "cpu.cfs_quota_us": "1250"}
