"""The whole loop on a small world: it closes. That a seed decides it, its parts are held to."""

from pathlib import Path

import orjson
import pytest

from precompute.simulation.ladder import Trial, run_ladder
from recsvc import artifact

TRIAL = Trial(
    tracks=400,
    listeners=120,
    cold_sessions=2,
    rounds=1,
    round_listeners=20,
    family="genres",
    seed=3,
)


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_the_loop_closes(tmp_path: Path) -> None:
    run_ladder(tmp_path, TRIAL)
    events = [orjson.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert len({event["experiments"]["LADDER"] for event in events}) == 11
    served = {
        orjson.loads(line)["policy"]
        for line in (tmp_path / "round-1.jsonl").read_bytes().splitlines()
    }
    assert served == {"session"}
    first, last = (artifact.read(tmp_path / f"artifact-{n}")[0] for n in (0, 1))
    assert last.metrics["events"] > first.metrics["events"]
    report = (tmp_path / "report" / "report.md").read_text()
    for policy in ("ensemble", "session", "oracle"):
        assert f"mean_time_per_session | {policy} | mean" in report
    assert (tmp_path / "report" / "report.png").stat().st_size > 10_000
    assert not (tmp_path / "report-absent").exists()  # of one listener a treatment
