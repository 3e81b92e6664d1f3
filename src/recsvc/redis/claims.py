"""Claims as a call of `claim.lua`, and its replies as outcomes.

Every answer costs one of each, so a call is put together from pieces that were written
before: once a service, once a table, once a list of candidates.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from recsvc.candidates import Ids
from recsvc.policy import CONTEXTUAL, PERSONAL, Pool
from recsvc.redis.keys import Keys
from recsvc.redis.resp import word, words
from recsvc.session import Claim, Claimed, Exhausted, Moved, idempotency_field

__all__ = ["ClaimWriter", "outcome", "pack_tracks", "packed_tracks", "unpack_tracks"]

_KEYS, _LIMITS, _SCALARS, _POOL = 6, 3, 21, 3
_INT64 = np.dtype("<i8")
_TRACK = struct.Struct("<q").pack
_DRAW = struct.Struct("<id").pack
_MOST_FORMS = 1024
_MEMORYLESS = -1.0  # the spare of a pool that keeps heard tracks
_CALL = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%d\r\n"
# known, expires, now, reported, track, time, fresh, event, draws; 13 digits last until 2286
_USUAL = (
    b"$1\r\n%d\r\n$13\r\n%013d\r\n$13\r\n%013d\r\n$8\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
    b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
)
_RARE = b"$%d\r\n%b\r\n" + words(b"", b"", b"") + b"$%d\r\n%b\r\n"

Routes = tuple[tuple[str | None, tuple[int, ...]], ...]


class ClaimWriter:
    """Writes calls of the script that has this `digest`. Times to live are in seconds."""

    def __init__(
        self, digest: str, keys: Keys, *, session_ttl: int, idempotency_ttl: int, events_max: int
    ) -> None:
        self._digest = digest.encode()
        self._keys = keys
        self._limits = words(session_ttl * 1000, events_max, idempotency_ttl * 2000)
        self._forms: dict[tuple[int, int, int], bytes] = {}

    def write(
        self, claims: Sequence[Claim], window: int, ahead_ms: int, *, all_pools: bool = False
    ) -> bytes:
        """Write claims of different listeners of one partition.

        `window` is that of idempotency keys, `ahead_ms` what the server's clock is ahead of
        ours. Without `all_pools` only those are sent that may be asked first.
        """
        keys, own, pools = list[bytes](), list[bytes](), 0
        for claim in claims:
            keys.append(self._key_words(claim.report.user, window))
            pools += _write_claim(claim, ahead_ms, all_pools, own)
        count = 3 + _LIMITS + (_KEYS + _SCALARS) * len(claims) + _POOL * pools
        number = b"%d" % (_KEYS * len(claims))
        call = _CALL % (count, self._digest, len(number), _KEYS * len(claims))
        return b"".join([call, *keys, self._limits, *own])

    def _key_words(self, user: int, window: int) -> bytes:
        """Write a listener's keys.

        They only differ in the listener's id, and in their length by the number of its digits.
        """
        kind = (user % self._keys.partitions, len(str(user)), window)
        form = self._forms.get(kind)
        if form is None:
            if len(self._forms) > _MOST_FORMS:  # windows pass
                self._forms.clear()
            written = [word(key) for key in self._keys.of_session(user, window)]
            form = b"".join([key.replace(b":%d" % user, b":%d", 1) for key in written])
            self._forms[kind] = form
        return form % (user, user, user, user, user)


def _write_claim(claim: Claim, ahead_ms: int, all_pools: bool, to: list[bytes]) -> int:
    """Add a claim's words to `to`, in the order of `claim.lua`; return how many pools it has."""
    report, plan = claim.report, claim.plan
    shared, sent = _shared_words(
        claim.policy,
        claim.table_version,
        plan.fallback,
        tuple(plan.routes.items()),
        len(plan.pools) if all_pools else 0,
    )
    draws, lists = b"", list[bytes]()
    for pool in plan.pools[:sent]:
        if isinstance(pool, Pool):
            candidates = pool.candidates
            spare = pool.draw.spare if pool.memory else _MEMORYLESS
            draws += _DRAW(candidates.pick(pool.draw.chance), spare)
            name, weights = _pool_words(pool.recommender, len(candidates))
            lists += name, candidates.packed_tracks, weights, candidates.packed_weights, b"\r\n"
        else:
            draws += _DRAW(pool.size, 0.0)
            lists.append(words(pool.recommender, pack_tracks(pool.proposals), b""))
    track, time = b"%d" % report.track, repr(report.time).encode()
    fresh, event = claim.id.encode(), orjson.dumps(claim.event)[:-1]
    usual = _USUAL % (
        claim.known,
        claim.expires_ms and claim.expires_ms + ahead_ms,
        claim.at_ms,
        _TRACK(report.track),
        len(track),
        track,
        len(time),
        time,
        len(fresh),
        fresh,
        len(event),
        event,
        len(draws),
        draws,
    )
    to += shared, _rare_words(claim), usual, *lists
    return sent


