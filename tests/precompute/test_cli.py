import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precompute.cli import app
from recsvc import artifact
from tests.precompute import listeners

run = CliRunner()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("input")
    log, catalogue = listeners.make_log(300), listeners.catalogue()
    columns = (log.timestamp, log.user, log.track, log.time, log.is_last)
    with (folder / "log.jsonl").open("w") as file:
        for when, user, track, time, last in zip(*(c.tolist() for c in columns), strict=True):
            event = {"timestamp": when, "user": user, "track": track, "time": time}
            file.write(json.dumps(event | {"message": "last" if last else "next"}) + "\n")
        file.write("broken\n")
    with (folder / "tracks.json").open("w") as file:
        for index, track in enumerate(catalogue.tracks.tolist()):
            artist = catalogue.artists[int(catalogue.artist[index])]
            entry = {"track": track, "artist": artist, "title": catalogue.titles[index]}
            file.write(json.dumps(entry) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(files: Path) -> Path:
    arguments = ["train", "--log", files / "log.jsonl", "--catalogue", files / "tracks.json"]
    arguments += ["--output", files / "artifact", "--dimensions", "4"]
    result = run.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    version = artifact.read(files / "artifact")[0].version
    assert f"version {version}" in result.stdout
    assert "2,400 in 300 sessions" in result.stdout
    assert "1 of 2,401 lines are broken" in result.stderr
    assert "log.jsonl:2401: not JSON" in result.stderr
    assert "contextual model" in result.stderr  # the progress
    return files / "artifact"


def test_show_prints_the_manifest_and_lists_with_names(trained: Path) -> None:
    result = run.invoke(app, ["show", str(trained), "--track", "30", "--listener", "1"])
    assert result.exit_code == 0, result.output
    assert "after 30: Song 3 (Artist 3)" in result.stdout
    assert "for listener 1" in result.stdout
    assert artifact.read(trained)[0].version in result.stdout


@pytest.mark.parametrize("option", ["--track", "--listener"])
def test_show_says_when_there_is_no_such_thing(trained: Path, option: str) -> None:
    result = run.invoke(app, ["show", str(trained), option, "99999"])
    assert result.exit_code == 1
    assert "99999 is not in the table" in result.stderr
    assert "Traceback" not in result.output


def test_train_is_quiet_when_asked_and_needs_no_catalogue(files: Path, tmp_path: Path) -> None:
    arguments = ["train", "--log", str(files), "--output", str(tmp_path / "a"), "--quiet"]
    result = run.invoke(app, [*arguments, "--epochs", "1", "--threads", "2"])
    # The catalogue lies in the same directory and is no log: all of its lines are broken.
    assert result.exit_code == 1
    assert "error: 121 of 2,521 lines are broken" in result.stderr
    arguments[2] = str(files / "log.jsonl")
    result = run.invoke(app, [*arguments, "--epochs", "1", "--threads", "2"])
    assert result.exit_code == 0, result.output
    assert "contextual model" not in result.stderr


def test_errors_are_one_clear_line(tmp_path: Path) -> None:
    result = run.invoke(app, ["train", "--log", str(tmp_path / "no"), "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.strip() == f"error: {tmp_path / 'no'} does not exist"
    result = run.invoke(app, ["show", str(tmp_path)])
    assert result.exit_code == 1
    assert "is not an artifact" in result.stderr


def test_an_output_that_cannot_be_written_is_told_before_the_training(files: Path) -> None:
    arguments = ["train", "--log", str(files / "log.jsonl"), "--output"]
    result = run.invoke(app, [*arguments, str(files / "log.jsonl" / "artifact")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: [Errno 20] Not a directory")
    assert "read log" not in result.stderr


@pytest.mark.parametrize(
    "option", [("--temperature", "0"), ("--seed", str(2**64)), ("--threads", "1000000")]
)
def test_a_wrong_option_is_a_usage_error(option: tuple[str, str]) -> None:
    result = run.invoke(app, ["train", "--log", "x", "--output", "y", *option])
    assert result.exit_code == 2


def test_the_largest_seed_trains(files: Path, tmp_path: Path) -> None:
    arguments = ["train", "--log", str(files / "log.jsonl"), "--output", str(tmp_path)]
    result = run.invoke(app, [*arguments, "--epochs", "1", "--seed", str(2**64 - 1)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", [[], ["train"], ["show"]])
def test_help_reads(command: list[str]) -> None:
    result = run.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout
