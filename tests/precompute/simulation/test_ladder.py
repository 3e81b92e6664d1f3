"""The whole loop on a small world, twice: it works, and a seed decides it."""

from pathlib import Path

import orjson
import pytest

from precompute.simulation.ladder import run_ladder


def run(directory: Path) -> list[tuple[int, int, float, str]]:
    run_ladder(directory, tracks=400, listeners=120, cold_sessions=2, family="genres", seed=3)
    lines = (directory / "events.jsonl").read_bytes().splitlines()
    events = [orjson.loads(line) for line in lines]
    return sorted((e["user"], e["track"], e["time"], e["experiments"]["LADDER"]) for e in events)


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_the_loop_closes_and_a_seed_decides_it(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    assert first == run(tmp_path / "second")
    assert len({treatment for *_, treatment in first}) == 10
    report = (tmp_path / "first" / "report" / "report.md").read_text()
    assert "mean_time_per_session | ensemble | mean" in report
    assert "mean_time_per_session | oracle | mean" in report
    assert (tmp_path / "first" / "report" / "report.png").stat().st_size > 10_000