@lru_cache(maxsize=64)
def _shared_words(
    policy: str, table_version: str, late: bool, routes: Routes, pools: int
) -> tuple[bytes, int]:
    """Write what many claims have in common; also return how many of their pools are sent.

    Those are `pools`, or if that is 0 as many as cover those that may be asked first.
    """
    by_last = dict(routes)
    asked = [bytes(by_last.get(last, by_last[None])) for last in (CONTEXTUAL, PERSONAL, None)]
    sent = pools or 1 + max(route[0] for route in by_last.values())
    return words(sent, policy, table_version, int(late), *asked), sent


@lru_cache(maxsize=1024)
def _pool_words(recommender: str, count: int) -> tuple[bytes, bytes]:
    """Write what comes before the ids of so many candidates, and between those and the weights."""
    return b"%b$%d\r\n" % (word(recommender), 8 * count), b"\r\n$%d\r\n" % (8 * count + 8)


def _rare_words(claim: Claim) -> bytes:
    """Write what most claims are without: expected, recount, field, answer, evidence."""
    report, evidence = claim.report, claim.evidence
    expected = b"" if claim.position is None else b"%d" % claim.position
    if claim.recount is None and report.key is None:
        return _RARE % (len(expected), expected, len(evidence), evidence)
    field = idempotency_field("next", report)
    return words(
        expected,
        "" if claim.recount is None else claim.recount,
        field,
        f"{claim.policy} {claim.table_version} {report.request_id}" if field else "",
        evidence,
    )


def pack_tracks(tracks: Sequence[int]) -> bytes:
    """Write ids as the scripts know them, 8 bytes each."""
    return np.asarray(tracks, _INT64).tobytes()


def packed_tracks(packed: bytes) -> Ids:
    """Read such ids, where they are."""
    return np.frombuffer(packed, _INT64)


def unpack_tracks(packed: bytes) -> list[int]:
    """Read such ids."""
    found: list[int] = packed_tracks(packed).tolist()
    return found


def outcome(reply: list[Any], claim: Claim) -> Claimed | Exhausted | Moved:
    """Read a reply of the script."""
    if reply[0] == b"claimed":
        _, track, recommender, propensity, position, session, fallback, entry = reply
        return Claimed(
            int(track),
            recommender.decode(),
            float(propensity),
            position,
            session.decode(),
            fallback == b"1",
            claim.policy,
            claim.table_version,
            claim.report.request_id,
            entry.decode(),
        )
    match reply:
        case [b"again", stored]:
            return _again(stored.decode())
        case [b"exhausted", position, heard]:
            return Exhausted(position, None if heard < 0 else heard)
        case _:
            return Moved()


def _again(stored: str) -> Claimed:
    """Read an answer that was given before, as the scripts keep it by its idempotency key."""
    track, recommender, propensity, position, session, fallback, *origin = stored.split(" ", 8)
    policy, table_version, request_id = origin
    return Claimed(
        int(track),
        recommender,
        float(propensity),
        int(position),
        session,
        fallback == "1",
        policy,
        table_version,
        request_id,
        degraded=session == "-",  # as replay.lua writes it
    )
