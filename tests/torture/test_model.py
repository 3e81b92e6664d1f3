"""Any calls in any order, against a model in plain Python that knows only the rules."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from recsvc.policy import CATALOGUE, OLDEST, Pool
from recsvc.recommenders.ensemble import Ensemble
from recsvc.recommenders.source import Source
from recsvc.redis.embedded import embedded_server
from tests.processes import Served, recsvc, serve, write_artifact
from tests.support import small_table
from tests.torture.conftest import Report

SIZE = 12
TRACKS = st.integers(0, SIZE + 6)  # some are in one table only, some in none
TIMES = st.sampled_from([0.0, 0.3, 0.69, 0.7, 1.0])
WHO = st.integers(0, 2)
DICE = st.integers(0, 1 << 16)


class Server:
    """A real service with two tables, which a run may restart and swap."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        self.restarts = 0
        self._running = ExitStack()
        self._served: Served | None = None
        self.api = httpx.Client()
        tables = [small_table(SIZE, first=first, users=tuple(range(30_000))) for first in (0, 4)]
        self.sources = {}
        for n, table in enumerate(tables):
            version = write_artifact(directory / str(n), table)
            self.sources[version] = Source(table, version)
            self._command("publish", "--force", directory / str(n))
        self.live = version
        self.start()

    @property
    def source(self) -> Source:
        return self.sources[self.live]

    def start(self) -> None:
        self._served = self._running.enter_context(
            serve(self.directory, redis_url=self.url, table_poll=0.05, deadline=5, redis_timeout=4)
        )
        self.api = self._running.enter_context(httpx.Client(base_url=self._served.url, timeout=10))
        self.adopted()

    def restart(self, *, kill: bool) -> None:
        assert self._served is not None
        if kill:
            self._served.process.kill()
        self.stop()
        self.start()
        self.restarts += 1

    def stop(self) -> None:
        self._running.close()

    def swap(self) -> None:
        """Publish, or roll back to, the other table."""
        self._command("rollback")
        (self.live,) = self.sources.keys() - {self.live}
        self.adopted()

    def adopted(self) -> None:
        for _ in range(2000):
            if self.api.get("/").json()["table_version"] == self.live:
                return
        raise AssertionError("the table was not adopted")

    def _command(self, *arguments: object) -> None:
        done = recsvc(self.directory, *arguments, redis_url=self.url)
        assert done.returncode == 0, done.stderr


@dataclass(slots=True)
class Listener:
    """What the rules say that a listener's session holds."""

    user: int
    heard: list[int] = field(default_factory=list)  # in the order in which they were last heard
    last: str | None = None
    session: str | None = None
    position: int = 0
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def end(self) -> None:
        self.heard, self.last, self.session, self.position = [], None, None, 0

    def hear(self, *tracks: int) -> None:
        for track in tracks:
            if track in self.heard:
                self.heard.remove(track)
            self.heard.append(track)


def expected(
    source: Source, who: Listener, track: int, time: float
) -> tuple[str, dict[int, float]]:
    """Say who is to answer, and with which probability each track is to come."""
    gone = {*who.heard, track}
    plan = Ensemble().plan(source, who.user, track, time, Random(0))
    for index in plan.routes.after(who.last):
        pool = plan.pools[index]
        assert isinstance(pool, Pool)
        offered = zip(pool.candidates.tracks, pool.candidates.weights, strict=True)
        left = {t: weight for t, weight in offered if t not in gone}
        if left:
            return pool.recommender, {t: w / sum(left.values()) for t, w in left.items()}
    catalogue = source.table.tracks.tolist()
    unheard = [t for t in catalogue if t not in gone]
    if unheard:
        return CATALOGUE, dict.fromkeys(unheard, 1 / len(unheard))
    known = [t for t in who.heard if t in catalogue and t != track]
    return OLDEST, {(known or [track])[0]: 1.0}


