"""The service against a store written by hand: what it asks, and what it answers."""

import asyncio
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from recsvc.call import Call
from recsvc.draws import Draws
from recsvc.errors import NotAskedError, SpoolFullError, StoreUnavailableError
from recsvc.experiment import Experiment, Experiments, Treatment
from recsvc.outage.memory import Memory
from recsvc.outage.record import Record, unpack
from recsvc.outage.standby import Standby
from recsvc.policy import CATALOGUE, CONTEXTUAL, OLDEST, PERSONAL, POPULAR, Plan, settle
from recsvc.recommenders.registry import Policies, make_policies
from recsvc.recommenders.source import Source
from recsvc.service import Answer, Service
from recsvc.session import (
    Claim,
    Claimed,
    Exhausted,
    Finished,
    Moved,
    Recalled,
    Receipt,
    Report,
    Session,
)
from recsvc.table import Table, empty
from tests.support import small_table


@dataclass
class MemorySessions:
    """Sessions in a dictionary, settled by the pure policy; it may also fail or be slow."""

    listened_by: dict[int, list[int]] = field(default_factory=dict)
    last_by: dict[int, str] = field(default_factory=dict)
    evidence_by: dict[int, bytes] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    fault: Exception | None = None
    delay: float = 0.0
    overtaken: int = 0
    counted: bool = True

    async def _reach(self) -> None:
        await asyncio.sleep(self.delay)
        if self.fault is not None:
            raise type(self.fault)(*self.fault.args)  # a new one each time

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
        self.evidence_by[user] = claim.evidence or self.evidence_by.get(user, b"")
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

    def bundles(self, users: Sequence[int]) -> list[list[int]]:
        return [list(range(start, min(start + 3, len(users)))) for start in range(0, len(users), 3)]

    async def claim_all(self, claims: Sequence[Claim]) -> list[Claimed | Exhausted | Moved]:
        return [await self.claim(claim) for claim in claims]

    async def finish(
        self, report: Report, event: Mapping[str, Any], expires_ms: int = 0
    ) -> Finished | None:
        await self._reach()
        self.events.append(dict(event))
        return Finished("1-1", None, None)

    async def read(self, user: int) -> Session | None:
        await self._reach()
        if user not in self.last_by:
            return None
        last = self.last_by[user]
        return Session("s", last, 1, 0, 0.5, 0, 0, 0, "ensemble", "v1", 2, 60.0)

    async def recall_all(self, users: Sequence[int]) -> list[Recalled | None]:
        return [await self.recall(user) for user in users]

    async def recall(self, user: int) -> Recalled:
        await self._reach()
        served = [event["recommendation"] for event in self.events if event["user"] == user]
        last = served[-1] if served else None
        return Recalled(len(served), last, self.evidence_by.get(user, b""))

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        await self._reach()
        return [track in self.listened_by.get(user, []) for track in tracks]

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        await self._reach()
        return self.listened_by.get(user, [])[:most]

    async def erase(self, user: int, expires_ms: int = 0) -> Receipt:
        await self._reach()
        return Receipt(self.last_by.pop(user, None) is not None, 0, 1)

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


@dataclass
class Outlet:
    """The port to the disk; it may also be full, or hang."""

    records: list[Record] = field(default_factory=list)
    fault: Exception | None = None
    delay: float = 0.0

    async def append(self, payload: bytes) -> None:
        await asyncio.sleep(self.delay)
        if self.fault is not None:
            raise self.fault
        self.records.append(unpack(payload))


def standby(outlet: Outlet | None = None, kind: type[Standby] = Standby) -> Standby:
    memory = Memory(None, listeners=64, ttl=60, names=(CONTEXTUAL, PERSONAL))
    return kind(memory, outlet or Outlet(), clock=lambda: 12.5, kept=lambda: None)


