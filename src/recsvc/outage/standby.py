"""Answers calls while the session store does not, and sees to it that it learns of them."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from recsvc.answer import Answer
from recsvc.call import Call, event
from recsvc.errors import StoreUnavailableError
from recsvc.outage.memory import Memory, Place
from recsvc.outage.record import Record, pack
from recsvc.policy import OLDEST, Decision, Plan, settle
from recsvc.recommenders.catalogue import plan_among, plan_sample
from recsvc.session import idempotency_field

__all__ = ["Outlet", "Standby"]

_MOST_KEYS = 4096  # answers by idempotency key that one worker remembers
_LISTED = 4096  # tracks of a catalogue that is looked through for an unheard one
_COUNTED = 512  # tracks of a catalogue of which the heard ones are counted


class Outlet(Protocol):
    """The port to where records wait for the store."""

    async def append(self, payload: bytes) -> None:
        """Keep a record on disk; raises `SpoolFullError` or `OSError`."""


@dataclass(slots=True)
class _Given:
    """An answer that a key gets again, and the keeping of its record, if it has one."""

    answer: Answer | None
    kept: "asyncio.Task[None] | None"


class Standby:
    """What stands in for the session store.

    `clock` returns Unix seconds. `kept` is told when there is a new record on disk.
    """

    def __init__(
        self,
        memory: Memory,
        outlet: Outlet,
        *,
        clock: Callable[[], float],
        kept: Callable[[], None],
    ) -> None:
        self.memory = memory
        self.outlet = outlet
        self._clock = clock
        self.spooled = 0  # records on disk
        self.dropped = 0  # records that could not be put there
        self._told = kept
        self._given: OrderedDict[tuple[int, str], _Given] = OrderedDict()
        self._keeping: set[asyncio.Task[None]] = set()

    async def next(
        self, call: Call, plan: Plan, rng: Random, *, until: float, unsure: bool
    ) -> Answer:
        """Answer from the tables in memory, and keep the event.

        It goes out when the event is on disk, but not later than `until` (of the event
        loop's clock): a disk that hangs must not cost the answer. `unsure` tells that the
        store may have recorded another answer to this call.
        """
        key = idempotency_field("next", call.report)
        given = self._given.get((call.report.user, key)) if key else None
        if given is None or given.answer is None:
            given = self._serve(call, plan, rng, key, unsure=unsure)
        await _wait(given.kept, until)
        assert given.answer is not None  # noqa: S101
        return given.answer

    async def last(self, call: Call, *, until: float, unsure: bool) -> None:
        """Keep the event of a session's end.

        Raises `StoreUnavailableError` when that failed: the player is to try again.
        """
        key = idempotency_field("last", call.report)
        given = self._given.get((call.report.user, key)) if key else None
        if given is None:
            place, now = self._place(call)
            with self.memory.turn(place):
                self.memory.forget(place, now)
                record = Record(event(call, "last", now), _known(call), key, None, unsure=unsure)
                given = _Given(None, self._keep(record, place, now))
            self._remember(call.report.user, key, given)
        await _wait(given.kept, until)
        if given.kept is not None and given.kept.done() and given.kept.exception() is not None:
            self._given.pop((call.report.user, key), None)
            raise StoreUnavailableError("the end of the session could not be kept")

    def remember(self, call: Call, answer: Answer) -> None:
        """Note an answer that the store has recorded: its key gets it again here."""
        key = idempotency_field("next", call.report)
        self._remember(call.report.user, key, _Given(answer, None))

    def forget(self, users: Collection[int]) -> None:
        """Forget the answers of listeners who asked to be forgotten."""
        for known in [known for known in self._given if known[0] in users]:
            del self._given[known]

    async def close(self) -> None:
        """Wait until everything is on disk."""
        if self._keeping:
            await asyncio.wait(self._keeping)

    def _serve(self, call: Call, plan: Plan, rng: Random, key: str, *, unsure: bool) -> _Given:
        place, now = self._place(call)
        with self.memory.turn(place):
            decision, began = self._decide(call, plan, rng, place), self.memory.began(place)
            self.memory.note(
                place,
                now,
                call.report.track,
                decision.track,
                decision.recommender,
                new=False,
                spent=self.memory.last(place).spent,
            )
            record = Record(
                event(call, "next", now),
                _known(call),
                key,
                decision.track,
                decision.recommender,
                decision.propensity,
                decision.fallback,
                unsure,
                began=began,
            )
            given = _Given(_answer(call, decision), self._keep(record, place, now))
        self._remember(call.report.user, key, given)
        return given

    def _decide(self, call: Call, plan: Plan, rng: Random, place: Place) -> Decision:
        """Settle the plan against what is remembered of the session."""
        report, source, memory = call.report, call.source, self.memory
        size = len(source.table)

        def heard(tracks: Sequence[int]) -> list[bool]:
            return [track == report.track or memory.heard(place, track) for track in tracks]

        if size <= _COUNTED:
            gone = sum(heard(source.table.tracks.tolist()))
        else:  # as if all that was served was reported, and nothing else; it is nearly right
            gone = min(memory.answers(place) + _known(call), size)
        decision = settle(plan, memory.last(place).recommender, heard, gone)
        if decision is None and (sample := plan_sample(source, gone, rng)) is not None:
            decision = settle(sample, None, heard, gone)
        if decision is None and size <= _LISTED:
            tracks = source.table.tracks.tolist()
            unheard = [t for t, known in zip(tracks, heard(tracks), strict=True) if not known]
            if unheard:
                decision = settle(plan_among(source, unheard, rng), None, heard, gone)
        if decision is None and (sample := plan_sample(source, _known(call), rng)) is not None:
            # All seems to be heard. Which track was the first cannot be told: any will do.
            decision = settle(sample, None, lambda ts: [t == report.track for t in ts], 1)
        return decision or Decision(report.track, OLDEST, 1.0, fallback=True)

    def _keep(self, record: Record, place: Place, now: float) -> "asyncio.Task[None]":
        self.memory.pend(place, now)
        task = asyncio.ensure_future(self.outlet.append(pack(record)))
        self._keeping.add(task)
        task.add_done_callback(partial(self._kept, record.event["user"]))
        return task

    def _kept(self, user: int, task: "asyncio.Task[None]") -> None:
        self._keeping.discard(task)
        if task.cancelled() or task.exception() is not None:
            self.learned(user)
            self.dropped += 1
        else:
            self.spooled += 1
            self._told()

    def learned(self, user: int) -> None:
        """Hear that the store need not learn of one of a listener's records any more."""
        place = self.memory.place(user, self._clock())
        with self.memory.turn(place):
            self.memory.learned(place)

    def _place(self, call: Call) -> tuple[Place, float]:
        now = self._clock()
        return self.memory.place(call.report.user, now), now

    def _remember(self, user: int, key: str, given: _Given) -> None:
        if key:
            self._given[user, key] = given
            if len(self._given) > _MOST_KEYS:
                self._given.popitem(last=False)


async def _wait(task: "asyncio.Task[None] | None", until: float) -> None:
    if task is not None and not task.done():
        loop = asyncio.get_running_loop()
        await asyncio.wait([task], timeout=max(until - loop.time(), 0))


def _known(call: Call) -> bool:
    return call.source.table.index(call.report.track) is not None


def _answer(call: Call, decision: Decision) -> Answer:
    return Answer(
        user=call.report.user,
        track=decision.track,
        recommender=decision.recommender,
        propensity=decision.propensity,
        policy=call.policy.name,
        table_version=call.source.version,
        request_id=call.report.request_id,
        session=None,
        position=None,
        fallback=decision.fallback,
        experiments=call.treatments,
        degraded=True,
    )