class Calls(RuleBasedStateMachine):
    """Three listeners, every call there is, and operators who meddle."""

    server: ClassVar[Server]
    users: ClassVar[Iterator[int]] = count()
    steps: ClassVar[int] = 0
    rare: ClassVar[int] = 1  # of how many chances operators take one

    @initialize()
    def begin(self) -> None:
        self.listeners = [Listener(next(self.users)) for _ in range(3)]

    @rule(who=WHO, track=TRACKS, time=TIMES)
    def next(self, who: int, track: int, time: float) -> None:
        self._next(self.listeners[who], track, time, {})

    @rule(who=WHO, time=TIMES)
    def next_of_what_was_served(self, who: int, time: float) -> None:
        listener = self.listeners[who]
        self._next(listener, listener.heard[-1] if listener.heard else 0, time, {})

    @rule(who=WHO, track=TRACKS, time=TIMES, key=st.sampled_from("abc"))
    def next_with_key(self, who: int, track: int, time: float, key: str) -> None:
        listener = self.listeners[who]
        if key in listener.keys:
            report = {"track": track, "time": time}
            again = self._call("POST", f"/next/{listener.user}", report, {"idempotency-key": key})
            assert again.json() == listener.keys[key]
        else:
            headers = {"idempotency-key": key}
            listener.keys[key] = self._next(listener, track, time, headers)

    @rule(who=WHO, track=TRACKS, time=TIMES)
    def last(self, who: int, track: int, time: float) -> None:
        listener = self.listeners[who]
        ended = self._call("POST", f"/last/{listener.user}", {"track": track, "time": time})
        assert (ended.status_code, ended.json()) == (200, {"user": listener.user})
        listener.end()

    @rule(who=WHO, track=TRACKS, time=TIMES)
    def explain(self, who: int, track: int, time: float) -> None:
        listener = self.listeners[who]
        report = {"track": track, "time": time}
        told = self._call("POST", f"/explain/{listener.user}", report).json()
        recommender, chances = expected(self.server.source, listener, track, time)
        if recommender not in (CATALOGUE, OLDEST):
            (pool,) = [p for p in told["pools"] if p["answers"]]
            assert pool["recommender"] == recommender
            said = {c["track"]: c["probability"] for c in pool["candidates"] if c["probability"]}
            assert said == pytest.approx(chances)

    @rule(who=WHO)
    def forget(self, who: int) -> None:
        listener = self.listeners[who]
        receipt = self._call("DELETE", f"/user/{listener.user}").json()
        assert receipt["session"] == (listener.session is not None)
        again = self._call("DELETE", f"/user/{listener.user}").json()
        assert not again["session"]
        # Whoever was forgotten has no personal list any more: go on with somebody else.
        self.listeners[who] = Listener(next(self.users))

    @rule(dice=DICE)
    def swap(self, dice: int) -> None:
        if dice % self.rare == 1:
            self.server.swap()

    @rule(dice=DICE, kill=st.booleans())
    def restart(self, dice: int, kill: bool) -> None:
        if dice % self.rare == 1:
            self.server.restart(kill=kill)

    @invariant()
    def sessions_are_as_the_model_says(self) -> None:
        for listener in getattr(self, "listeners", [])[:1]:
            stored = self._call("GET", f"/user/{listener.user}")
            if listener.session is None:
                assert stored.status_code == 404
                continue
            session = stored.json()
            assert session["id"] == listener.session
            assert session["position"] == listener.position
            assert session["recommender"] == listener.last
            assert session["listened"] == len(listener.heard)
            assert session["served"] == listener.heard[-1]

    def _next(
        self, listener: Listener, track: int, time: float, headers: dict[str, str]
    ) -> dict[str, Any]:
        recommender, chances = expected(self.server.source, listener, track, time)
        report = {"track": track, "time": time}
        response = self._call("POST", f"/next/{listener.user}", report, headers)
        answer: dict[str, Any] = response.json()
        assert not answer["degraded"]
        assert answer["user"] == listener.user
        assert answer["table_version"] == self.server.live
        assert answer["recommender"] == recommender
        assert answer["track"] in chances
        assert answer["propensity"] == pytest.approx(chances[answer["track"]])
        assert answer["position"] == listener.position
        assert listener.session in (None, answer["session"])
        listener.hear(track, answer["track"])
        listener.session, listener.last = answer["session"], recommender
        listener.position += 1
        return answer

    def _call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        type(self).steps += 1
        return self.server.api.request(method, path, json=body, headers=headers)


@contextmanager
def serving() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as name, embedded_server(Path(name) / "store") as url:
        server = Server(Path(name), url)
        try:
            yield server
        finally:
            server.stop()


def _run(report: Report, runs: int, rare: int) -> None:
    with serving() as server:
        Calls.server, Calls.users, Calls.steps = server, count(), 0
        Calls.rare = rare
        run(
            Calls,
            settings=settings(
                max_examples=runs,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        report(
            "A model test", f"{runs} runs of up to 30 steps, {server.restarts} restarts",
            f"{Calls.steps:,} calls, no divergence",
        )  # fmt: skip


def test_calls_in_any_order(report: Report) -> None:
    _run(report, 30, 30)


@pytest.mark.torture
def test_calls_in_any_order_in_full(report: Report) -> None:
    _run(report, 2000, 400)
