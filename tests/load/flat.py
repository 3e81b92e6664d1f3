"""The flat costs: what an answer costs must not grow with what there is.

Sections `listened`, `catalogue` and `listeners`; in each the small case and the large ones
take turns, at one connection and at 32.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from redis import Redis

from recsvc.redis.keys import Keys
from tests.load.figures import Key
from tests.load.measures import measure_closed, warm
from tests.load.seeding import copy_session, make_session
from tests.load.servers import service, valkey
from tests.load.stage import Stage, Target
from tests.load.store import Store
from tests.load.synthetic import make_table
from tests.load.traffic import Traffic

__all__ = ["NEIGHBOURS", "measure_catalogue", "measure_listened", "measure_listeners", "sized"]

NEIGHBOURS = 50
_LISTENERS = 10_000
_SMALLEST = 1_000
_PERSONAL_OF_MANY = 20  # tracks, so that a million lists fit into a table of a usual size


def sized(stage: Stage, tracks: int) -> Store:
    """Return a store with a table of that size in it, published if it is not yet."""
    store = Store(stage.valkey, f"bench-{tracks}")
    with Redis.from_url(store.url) as redis:
        published = redis.exists(Keys(store.prefix).live)
    if not published:
        stage.say(f"publishing {tracks:,} tracks x {NEIGHBOURS}")
        store.publish(make_table(tracks, neighbours=NEIGHBOURS, users=_LISTENERS))
    return store


def measure_listened(stage: Stage) -> None:
    """Measure sessions that have heard nothing yet, against ever longer ones."""
    store = sized(stage, 50_000)
    directory = stage.directory / "listened"
    directory.mkdir()
    with service(stage.cores.service, directory, store) as server:
        targets, refresh = [], {}
        for at, length in enumerate(stage.pace.listened):
            # So many that few of 32 calls are of one listener, for those cannot go together; and
            # so few of long sessions that they fit. All have a personal list.
            count = 2_000 if length < 1_000 else 256 if length < 100_000 else 64
            traffic = Traffic(first=2_000 * at, users=count, tracks=50_000)
            target = Target(f"{length:,} listened", server, traffic, store)
            model = 9_000 + at
            make_session(target, model, length)
            targets.append(target)
            again = _copier(store, model, traffic)
            again()
            if length < 10_000:  # while they are measured longer ones hardly grow
                refresh[target.name] = again
        warm(stage, targets[0])
        _take_turns(stage, "listened", targets, refresh)


def _copier(store: Store, model: int, traffic: Traffic) -> Callable[[], None]:
    return lambda: copy_session(store, model, traffic.first, traffic.users)


def measure_catalogue(stage: Stage) -> None:
    """Measure a small catalogue against ever larger ones."""
    sizes = [_SMALLEST, 50_000, stage.pace.tracks]
    with ExitStack() as stack:
        targets = []
        for tracks in dict.fromkeys(sizes):
            store = sized(stage, tracks)
            directory = stage.directory / f"catalogue-{tracks}"
            directory.mkdir()
            running = service(stage.cores.service, directory, store)
            traffic = Traffic(first=0, users=_LISTENERS, tracks=tracks)
            name = f"{tracks:,} tracks"
            targets.append(Target(name, stack.enter_context(running), traffic, store))
        for target in targets:
            warm(stage, target)
        _take_turns(stage, "catalogue", targets, {})


def measure_listeners(stage: Stage) -> None:
    """Measure a service with few sessions in its Redis against one with a great many."""
    many = stage.pace.listeners
    table = make_table(
        50_000, neighbours=NEIGHBOURS, users=many, personal=_PERSONAL_OF_MANY, seed=1
    )
    with ExitStack() as stack:
        targets = []
        for listeners in (_SMALLEST, many):
            directory = stage.directory / f"listeners-{listeners}"
            directory.mkdir()
            url = stack.enter_context(valkey(directory))
            store = Store(url, "bench")
            store.publish(table)
            running = service(stage.cores.service, directory, store)
            traffic = Traffic(first=0, users=listeners, tracks=50_000)
            target = Target(
                f"{listeners:,} listeners", stack.enter_context(running), traffic, store
            )
            make_session(target, 0, 0)
            stage.say(f"seeding {listeners:,} sessions")
            copy_session(store, 0, 1, listeners - 1)
            targets.append(target)
        for target in targets:
            warm(stage, target)
        _take_turns(stage, "listeners", targets, {})


def _take_turns(
    stage: Stage,
    section: str,
    targets: Sequence[Target],
    refresh: dict[str, Callable[[], None]],
) -> None:
    """Measure all targets in turns; relate the cost of each to that of the first."""
    for _ in range(stage.pace.rounds):
        for connections in (1, 32):
            for target in targets:
                refresh.get(target.name, lambda: None)()
                measure_closed(stage, section, target, connections, seconds=1)
    small, *others = (target.name for target in targets)
    for name in others:
        stage.results.ratio(
            f"{name}: p50 at 1 connection, against {small}",
            Key(section, name, "1 connection", "p50"),
            Key(section, small, "1 connection", "p50"),
            more=False,
        )
        stage.results.ratio(
            f"{name}: cost of an answer at 32 connections, against {small}",
            Key(section, small, "32 connections", "rate"),
            Key(section, name, "32 connections", "rate"),
            more=False,
        )
        stage.results.ratio(
            f"{name}: processor time of an answer with Redis, against {small}",
            Key(section, name, "32 connections", "with Redis"),
            Key(section, small, "32 connections", "with Redis"),
            more=False,
        )
