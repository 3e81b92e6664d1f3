"""Sessions in Redis: every change is one script, so it is atomic and one round trip."""

import hashlib
import struct
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from secrets import token_hex
from typing import Any

import orjson
from redis.exceptions import NoScriptError

from recsvc.policy import CONTEXTUAL, PERSONAL, Candidates, Plan, Pool, Sample
from recsvc.redis.commands import Client
from recsvc.redis.faults import store_faults
from recsvc.redis.keys import Keys
from recsvc.session import Claim, Claimed, Exhausted, Moved, Receipt, Report, Session

__all__ = ["RedisSessions"]


class _Script:
    """A script that is called by its digest, and sent only to a server that lacks it."""

    def __init__(self, name: str) -> None:
        self.text = files("recsvc.redis").joinpath(name).read_text()
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Client, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            return await client.evalsha(self.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            await client.script_load(self.text)
            return await client.evalsha(self.digest, len(keys), *keys, *arguments)


class RedisSessions:
    """The `Sessions` port on Redis. Times to live are in seconds."""

    def __init__(
        self, client: Client, keys: Keys, *, session_ttl: int, idempotency_ttl: int, events_max: int
    ) -> None:
        self.client = client
        self.keys = keys
        self.session_ttl = session_ttl
        self.idempotency_ttl = idempotency_ttl
        self.events_max = events_max
        self._claim = _Script("claim.lua")
        self._finish = _Script("finish.lua")

    async def claim(self, claim: Claim) -> Claimed | Exhausted | Moved:
        """Settle a plan, record the answer and its event, all in one step."""
        report = claim.report
        arguments = [
            report.track,
            report.time,
            int(claim.known),
            claim.at_ms,
            self.session_ttl * 1000,
            token_hex(8),
            claim.policy,
            claim.table_version,
            _open(claim.event),
            self.events_max,
            _field("next", report),
            self.idempotency_ttl * 2000,
            f"{claim.policy} {claim.table_version} {report.request_id}",
            *_routes(claim.plan),
            "" if claim.position is None else claim.position,
            "" if claim.recount is None else claim.recount,
            int(claim.plan.fallback),
        ]
        for pool in claim.plan.pools:
            arguments += _pool(pool)
        async with store_faults():
            reply = await self._claim.run(self.client, self._keys(report), arguments)
        return _outcome(reply, claim)

    async def finish(self, report: Report, event: Mapping[str, Any]) -> None:
        """End a session and record its last event, in one step."""
        arguments = [
            _open(event),
            self.events_max,
            _field("last", report),
            self.idempotency_ttl * 2000,
        ]
        async with store_faults():
            await self._finish.run(self.client, self._keys(report), arguments)

    async def read(self, user: int) -> Session | None:
        """Return a listener's session, None when there is none."""
        key = self.keys.session(user)
        async with store_faults(), self.client.pipeline(transaction=False) as pipe:
            pipe.hgetall(key)
            pipe.scard(self.keys.listened(user))
            pipe.pttl(key)
            stored, listened, ttl = await pipe.execute()
        if not stored:
            return None
        state = {name.decode(): value.decode() for name, value in stored.items()}
        return Session(
            id=state["id"],
            recommender=state["recommender"],
            position=int(state["position"]),
            track=int(state["track"]),
            time=float(state["time"]),
            served=int(state["served"]),
            started=int(state["started"]),
            at=int(state["at"]),
            policy=state["policy"],
            table_version=state["table"],
            listened=listened,
            expires_in=max(ttl, 0) / 1000,
            outside=int(state.get("outside", 0)),
        )

    async def heard(self, user: int, tracks: Sequence[int]) -> list[bool]:
        """Tell which of some tracks the session has heard."""
        if not tracks:
            return []
        async with store_faults():
            flags = await self.client.smismember(self.keys.listened(user), list(tracks))
        return [bool(flag) for flag in flags]

    async def listened(self, user: int, most: int | None = None) -> list[int]:
        """Return the tracks of the session, or `most` of them, longest ago first."""
        end = -1 if most is None else most - 1
        async with store_faults():
            stored = await self.client.zrange(self.keys.order(user), 0, end)
        return [int(track) for track in stored]

    async def erase(self, user: int) -> Receipt:
        """Remove everything held on a listener."""
        window = self._window()
        async with store_faults(), self.client.pipeline(transaction=True) as pipe:
            pipe.scard(self.keys.listened(user))
            pipe.delete(self.keys.session(user))
            pipe.delete(self.keys.listened(user), self.keys.order(user))
            pipe.delete(*(self.keys.idempotency(user, w) for w in (window, window - 1)))
            listened, session, _, _ = await pipe.execute()
        return Receipt(session=bool(session), listened=listened)

    async def ping(self) -> None:
        """Return if the store answers."""
        async with store_faults():
            await self.client.ping()

    def _keys(self, report: Report) -> list[str]:
        user, window = report.user, self._window()
        return [
            self.keys.session(user),
            self.keys.listened(user),
            self.keys.order(user),
            self.keys.events(user % self.keys.partitions),
            self.keys.idempotency(user, window),
            self.keys.idempotency(user, window - 1),
        ]

    def _window(self) -> int:
        # A key lives for two windows, so an answer is found for at least one.
        return int(time.time()) // self.idempotency_ttl


def _open(event: Mapping[str, Any]) -> bytes:
    """Return an event as JSON without its closing brace; the script appends the rest."""
    return orjson.dumps(event)[:-1]


def _field(message: str, report: Report) -> str:
    """Name an idempotency key: of fixed length, whatever the caller sent."""
    if report.key is None:
        return ""
    digest = hashlib.sha256(report.key.encode(errors="surrogateescape")).hexdigest()
    return f"{message}:{digest[:32]}"


def _routes(plan: Plan) -> list[bytes]:
    return [bytes(plan.route(last)) for last in (CONTEXTUAL, PERSONAL, None)]


def _pool(pool: Pool | Sample) -> list[Any]:
    if isinstance(pool, Sample):
        tracks = _pack_tracks(pool.proposals)
        return [pool.recommender, tracks, b"", len(pool.proposals), pool.size, b""]
    candidates, draw = pool.candidates, pool.draw
    if candidates.packed is None:
        candidates.packed = _pack(candidates)
    spare = draw.spare if pool.memory else "memoryless"
    return [pool.recommender, *candidates.packed, len(candidates), draw.pick, spare]


def _pack(candidates: Candidates) -> tuple[bytes, bytes]:
    weights = struct.pack(f"<{len(candidates)}d", *candidates.weights)
    return _pack_tracks(candidates.tracks), weights


def _pack_tracks(tracks: Sequence[int]) -> bytes:
    """Write ids as decimals, each behind a byte with its length, as struct's `Bc0` reads them.

    Decimals, so that the listened set keeps the server's compact encoding of integers.
    """
    texts = [b"%d" % track for track in tracks]
    return b"".join([bytes((len(text),)) + text for text in texts])


def _outcome(reply: list[Any], claim: Claim) -> Claimed | Exhausted | Moved:
    match reply:
        case [b"claimed", *values]:
            origin = (claim.policy, claim.table_version, claim.report.request_id)
            return _claimed([str(v) if isinstance(v, int) else v.decode() for v in values], origin)
        case [b"again", stored]:
            *values, policy, version, request_id = stored.decode().split(" ", 8)
            return _claimed(values, (policy, version, request_id))
        case [b"exhausted", position, heard]:
            return Exhausted(position, None if heard < 0 else heard)
        case _:
            return Moved()


def _claimed(values: list[str], origin: tuple[str, str, str]) -> Claimed:
    track, recommender, propensity, position, session, fallback = values
    return Claimed(
        int(track), recommender, float(propensity), int(position), session, fallback == "1", *origin
    )