def service(
    sessions: MemorySessions,
    table: Table | None = None,
    *,
    policy: str = "ensemble",
    experiments: Experiments | None = None,
    outlet: Outlet | None = None,
    kind: type[Standby] = Standby,
    seed: int = 1,
) -> Service:
    source = Source(small_table() if table is None else table, "v1")
    policies = Policies(make_policies(0.7), policy, experiments or Experiments())
    return Service(
        sessions,
        Shelf(source),
        policies,
        Counts(),
        standby(outlet, kind),
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
    assert len(sessions.events[0].pop("id")) == 16
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


@pytest.mark.parametrize("strangers", [70, 700])
async def test_the_oldest_is_found_behind_tracks_that_the_catalogue_lacks(strangers: int) -> None:
    heard = [*range(1000, 1000 + strangers), *range(12)]
    sessions = MemorySessions({1: heard}, {1: POPULAR})
    for expected in (0, 1, 2):
        answer = await service(sessions).next(report(11))
        assert (answer.track, answer.recommender) == (expected, OLDEST)


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
    outlet = Outlet()
    asked = service(sessions, outlet=outlet)
    async with asyncio.timeout(2.0):
        answer = await asked.next(report(3))
    assert (answer.degraded, answer.session, answer.position) == (True, None, None)
    assert answer.track in {4, 5, 6, 7, 8}
    assert sessions.events == []
    counts = asked.observer
    assert isinstance(counts, Counts)
    assert counts.answers == [answer]
    assert len(counts.faults) == 1
    (record,) = outlet.records
    assert (record.event["track"], record.track, record.known) == (3, answer.track, True)
    assert (record.recommender, record.propensity) == (answer.recommender, answer.propensity)
    assert record.unsure


async def test_degraded_answers_do_not_repeat_and_follow_the_switch_rule() -> None:
    outlet = Outlet()
    asked = service(MemorySessions(fault=NotAskedError("away")), outlet=outlet)
    answers = await listen(asked, 11, time=0.3)
    assert sorted([0, *(a.track for a in answers)]) == list(range(12))
    assert [a.recommender for a in answers[:3]] == [CONTEXTUAL, PERSONAL, CONTEXTUAL]
    assert all(0 < a.propensity <= 1 for a in answers)
    assert [r.track for r in outlet.records] == [a.track for a in answers]
    assert not any(r.unsure for r in outlet.records)
    beyond = await asked.next(report(answers[-1].track))
    assert beyond.track != answers[-1].track  # all are heard


async def test_the_propensity_of_a_degraded_answer_counts_tracks_and_not_answers() -> None:
    asked = service(MemorySessions(fault=NotAskedError("away")), policy="random")
    served = [(await asked.next(report(track))).track for track in (0, 5, 9)]
    heard = {0, 5, 9, 11, *served}
    assert (await asked.next(report(11))).propensity == 1 / (12 - len(heard))


async def test_what_was_heard_before_an_outage_is_not_served_in_it() -> None:
    asked = service(MemorySessions(fault=NotAskedError("away")))
    memory = asked.standby.memory
    memory.note(memory.place(1, 12.5), 12.5, 3, 4, PERSONAL, new=True)
    answer = await asked.next(report(3, 0.9))
    assert answer.track != 4
    assert answer.recommender == PERSONAL


async def test_a_key_gets_its_degraded_answer_again_and_one_event() -> None:
    outlet = Outlet(delay=0.01)
    asked = service(MemorySessions(fault=NotAskedError("away")), outlet=outlet)
    first, *others = await asyncio.gather(
        *(asked.next(Report(1, 3, 0.5, f"request {i}", "key")) for i in range(20))
    )
    assert all(other == first for other in others)
    assert len(outlet.records) == 1
    assert (await asked.next(Report(1, 3, 0.5, "request", "other"))).track != first.track


async def test_a_key_gets_the_answer_from_before_the_outage() -> None:
    sessions = MemorySessions()
    asked = service(sessions)
    keyed = Report(1, 3, 0.5, "request", "key")
    before = await asked.next(keyed)
    sessions.fault = NotAskedError("away")
    assert await asked.next(keyed) == before


@pytest.mark.parametrize("outlet", [Outlet(fault=SpoolFullError("full")), Outlet(delay=3.0)])
async def test_a_disk_that_fails_or_hangs_never_costs_the_answer(outlet: Outlet) -> None:
    asked = service(MemorySessions(fault=NotAskedError("away")), outlet=outlet)
    started = asyncio.get_running_loop().time()
    assert (await asked.next(report())).degraded
    assert asyncio.get_running_loop().time() - started < 2.0
    assert asked.standby.dropped == (outlet.fault is not None)
    pending = asked.standby.memory.pending(asked.standby.memory.place(1, 12.5))
    assert pending == (outlet.fault is None)


class Hurried(Standby):
    """Notes how many seconds it is given for an event to reach the disk."""

    given: float

    async def next(
        self, call: Call, plan: Plan, rng: Random, *, until: float, unsure: bool
    ) -> Answer:
        self.given = until - asyncio.get_running_loop().time()
        return await super().next(call, plan, rng, until=until, unsure=unsure)

    async def last(self, call: Call, *, until: float, unsure: bool) -> None:
        self.given = until - asyncio.get_running_loop().time()
        await super().last(call, until=until, unsure=unsure)


async def test_the_wait_for_the_disk_leaves_time_for_the_answer_to_go_out() -> None:
    asked = service(MemorySessions(fault=StoreUnavailableError("gone")), kind=Hurried)
    assert isinstance(asked.standby, Hurried)
    for answering in (asked.next(report()), asked.last(report())):
        await answering
        assert asked.standby.given <= 0.95 * asked.deadline


async def test_the_end_of_a_session_is_kept_for_later() -> None:
    outlet = Outlet()
    asked = service(MemorySessions(fault=NotAskedError("away")), small_table(200), outlet=outlet)
    first = await asked.next(report(3))
    await asked.last(Report(1, first.track, 1.0, "request", "key"))
    await asked.last(Report(1, first.track, 1.0, "request", "key"))
    assert [(r.event["message"], r.track) for r in outlet.records] == [
        ("next", first.track),
        ("last", None),
    ]
    place = asked.standby.memory.place(1, 12.5)
    assert not asked.standby.memory.heard(place, first.track)
    assert asked.standby.memory.pending(place) == 2


async def test_an_end_that_can_be_kept_nowhere_is_an_error() -> None:
    asked = service(
        MemorySessions(fault=NotAskedError("away")), outlet=Outlet(fault=SpoolFullError("full"))
    )
    with pytest.raises(StoreUnavailableError):
        await asked.last(report())


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


@pytest.mark.parametrize("call", ["session", "erase", "ping", "explain"])
@pytest.mark.parametrize(
    "sessions", [MemorySessions(fault=StoreUnavailableError("gone")), MemorySessions(delay=5.0)]
)
async def test_the_other_calls_say_that_the_store_is_away(
    sessions: MemorySessions, call: str
) -> None:
    asked = service(sessions)
    arguments = {"explain": [report()], "ping": []}.get(call, [1])
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


async def test_explain_names_the_oldest_when_all_of_the_catalogue_is_heard() -> None:
    sessions = MemorySessions({1: list(range(12))}, {1: CONTEXTUAL})
    asked = service(sessions)
    explained = await asked.explain(report(0, 0.9))
    assert explained.answered_by == (await asked.next(report(0, 0.9))).recommender == OLDEST


@pytest.mark.parametrize("policy", ["ensemble", "random", "popular"])
async def test_explain_tells_whether_the_policy_switches(policy: str) -> None:
    explained = await service(MemorySessions(), policy=policy).explain(report())
    assert explained.switches == (policy == "ensemble")


async def test_explain_counts_anew_where_another_table_was_counted_with() -> None:
    # Of these the catalogue of 0 to 99 has two.
    sessions = MemorySessions({1: [4, 5, 500, 501]}, {1: CATALOGUE})
    asked = service(sessions, small_table(100), policy="random")
    explained = await asked.explain(report(4))
    chances = [chance for *_, heard, chance in explained.pools[0].rows if not heard]
    assert chances == [1 / 98] * len(chances)


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


async def test_reports_together_get_the_answers_they_would_get_one_by_one() -> None:
    order = [1, 2, 1, 3, 4, 5, 1, 2]
    reports = [report(at, 0.9, user) for at, user in enumerate(order)]
    one, many = service(MemorySessions()), service(MemorySessions())
    expected = [await one.next(asked) for asked in reports]
    found = await many.next_all(reports)
    assert [replace(a, session=None) for a in found] == [replace(a, session=None) for a in expected]
    assert [answer.position for answer in found] == [0, 0, 1, 0, 0, 0, 2, 1]
    assert isinstance(many.observer, Counts)
    assert len(many.observer.answers) == len(reports)


@pytest.mark.parametrize("policy", ["ensemble", "session"])
async def test_an_exhausted_listener_among_others_gets_an_answer(policy: str) -> None:
    sessions = MemorySessions(listened_by={2: list(range(12))}, last_by={2: CONTEXTUAL})
    found = await service(sessions, policy=policy).next_all([report(3, 0.9, u) for u in (1, 2, 3)])
    assert [answer.user for answer in found] == [1, 2, 3]
    assert found[1].recommender == OLDEST
    assert OLDEST not in (found[0].recommender, found[2].recommender)
    assert not any(answer.degraded for answer in found)


async def test_claims_overtaken_together_are_made_again() -> None:
    found = await service(MemorySessions(overtaken=2)).next_all([report(user=u) for u in range(4)])
    assert [answer.degraded for answer in found] == [False] * 4


@pytest.mark.parametrize(
    "sessions", [MemorySessions(), MemorySessions(fault=NotAskedError("away"))]
)
async def test_what_is_answered_together_leaves_no_cycles(sessions: MemorySessions) -> None:
    """The garbage collector hardly runs (`collector`)."""
    asked = service(sessions, small_table(100))
    gc.collect()
    gc.disable()
    try:
        for user in range(50):
            await asked.begin([asked.call(report(user=user))], [lambda _: None])
        await asyncio.sleep(0.01)
        assert gc.collect() < 50
    finally:
        gc.enable()


async def test_each_is_told_as_soon_as_there_is_an_answer() -> None:
    """A listener whose tracks are all heard takes several round trips more."""
    sessions = MemorySessions(listened_by={2: list(range(12))}, last_by={2: CONTEXTUAL})
    asked, told = service(sessions), list[int]()
    calls = [asked.call(report(3, 0.9, user)) for user in (1, 2, 3)]
    await asked.begin(calls, [lambda answer: told.append(answer.user)] * 3)
    assert told == [1, 3, 2]


async def test_what_is_wrong_with_one_session_costs_others_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recall = Call.recall

    def damaged(self: Call, recalled: Recalled, rng: Random) -> tuple[Plan, bytes]:
        if self.report.user == 2:
            raise ZeroDivisionError("of listener 2")
        return recall(self, recalled, rng)

    monkeypatch.setattr(Call, "recall", damaged)
    asked, told = service(MemorySessions(), policy="session"), list[int]()
    calls = [asked.call(report(3, 0.9, user)) for user in (1, 2, 3)]
    with pytest.raises(ZeroDivisionError):
        await asked.begin(calls, [lambda answer: told.append(answer.user)] * 3)
    assert told == [1, 3]
    assert "ZeroDivisionError" in caplog.text


async def test_calls_of_a_policy_that_recalls_go_together_but_not_with_others() -> None:
    arms = [Treatment("S", policy="session"), Treatment("E", policy="ensemble")]
    asked = service(MemorySessions(), experiments=Experiments([Experiment("TRY", arms)]))
    calls = [asked.call(report(user=user)) for user in range(12)]
    bundles = asked.bundles(calls)
    assert sorted(place for bundle in bundles for place in bundle) == list(range(12))
    assert all(len({calls[place].recalls for place in bundle}) == 1 for bundle in bundles)
    assert {calls[bundle[0]].recalls for bundle in bundles} == {True, False}


async def test_without_the_store_every_report_is_answered_and_kept() -> None:
    for sessions in (MemorySessions(fault=NotAskedError("away")), MemorySessions(delay=5)):
        outlet = Outlet()
        asked = service(sessions, outlet=outlet)
        found = await asked.next_all([report(user=user) for user in (1, 2, 1, 3, 4)])
        assert all(answer.degraded for answer in found)
        assert [answer.user for answer in found] == [1, 2, 1, 3, 4]
        assert found[0].track != found[2].track
        assert sorted(record.event["user"] for record in outlet.records) == [1, 1, 2, 3, 4]
        assert all(record.unsure == (sessions.delay > 0) for record in outlet.records)
        assert isinstance(asked.observer, Counts)
        assert len(asked.observer.faults) == 5


async def test_a_key_still_gets_its_answer_again_among_others() -> None:
    outlet = Outlet()
    asked = service(MemorySessions(fault=NotAskedError("away")), outlet=outlet)
    keyed = Report(1, 3, 0.5, "request", "k")
    first, again, _ = await asked.next_all([keyed, keyed, report(user=2)])
    assert first == again
    assert len(outlet.records) == 2
