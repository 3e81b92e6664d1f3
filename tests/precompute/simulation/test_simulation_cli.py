"""The commands, as a person runs them."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from precompute import log
from precompute.simulation.cli import app
from precompute.simulation.world import World

runner = CliRunner()


def run(*arguments: object, expected: int = 0) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == expected, result.output
    return result.output


def test_world_then_cold_log(tmp_path: Path) -> None:
    world = tmp_path / "world"
    made = run("world", "--output", world, "--tracks", 300, "--listeners", 50, "--family", "smooth")
    assert "300 tracks" in made
    assert len(World.load(world).listeners) == 50
    cold = tmp_path / "log.jsonl"
    told = run("listen", "--world", world, "--output", cold, "--sessions", 2, "--listeners", 20)
    events = [orjson.loads(line) for line in cold.read_bytes().splitlines()]
    assert f"{len(events):,} events" in told
    assert len({event["session"] for event in events}) == 40
    assert {event["propensity"] for event in events if event["message"] == "next"} == {1 / 300}
    best = run("listen", "--world", world, "--output", tmp_path / "o.jsonl", "--policy", "oracle")
    assert float(best.split()[-1]) > 2 * float(told.split()[-1])


def test_a_service_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    run("world", "--output", tmp_path, "--tracks", 200, "--listeners", 5)
    told = run("simulate", "--world", tmp_path, "--url", "http://127.0.0.1:1", expected=1)
    assert "5 sessions failed" in told


def test_a_world_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    told = run("listen", "--world", tmp_path / "no", "--output", tmp_path / "x", expected=1)
    assert told.startswith("error: ")
    assert "tracks.json" in told


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("small")
    run("world", "--output", world, "--tracks", 200, "--listeners", 5)
    return world


def test_an_output_that_cannot_be_written_is_one_line(small: Path) -> None:
    file = small / "tracks.json"
    for command in (
        ["listen", "--world", small, "--output", small],
        ["listen", "--world", small, "--output", file / "log.jsonl"],
        ["simulate", "--world", small, "--log", small],
        ["demo-log", "--output", file, "--tracks", 200, "--listeners", 5],
    ):
        assert run(*command, expected=1).splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("url", ["ftp://x", "http://h:99999", "http://h:abc", "http://[::1", ""])
def test_what_is_no_address_is_one_line(small: Path, url: str) -> None:
    told = run("simulate", "--world", small, "--url", url, expected=1)
    assert told.splitlines()[-1].startswith(f"error: not an http address: {url}")


@pytest.mark.parametrize("name", ["log.parquet", "log.pq"])
def test_an_experiment_is_not_dropped_in_silence(small: Path, name: str) -> None:
    arguments = ["listen", "--world", small, "--output", small / name]
    assert "Parquet" in run(*arguments, "--experiment", "X", expected=2)
    assert not (small / name).exists()
    run(*arguments)
    assert len(log.read(small / name)) > 5


@pytest.mark.parametrize("command", ["listen", "simulate"])
def test_listeners_of_whom_none_is_left_are_refused(small: Path, command: str) -> None:
    output = ["--output", small / "log.jsonl"] if command == "listen" else []
    told = run(command, "--world", small, "--skip", 5, *output, expected=1)
    assert told == "error: no listener is left when 5 are left out\n"
    assert not (small / "log.jsonl").exists()


@pytest.mark.parametrize("command", ["world", "listen", "demo-log"])
def test_a_negative_seed_is_a_usage_error(small: Path, command: str) -> None:
    world = ["--world", small] if command == "listen" else []
    run(command, *world, "--output", small / "new", "--seed", -1, expected=2)


def test_demo_log(tmp_path: Path) -> None:
    told = run("demo-log", "--output", tmp_path, "--tracks", 200, "--listeners", 20)
    assert "200 tracks" in told
    assert (tmp_path / "log.jsonl").stat().st_size > 1000
    assert (tmp_path / "catalogue.jsonl").stat().st_size > 1000
