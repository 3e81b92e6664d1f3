"""A small log and its catalogue, made in seconds, so that a demo needs no data."""

from dataclasses import dataclass
from pathlib import Path

from precompute.simulation.batch import simulate
from precompute.simulation.generate import generate
from precompute.simulation.logs import write_catalogue, write_log
from precompute.simulation.policies import TasteMix

__all__ = ["Demo", "write_demo"]


@dataclass(frozen=True, slots=True)
class Demo:
    """What was written: two files and how much is in them."""

    log: Path
    catalogue: Path
    tracks: int
    listeners: int
    events: int


def write_demo(
    directory: Path,
    *,
    tracks: int = 5000,
    listeners: int = 2000,
    sessions: int = 10,
    family: str = "genres",
    seed: int = 0,
) -> Demo:
    """Write `log.jsonl` and `catalogue.jsonl`; the defaults give about 200,000 events.

    Half of what was recommended in the log is near the listener's taste, half is random,
    so that a model trained from it has neighbours that make sense to a person.
    """
    world = generate(tracks, listeners, family=family, seed=seed)
    plays = simulate(world, TasteMix(world, seed), seed=seed, sessions=sessions)
    log, catalogue = directory / "log.jsonl", directory / "catalogue.jsonl"
    events = write_log(log, world, plays, policy="demo")
    write_catalogue(catalogue, world)
    return Demo(log, catalogue, tracks, listeners, events)
