"""Sessions in Redis: every change is one script, so it is atomic and one round trip."""

import time
from asyncio import gather
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import orjson

from recsvc.errors import StoreUnavailableError
from recsvc.redis.caller import Caller
from recsvc.redis.claims import ClaimWriter, outcome
from recsvc.redis.guesses import Guesses, likely_pools
from recsvc.redis.keys import Keys
from recsvc.redis.listened import Listened
from recsvc.redis.resp import command
from recsvc.redis.script import Script
from recsvc.redis.state import read_state
from recsvc.session import (
    UNSURE,
    Claim,
    Claimed,
    Exhausted,
    Finished,
    Last,
    Moved,
    Recalled,
    Receipt,
    Report,
    Session,
    idempotency_field,
)

__all__ = ["RedisSessions"]

_TOGETHER = 10  # claims in one call of the script, which nothing else can interrupt
_FIRST = 4  # of more than that: the store has nothing to do until these are there


class RedisSessions:
    """The `Sessions` port on Redis. Times to live are in seconds."""

    def __init__(
        self, caller: Caller, keys: Keys, *, session_ttl: int, idempotency_ttl: int, events_max: int
    ) -> None:
        self.caller = caller
        self.keys = keys
        self.idempotency_ttl = idempotency_ttl
        self.events_max = events_max
        self._recall = Script("state.lua", "recall.lua")
        self._claim = Script("heard.lua", "state.lua", "claim.lua")
        self._finish = Script("state.lua", "finish.lua")
        self._erase = Script("heard.lua", "erase.lua")
        self._probe = Script("probe.lua")
        self._listened = Listened(caller, keys, ttl=session_ttl)
        self._writer = ClaimWriter(
            self._claim.digest,
            keys,
            session_ttl=session_ttl,
            idempotency_ttl=idempotency_ttl,
            events_max=events_max,
        )
        self.guesses = Guesses()
        self.ahead_ms = 0  # by how much the server's clock is ahead of ours

    async def claim(self, claim: Claim, last: Last = UNSURE) -> Claimed | Exhausted | Moved:
        """Settle a plan, record the answer and its event, all in one step.

        When it is known who answered last, only the candidates that are asked for next are sent.
        A wrong guess costs another round trip, so none are made for a while after it.
        """
        (reply,) = await self._send_claims((claim,), (self.guesses.pools(claim.plan, last),))
        if reply[0] != b"claimed":
            reply = await self._insist(claim, reply)
        return outcome(reply, claim)

    def bundles(self, users: Sequence[int]) -> list[list[int]]:
        """Sort different listeners into lists of places whose claims may go out together."""
        by_partition: dict[int, list[int]] = {}
        partitions = self.keys.partitions
        for place, user in enumerate(users):
            by_partition.setdefault(user % partitions, []).append(place)
        return [
            places[start:end]
            for places in by_partition.values()
            for start, end in pairwise(_bounds(len(places)))
        ]

    def claim_all(
        self, claims: Sequence[Claim], lasts: Sequence[Last] = ()
    ) -> Awaitable[list[Claimed | Exhausted | Moved]]:
        """Claim for the listeners of one bundle, each in one step, all in one round trip.

        What the script refuses for want of pools or time is `Moved`: `claim` can insist.
        """
        told = zip(claims, lasts or [UNSURE] * len(claims), strict=True)
        sent = [self.guesses.pools(claim.plan, last) for claim, last in told]
        return self._outcomes(claims, self._send_claims(claims, sent))

    async def finish(
        self, report: Report, event: Mapping[str, Any], expires_ms: int = 0
    ) -> Finished | None:
        """End a session and record its last event, in one step; None if that was done before."""
        keys = self.keys.of_session(report.user, self._window())
        fixed = (
            orjson.dumps(event)[:-1],  # without its closing brace: the script appends the rest
            self.events_max,
            idempotency_field("last", report),
            self.idempotency_ttl * 2000,
        )
        reply = await self._send(
            self._finish,
            lambda expiry: self._finish.write(keys, [*fixed, expiry]),
            expires_ms,
        )
        if reply is None:
            return None
        entry, session, position = reply
        return Finished(entry.decode(), session and session.decode(), position and int(position))

    async def read(self, user: int) -> Session | None:
        """Return a listener's session, None when there is none."""
        key = self.keys.session(user)
        written, listened, ttl = await gather(
            self.caller.call(command("HGET", key, "state")),
            self._listened.count(user),
            self.caller.call(command("PTTL", key)),
        )
        state = read_state(written)
        if state is None:
            return None
        return Session(
            id=state["id"],
            recommender=state["recommender"],
            position=state["position"],
            track=state["track"],
            time=state["time"],
            served=state["served"],
            started=state["started"],
            at=state["at"],
            policy=state["policy"],
            table_version=state["table"],
            listened=listened,
            expires_in=max(ttl, 0) / 1000,
            outside=state["outside"],
            counted=state["counted"],
        )

    async def recall(self, user: int) -> Recalled:
        """Return what a policy that infers needs of a listener's session."""
        (recalled,) = await self.recall_all([user])
        if recalled is None:
            raise StoreUnavailableError("the listener's session is damaged")
        return recalled

    def recall_all(self, users: Sequence[int]) -> Awaitable[list[Recalled | None]]:
        """Return the same for the listeners of one bundle."""
        written = self._recall.write([self.keys.session(user) for user in users], ())
        return self._all_recalled(self._recall.send(self.caller, written))

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        """Tell which of some tracks the session has heard."""
        return await self._listened.which(user, tracks)

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        """Return the tracks of the session, or `most` of them, longest ago first."""
        return await (
            self._listened.all(user) if most is None else self._listened.oldest(user, most)
        )

    async def erase(self, user: int, expires_ms: int = 0) -> Receipt:
        """Remove everything held on a listener, and mark their events as nobody's.

        Whatever else comes to be kept of a listener is to be removed by the same script.
        """
        forgotten = self.keys.forgotten(user % self.keys.partitions)
        keys = [*self.keys.of_session(user, self._window()), forgotten]
        session, listened, at, entry = await self._send(
            self._erase,
            lambda expiry: self._erase.write(keys, [user, self.events_max, expiry]),
            expires_ms,
        )
        return Receipt(bool(session), listened, at, entry.decode())

    async def ping(self) -> None:
        """Return if the store answers, and takes what is written to it."""
        server_ms = await self._probe.run(self.caller, [self.keys.probe], [])
        self.ahead_ms = server_ms - int(time.time() * 1000)

    async def _all_recalled(self, replies: Awaitable[list[Any]]) -> list[Recalled | None]:
        return [reply and _recalled(reply) for reply in await replies]

    def _send_claims(
        self, claims: Sequence[Claim], sent: Sequence[tuple[int, ...]]
    ) -> Awaitable[list[Any]]:
        window = None
        for claim in claims:
            if claim.report.key is not None:
                window = self._window()
        written = self._writer.write(claims, sent, window, self.ahead_ms)
        return self._replies(self._claim.send(self.caller, written))

    async def _replies(self, awaited: Awaitable[list[Any]]) -> list[Any]:
        replies = await awaited
        if [b"more"] in replies:
            self.guesses.wrong()
        else:
            self.guesses.right(len(replies))
        return replies

    async def _outcomes(
        self, claims: Sequence[Claim], replies: Awaitable[list[Any]]
    ) -> list[Claimed | Exhausted | Moved]:
        return [outcome(reply, claim) for claim, reply in zip(claims, await replies, strict=True)]

    async def _insist(self, claim: Claim, reply: Any) -> Any:
        """Claim again where the server needs more of the plan, or has another clock."""
        sent = likely_pools(claim.plan, UNSURE)
        for _ in range(3):
            if reply[0] == b"more":  # who answered last was another one, or has nothing left
                sent = tuple(range(len(claim.plan.pools)))
            elif reply[0] == b"late" and (now_ms := int(time.time() * 1000)) < claim.expires_ms:
                # It is not late: the server's clock is ahead of ours, or no longer behind it.
                self.ahead_ms = reply[1] - now_ms
            else:
                break
            (reply,) = await self._send_claims((claim,), (sent,))
        if reply[0] in (b"late", b"more"):
            raise StoreUnavailableError("it answered too late")
        return reply

    async def _send(self, script: Script, write: Callable[[int], bytes], expires_ms: int) -> Any:
        """Run a script that refuses to change anything after the time that `write` is given."""
        for _ in range(2):
            expiry = expires_ms + self.ahead_ms if expires_ms else 0
            reply = await script.send(self.caller, write(expiry))
            if reply is None or reply[0] != b"late":
                return reply
            now_ms = int(time.time() * 1000)
            if now_ms >= expires_ms:
                break
            # It is not late: the server's clock is ahead of ours, or no longer behind it.
            self.ahead_ms = reply[1] - now_ms
        raise StoreUnavailableError("it answered too late")

    def _window(self) -> int:
        # A key lives for two windows, so an answer is found for at least one.
        return int(time.time()) // self.idempotency_ttl


def _bounds(count: int) -> list[int]:
    """Return where the bundles of so many claims begin, and where the last one ends."""
    first = _FIRST if count > _TOGETHER else count
    return [0, *range(first, count, _TOGETHER), count]


def _recalled(reply: Sequence[Any]) -> Recalled:
    position, served, evidence, heard = reply
    return Recalled(position, int(served) if served else None, evidence, heard)
