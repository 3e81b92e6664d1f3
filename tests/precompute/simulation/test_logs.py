"""Logs on a simulated clock: what they say is what was played."""

from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet
import pytest

from precompute import log as log_reader
from precompute.simulation.batch import Plays, simulate
from precompute.simulation.demo import write_demo
from precompute.simulation.generate import generate
from precompute.simulation.logs import columns, write_catalogue, write_log
from precompute.simulation.policies import RandomTracks, TasteMix
from precompute.simulation.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return generate(400, 120, seed=8)


@pytest.fixture(scope="module")
def plays(world: World) -> Plays:
    return simulate(world, TasteMix(world, 1), seed=2, sessions=3)


def test_every_heard_track_is_one_event(world: World, plays: Plays, tmp_path: Path) -> None:
    count = write_log(tmp_path / "log.jsonl", world, plays, policy="taste")
    events = [orjson.loads(line) for line in (tmp_path / "log.jsonl").read_bytes().splitlines()]
    assert len(events) == count == plays.lengths.sum()
    runs: dict[str, list[dict[str, object]]] = {}
    for event in events:
        runs.setdefault(event["session"], []).append(event)
    assert len(runs) == len(plays.sessions) == 360
    for row in range(len(plays.sessions)):
        user = int(world.listeners.users[plays.sessions.listeners[row]])
        run = runs[f"{user}-{plays.sessions.numbers[row]}"]
        length = int(plays.lengths[row])
        heard = world.catalogue.tracks[plays.tracks[row, :length]].tolist()
        assert [event["track"] for event in run] == heard
        assert [event["recommendation"] for event in run] == [*heard[1:], None]
        assert [event["message"] for event in run] == ["next"] * (length - 1) + ["last"]
        assert [event["position"] for event in run] == list(range(length))
        assert {event["user"] for event in run} == {user}
        times = [event["time"] for event in run]
        np.testing.assert_allclose(np.array(times, dtype=float), plays.times[row, :length])


def test_the_clock_tells_sessions_apart(world: World, plays: Plays) -> None:
    data = columns(world, plays)
    assert (np.diff(data["timestamp"]) >= 0).all()
    order = np.lexsort((data["timestamp"], data["user"]))
    user, session = data["user"][order], data["session"][order]
    gap = np.diff(data["timestamp"][order])
    same_session = session[1:] == session[:-1]
    assert gap[same_session].min() > 0
    assert gap[same_session].max() <= 181_000
    assert gap[~same_session & (user[1:] == user[:-1])].min() > 30 * 60_000


def test_the_trainer_reads_both_forms_alike(world: World, plays: Plays, tmp_path: Path) -> None:
    write_log(tmp_path / "log.jsonl", world, plays, policy="random", propensity=0.0025)
    write_log(tmp_path / "log.parquet", world, plays, policy="random", propensity=0.0025)
    lines, table = (log_reader.read(tmp_path / name) for name in ("log.jsonl", "log.parquet"))
    assert lines.broken == table.broken == 0
    for name in ("timestamp", "user", "track", "time", "is_last", "recommendation"):
        np.testing.assert_array_equal(getattr(lines, name), getattr(table, name))
    read = pyarrow.parquet.read_table(tmp_path / "log.parquet")
    last = np.array(read["message"]) == "last"
    chances = read["propensity"].to_pylist()
    assert [chance is None for chance in chances] == last.tolist()
    assert {chance for chance in chances if chance is not None} == {0.0025}


def test_catalogue_gives_nothing_of_the_world_away(world: World, tmp_path: Path) -> None:
    write_catalogue(tmp_path / "catalogue.jsonl", world)
    lines = (tmp_path / "catalogue.jsonl").read_bytes().splitlines()
    assert len(lines) == 400
    assert all(orjson.loads(line).keys() == {"track", "artist", "title"} for line in lines)


def test_demo_has_signal_and_is_the_same_each_time(tmp_path: Path) -> None:
    made = write_demo(tmp_path / "a", tracks=500, listeners=300, sessions=4)
    again = write_demo(tmp_path / "b", tracks=500, listeners=300, sessions=4)
    assert made.log.read_bytes() == again.log.read_bytes()
    assert made.catalogue.read_bytes() == again.catalogue.read_bytes()
    events = [orjson.loads(line) for line in made.log.read_bytes().splitlines()]
    assert len(events) == made.events
    world = generate(500, 300, seed=0)
    floor = simulate(world, RandomTracks(world, 0), seed=0, sessions=4)
    later = [event["time"] for event in events if event["position"] > 0]
    assert np.mean(later) > 1.5 * floor.times[:, 1:].sum() / (floor.lengths - 1).sum()
