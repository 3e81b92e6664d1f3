"""The service against a store written by hand: what it asks, and what it answers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from recsvc.draws import Draws
from recsvc.errors import StoreUnavailableError
from recsvc.experiment import Experiment, Experiments, Treatment
from recsvc.policy import CATALOGUE, CONTEXTUAL, OLDEST, PERSONAL, POPULAR, settle
from recsvc.recommenders.registry import Policies, make_policies
from recsvc.recommenders.source import Source
from recsvc.service import Answer, Service
from recsvc.session import Claim, Claimed, Exhausted, Moved, Receipt, Report, Session
from recsvc.table import Table, empty
from tests.support import small_table


@dataclass
class MemorySessions:
    """Sessions in a dictionary, settled by the pure policy; it may also fail or be slow."""

    listened_by: dict[int, list[int]] = field(default_factory=dict)
    last_by: dict[int, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    fault: Exception | None = None
    delay: float = 0.0
    overtaken: int = 0
    counted: bool = True

    async def _reach(self) -> None:
        await asyncio.sleep(self.delay)
        if self.fault is not None:
            raise self.fault

    async def claim(self, claim: Claim) -> Claimed | Exhausted | Moved:
        await self._reach()
        if self.overtaken:
            self.overtaken -= 1
            return Moved()
        user, track = claim.report.user, claim.report.track
        order = self.listened_by.get(user, [])
        position = sum(e["user"] == user for e in self.events)
        gone = {*order, track}
        decision = settle(
            claim.plan, self.last_by.get(user), lambda ts: [t in gone for t in ts], len(gone)
        )
        if decision is None:
            return Exhausted(position, len(gone) if self.counted else None)
        served = (track, decision.track)
        self.listened_by[user] = [t for t in order if t not in served] + list(dict.fromkeys(served))
        self.last_by[user] = decision.recommender
        self.events.append({**claim.event, "recommendation": decision.track})
        return Claimed(
            track=decision.track,
            recommender=decision.recommender,
            propensity=decision.propensity,
            position=position,
            session="s",
            fallback=decision.fallback,
            policy=claim.policy,
            table_version=claim.table_version,
            request_id=claim.report.request_id,
        )

    async def finish(self, report: Report, event: Mapping[str, Any]) -> None:
        await self._reach()
        self.events.append(dict(event))

    async def read(self, user: int) -> Session | None:
        await self._reach()
        if user not in self.last_by:
            return None
        last = self.last_by[user]
        return Session("s", last, 1, 0, 0.5, 0, 0, 0, "ensemble", "v1", 2, 60.0)

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        await self._reach()
        return [track in self.listened_by.get(user, []) for track in tracks]

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        await self._reach()
        return self.listened_by.get(user, [])[:most]

    async def erase(self, user: int) -> Receipt:
        await self._reach()
        return Receipt(self.last_by.pop(user, None) is not None, 0)

    async def ping(self) -> None:
        await self._reach()


@dataclass
class Shelf:
    """The `Tables` port."""

    source: Source


@dataclass
class Counts:
    """The `Observer` port."""

    answers: list[Answer] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def store_failed(self, why: str) -> None:
        self.faults.append(why)


def service(
    sessions: MemorySessions,
    table: Table | None = None,
    *,
    policy: str = "ensemble",
    experiments: Experiments | None = None,
    seed: int = 1,
) -> Service:
    source = Source(small_table() if table is None else table, "v1")
    policies = Policies(make_policies(0.7), policy, experiments or Experiments())
    return Service(
        sessions,
        Shelf(source),
        policies,
        Counts(),
        draws=Draws(seed),
        clock=lambda: 12.5,
        deadline=0.2,
    )


def report(track: int = 3, time: float = 0.5, user: int = 1) -> Report:
    return Report(user, track, time, "request")


async def listen(asked: Service, steps: int, *, track: int = 0, time: float = 0.9) -> list[Answer]:
    answers = []
    for _ in range(steps):
        answers.append(await asked.next(report(track, time)))
        track = answers[-1].track
    return answers


async def test_an_answer_carries_what_was_recorded() -> None:
    sessions = MemorySessions()
    answer = await service(sessions).next(report())
    assert (answer.user, answer.policy, answer.table_version) == (1, "ensemble", "v1")
    assert (answer.request_id, answer.session, answer.position) == ("request", "s", 0)
    assert (answer.recommender, answer.degraded) == (CONTEXTUAL, False)
    assert sessions.events == [
        {
            "timestamp": 12_500,
            "message": "next",
            "user": 1,
            "track": 3,
            "time": 0.5,
            "request_id": "request",
            "policy": "ensemble",
            "table_version": "v1",
            "experiments": {},
            "recommendation": answer.track,
        }
    ]


async def test_the_same_seed_gives_the_same_session() -> None:
    one, same, other = [
        [a.track for a in await listen(service(MemorySessions(), seed=seed), 8)]
        for seed in (1, 1, 2)
    ]
    assert one == same
    assert one != other


@pytest.mark.parametrize("counted", [True, False])
async def test_never_empty_in_the_order_of_the_rules(counted: bool) -> None:
    sessions = MemorySessions(counted=counted)
    answers = await listen(service(sessions), 12)
    assert sorted([0, *(a.track for a in answers[:11])]) == list(range(12))
    order = [CONTEXTUAL, PERSONAL, POPULAR, CATALOGUE, OLDEST]
    assert all(a.recommender in order for a in answers)
    assert answers[-1].recommender == OLDEST
    assert answers[-1].fallback
    assert answers[-1].track == 0  # heard longest ago


async def test_each_next_in_the_order_answers_when_the_one_before_has_nothing() -> None:
    table = small_table(users=(1,))  # its list: 1, 2, 3, 4; popular: 0, 1, 2
    neighbours, personal, popular = [6, 7, 8, 9, 10], [1, 2, 3, 4], [0]

    async def who(gone: list[int]) -> tuple[str, bool]:
        sessions = MemorySessions({1: gone}, {1: POPULAR})
        answer = await service(sessions, table).next(report(5))
        assert answer.track not in gone
        return answer.recommender, answer.fallback

    assert await who([]) == (CONTEXTUAL, False)
    assert await who(neighbours) == (PERSONAL, True)
    assert await who(neighbours + personal) == (POPULAR, True)
    assert await who(neighbours + personal + popular) == (CATALOGUE, True)


async def test_the_oldest_is_never_the_track_just_reported() -> None:
    table = small_table(2, users=())
    answers = await listen(service(MemorySessions(), table), 6)
    assert [a.track for a in answers] == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("policy", sorted(make_policies(0.7)))
async def test_every_policy_answers_whatever_is_known(policy: str) -> None:
    for table in (small_table(), small_table(1), empty()):
        asked = service(MemorySessions(), table, policy=policy)
        for track in (0, 2**63 - 1, 3, 0):
            answer = await asked.next(report(track))
            assert answer.policy == policy
            assert 0 < answer.propensity <= 1
            assert len(table) == 0 or table.index(answer.track) is not None


async def test_with_an_empty_table_the_reported_track_is_all_that_is_known() -> None:
    answer = await service(MemorySessions(), empty()).next(report(77))
    assert (answer.track, answer.recommender, answer.propensity) == (77, OLDEST, 1.0)


async def test_a_claim_that_is_overtaken_is_made_again() -> None:
    answer = await service(MemorySessions(overtaken=3)).next(report())
    assert not answer.degraded


async def test_a_session_that_never_stands_still_gets_a_degraded_answer() -> None:
    asked = service(MemorySessions(overtaken=1000))
    assert (await asked.next(report())).degraded


@pytest.mark.parametrize(
    "sessions", [MemorySessions(fault=StoreUnavailableError("gone")), MemorySessions(delay=5.0)]
)
async def test_without_the_store_the_tables_answer(sessions: MemorySessions) -> None:
    asked = service(sessions)
    async with asyncio.timeout(2.0):
        answer = await asked.next(report(3))
    assert (answer.degraded, answer.session, answer.position) == (True, None, None)
    assert answer.track in {4, 5, 6, 7, 8}
    assert sessions.events == []
    counts = asked.observer
    assert isinstance(counts, Counts)
    assert counts.answers == [answer]
    assert len(counts.faults) == 1


@pytest.mark.parametrize("n", [0, 1, 2])
async def test_a_degraded_answer_is_never_empty(n: int) -> None:
    table = small_table(n, users=()) if n else empty()
    asked = service(MemorySessions(fault=StoreUnavailableError("gone")), table)
    answer = await asked.next(report(0))
    assert answer.degraded
    assert answer.track == (1 if n == 2 else 0)


async def test_a_fault_that_is_not_the_stores_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        await service(MemorySessions(fault=ZeroDivisionError())).next(report())


@pytest.mark.parametrize("call", ["last", "session", "erase", "ping", "explain"])
@pytest.mark.parametrize(
    "sessions", [MemorySessions(fault=StoreUnavailableError("gone")), MemorySessions(delay=5.0)]
)
async def test_the_other_calls_say_that_the_store_is_away(
    sessions: MemorySessions, call: str
) -> None:
    asked = service(sessions)
    arguments = {"last": [report()], "explain": [report()], "ping": []}.get(call, [1])
    with pytest.raises(StoreUnavailableError):
        await getattr(asked, call)(*arguments)
    assert isinstance(asked.observer, Counts)
    assert len(asked.observer.faults) == 1


async def test_last_records_its_event() -> None:
    sessions = MemorySessions()
    await service(sessions).last(report(9, 1.0))
    (event,) = sessions.events
    assert (event["message"], event["track"], event["time"]) == ("last", 9, 1.0)


async def test_explain_tells_what_next_would_do_and_changes_nothing() -> None:
    sessions = MemorySessions({1: [4, 5]}, {1: CONTEXTUAL})
    asked = service(sessions)
    explained = await asked.explain(report(3, 0.9))
    assert (explained.first, explained.answered_by) == (CONTEXTUAL, CONTEXTUAL)
    rows = {track: (heard, chance) for track, _, heard, chance in explained.pools[0].rows}
    assert rows[4] == rows[5] == (True, 0.0)
    # The neighbours of 3 weigh 5, 4, 3, 2, 1; 4 and 5 are heard.
    assert [rows[t][1] for t in (6, 7, 8)] == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert [pool.answers for pool in explained.pools] == [True, False, False]
    assert sessions.events == []
    assert sessions.listened_by == {1: [4, 5]}


async def test_explain_names_the_catalogue_when_all_pools_are_exhausted() -> None:
    sessions = MemorySessions({1: [t for t in range(12) if t != 11]}, {1: CONTEXTUAL})
    explained = await service(sessions).explain(report(0, 0.9))
    assert explained.answered_by == CATALOGUE
    assert not any(pool.answers for pool in explained.pools)


async def test_explain_gives_a_sample_the_chance_that_next_would_log() -> None:
    sessions = MemorySessions({1: [4, 5]}, {1: CATALOGUE})
    asked = service(sessions, small_table(100), policy="random")
    explained = await asked.explain(report(3))
    answer = await asked.next(report(3))
    assert answer.propensity == pytest.approx(1 / 97)
    chances = [chance for _, _, heard, chance in explained.pools[0].rows if not heard]
    assert chances == pytest.approx([answer.propensity] * len(chances))


async def test_an_answer_names_the_table_it_was_made_from() -> None:
    asked = service(MemorySessions())
    first = await asked.next(report())
    assert isinstance(asked.tables, Shelf)
    asked.tables.source = Source(small_table(20, first=500), "v2")
    second = await asked.next(report(505))
    assert (first.table_version, second.table_version) == ("v1", "v2")
    assert second.track >= 500


async def test_an_experiment_chooses_the_policy_and_is_recorded() -> None:
    sessions = MemorySessions()
    arms = [Treatment("C", policy="contextual"), Treatment("T", policy="popular")]
    asked = service(sessions, experiments=Experiments([Experiment("TRY", arms)]))
    for user in range(30):
        answer = await asked.next(report(user=user))
        arm = sessions.events[-1]["experiments"]["TRY"]
        assert answer.policy == {"C": "contextual", "T": "popular"}[arm]
    assert {event["policy"] for event in sessions.events} == {"contextual", "popular"}


async def test_only_next_moves_a_seeded_listener_on() -> None:
    async def served(*, meddle: bool) -> list[int]:
        asked = service(MemorySessions(), small_table(100), seed=5)
        tracks = []
        for step in range(6):
            if meddle:
                await asked.explain(report(step, 0.9))
                await asked.last(report(step, 0.9, user=2))
            tracks.append((await asked.next(report(step, 0.9))).track)
        return tracks

    assert await served(meddle=True) == await served(meddle=False)
