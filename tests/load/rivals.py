"""The sections `closed` and `open`: the service between the ceiling and the classical shape."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import httpx
from redis import Redis

from recsvc.recommenders.session import SESSION
from tests.load import classical as baseline
from tests.load.errors import LoadError
from tests.load.figures import Key
from tests.load.measures import measure_closed, measure_open, peak, warm
from tests.load.servers import ceiling, classical, service
from tests.load.stage import Stage, Target
from tests.load.store import Store
from tests.load.synthetic import make_table
from tests.load.traffic import Traffic

__all__ = ["CEILING", "CLASSICAL", "measure_rivals"]

CEILING = "ceiling"
CLASSICAL = "classical"

_CONNECTIONS = (1, 32, 128)
_SHARES = (0.25, 0.5, 0.8)  # of the peak, of open loops
_DIMENSIONS = 48  # of the session model, as it is trained by default
_TRAFFIC = Traffic(first=0, users=10_000, tracks=50_000)


def measure_rivals(stage: Stage, sections: set[str]) -> None:
    """Measure closed loops, open loops, or both."""
    with _rivals(stage) as targets:
        if "closed" in sections:
            _closed(stage, targets)
        if "open" in sections:
            _open(stage, targets)


@contextmanager
def _rivals(stage: Stage) -> Iterator[list[Target]]:
    """Start the ceiling, the classical service, and a service for each policy."""
    stage.say("starting the ceiling, the classical service and the policies")
    table = make_table(_TRAFFIC.tracks, users=_TRAFFIC.users, dimensions=_DIMENSIONS)
    with Redis.from_url(stage.valkey) as store:
        baseline.publish(table, store)
    cores = stage.cores.service
    with ExitStack() as stack:
        log = stage.directory / "classical.log"
        bare = stack.enter_context(ceiling(cores))
        plain = stack.enter_context(classical(cores, stage.valkey, log))
        targets = [Target(CEILING, bare, _TRAFFIC), Target(CLASSICAL, plain, _TRAFFIC)]
        for policy in stage.policies:
            store_of = Store(stage.valkey, f"bench-{policy}")
            store_of.publish(table)
            directory = stage.directory / policy
            directory.mkdir(exist_ok=True)
            server = stack.enter_context(service(cores, directory, store_of, policy=policy))
            targets.append(Target(policy, server, _TRAFFIC, store_of))
            if policy == SESSION:
                _require_own_answer(targets[-1])
        for target in targets:
            warm(stage, target)
        yield targets


def _require_own_answer(target: Target) -> None:
    """Raise `LoadError` when `session` leaves its answers to others: those cost far less."""
    with httpx.Client(base_url=f"http://127.0.0.1:{target.server.port}") as api:
        answer = api.post(f"/next/{_TRAFFIC.first}", json={"track": 0, "time": 1.0}).json()
    if answer["recommender"] != SESSION:
        raise LoadError(f"the policy {SESSION} was answered by {answer['recommender']}")


def _closed(stage: Stage, targets: Sequence[Target]) -> None:
    for _ in range(stage.pace.rounds):
        for connections in _CONNECTIONS:
            for target in targets:
                measure_closed(stage, "closed", target, connections)
    for policy in stage.policies:
        for connections in _CONNECTIONS:
            load = f"{connections} connections" if connections > 1 else "1 connection"
            for base in (CEILING, CLASSICAL):
                _relate(stage, f"throughput at {load}", policy, base, load, "rate", more=True)
        for base in (CEILING, CLASSICAL):
            _relate(stage, "p50 at 1 connection", policy, base, "1 connection", "p50", more=False)
            what = "processor time of an answer at 32 connections"
            _relate(stage, what, policy, base, "32 connections", "processor", more=False)
    _relate_policies(stage)


def _relate(
    stage: Stage, what: str, case: str, base: str, load: str, metric: str, *, more: bool
) -> None:
    stage.results.ratio(
        f"{case}: {what}, against the {base}",
        Key("closed", case, load, metric),
        Key("closed", base, load, metric),
        more=more,
    )


def _relate_policies(stage: Stage) -> None:
    first, *others = stage.policies
    for policy in others:
        stage.results.ratio(
            f"{policy}: throughput at 32 connections, against {first}",
            Key("closed", policy, "32 connections", "rate"),
            Key("closed", first, "32 connections", "rate"),
            more=True,
        )


def _open(stage: Stage, targets: Sequence[Target]) -> None:
    rates = {target.name: peak(stage, target) for target in targets}
    first = stage.policies[0]
    half = _name(0.5)
    for _ in range(stage.pace.rounds):
        for target in targets:
            if target.name == CEILING:  # what the generator itself adds
                name = f"the half of {first}'s peak"
                measure_open(stage, "open", target, 0.5 * rates[first], name)
            else:
                for share in _SHARES if target.name in stage.policies else (0.5,):
                    rate = share * rates[target.name]
                    measure_open(stage, "open", target, rate, _name(share))
    for case in (*stage.policies, CLASSICAL):
        stage.results.ratio(
            f"{case}: p99 at {half}, against its p50",
            Key("open", case, half, "p99"),
            Key("open", case, half, "p50"),
            more=False,
        )


def _name(share: float) -> str:
    return f"{share:.0%} of peak"
