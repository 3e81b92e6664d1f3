"""What the service does with a call: load, decide, record.

Awaits what must be awaited and leaves every choice to the policy. It knows nothing of
HTTP or Redis: what it needs from outside are the ports `Sessions` and `Tables`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from recsvc.answer import Answer
from recsvc.answering import Answering, Observer, Told
from recsvc.call import Call, event
from recsvc.claiming import Claiming
from recsvc.draws import Draws
from recsvc.errors import StoreUnavailableError
from recsvc.explaining import Explaining
from recsvc.explanation import Explanation
from recsvc.outage.standby import Standby
from recsvc.recommenders.registry import Policies
from recsvc.recommenders.source import Source
from recsvc.session import Receipt, Report, Session, Sessions

__all__ = ["Answer", "Observer", "Service", "Tables"]

T = TypeVar("T")

_AT_ONCE = 100  # listeners of one batch whose time begins together


class Tables(Protocol):
    """The port to the tables."""

    @property
    def source(self) -> Source:
        """The live table; read once a request, so that no answer mixes two."""


class Service:
    """Answers the calls of players.

    `clock` returns Unix seconds, `draws` the randomness, `deadline` is in seconds.
    `standby` answers when `sessions` does not.
    """

    def __init__(
        self,
        sessions: Sessions,
        tables: Tables,
        policies: Policies,
        observer: Observer,
        standby: Standby,
        *,
        draws: Draws,
        clock: Callable[[], float],
        deadline: float,
    ) -> None:
        self.sessions = sessions
        self.tables = tables
        self.policies = policies
        self.observer = observer
        self.standby = standby
        self.draws = draws
        self.clock = clock
        self._explaining = Explaining(sessions)
        self._answering = Answering(Claiming(sessions, clock), standby, observer, deadline)
        self.deadline = deadline

    async def next(self, report: Report) -> Answer:
        """Choose the next track, and record that it was served.

        Never fails for want of Redis: when it does not answer within the deadline, the
        tables in memory do, and the answer says `degraded`.
        """
        return await self._answering.alone(self.call(report), self.draws.of(report.user))

    async def next_all(self, reports: Sequence[Report]) -> list[Answer]:
        """Choose the next track for each report, as `next` does; those of a listener in order.

        What different listeners claim goes to the store together.
        """
        answers: list[Answer | None] = [None] * len(reports)
        for places in _rounds(reports):
            keyed = [place for place in places if reports[place].key is not None]
            others = [place for place in places if reports[place].key is None]
            await asyncio.gather(
                *self._begin_all(reports, answers, others),
                *(self._next_keyed(reports[place], answers, place) for place in keyed),
            )
        return [answer for answer in answers if answer is not None]

    def call(self, report: Report) -> Call:
        """Return the call that a report makes, by the table and the policy of this moment."""
        policy, treatments = self.policies.of(report.user)
        return Call(report, self.tables.source, policy, treatments, expires_ms=self._expiry())

    def bundles(self, calls: Sequence[Call]) -> list[list[int]]:
        """Sort calls of different listeners into bundles for `begin`, as lists of places."""
        alike: dict[bool, list[int]] = {}
        for at, call in enumerate(calls):
            alike.setdefault(call.recalls, []).append(at)
        return [
            [places[at] for at in bundle]
            for places in alike.values()
            for bundle in self.sessions.bundles([calls[at].report.user for at in places])
        ]

    def begin(self, calls: Sequence[Call], told: Sequence[Told]) -> Coroutine[Any, Any, None]:
        """Answer the calls of one bundle, which have no keys; `told` of each hears the answer.

        What the store is asked for goes out before this returns. What is returned ends when all
        are answered; it raises what nobody foresaw, and then some may have been told nothing.
        """
        rngs = [self.draws.of(call.report.user) for call in calls]
        return self._answering.begin(calls, rngs, told)

    async def last(self, report: Report) -> None:
        """End the session, later if need be.

        Raises `StoreUnavailableError` when that can be recorded neither in the session store
        nor on disk.
        """
        call = self.call(report)
        ending = event(call, "last", self.clock())
        deadline = self._answering.deadlines.enter()
        try:
            with deadline:
                await self.sessions.finish(report, ending, call.expires_ms)
        except (TimeoutError, StoreUnavailableError) as error:
            unsure = self._answering.failed(error)
            until = deadline.began + self._answering.keeping
            await self.standby.last(call, until=until, unsure=unsure)

    async def session(self, user: int) -> Session | None:
        """Return a listener's session as stored."""
        return await self._within_deadline(self.sessions.read(user))

    async def erase(self, user: int) -> Receipt:
        """Remove everything held on a listener, or nothing: raises `StoreUnavailableError`."""
        receipt = await self._within_deadline(self.sessions.erase(user, self._expiry()))
        self.standby.forget({user})
        return receipt

    async def ping(self) -> None:
        """Return if the session store answers; raise `StoreUnavailableError` if not."""
        await self._within_deadline(self.sessions.ping())

    async def explain(self, report: Report) -> Explanation:
        """Say what `next` would do now, and why, changing nothing."""
        return await self._within_deadline(self._explaining.explain(self.call(report)))

    def _expiry(self) -> int:
        """Return until when the store may do what is asked of it now (Unix ms)."""
        return int((self.clock() + self._answering.patience) * 1000)

    def _begin_all(
        self, reports: Sequence[Report], answers: list[Answer | None], places: Sequence[int]
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """Answer the reports of some places, of different listeners.

        What is asked of the store for some goes out before the calls of others are made.
        """
        for some in self.sessions.bundles([reports[place].user for place in places]):
            calls = [self.call(reports[places[at]]) for at in some]
            told = [partial(answers.__setitem__, places[at]) for at in some]
            for bundle in self.bundles(calls):
                yield self.begin([calls[at] for at in bundle], [told[at] for at in bundle])

    async def _next_keyed(self, report: Report, answers: list[Answer | None], place: int) -> None:
        # A key is asked for again where the store fails, so it goes alone.
        answers[place] = await self.next(report)

    async def _within_deadline(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self.deadline):
                return await work
        except TimeoutError as error:
            failure = StoreUnavailableError("no answer within the deadline")
            self.observer.store_failed(str(failure))
            raise failure from error
        except StoreUnavailableError as error:
            self.observer.store_failed(str(error))
            raise


def _rounds(reports: Sequence[Report]) -> list[list[int]]:
    """Sort reports into rounds, as lists of places: each listener once, in the order given."""
    rounds: list[list[int]] = []
    before: dict[int, int] = {}
    for place, report in enumerate(reports):
        nth = before[report.user] = before.get(report.user, -1) + 1
        if nth == len(rounds):
            rounds.append([])
        rounds[nth].append(place)
    return [
        places[start : start + _AT_ONCE]
        for places in rounds
        for start in range(0, len(places), _AT_ONCE)
    ]
