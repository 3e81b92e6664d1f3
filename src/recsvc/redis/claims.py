"""Claims as a call of `claim.lua`, and its replies as outcomes.

Every answer costs one of each, so a call is put together from pieces that were written
before, once a service or once a table; candidates come packed.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from recsvc.policy import CONTEXTUAL, PERSONAL, Pool, Routes
from recsvc.redis.keys import Keys
from recsvc.redis.resp import word, words
from recsvc.redis.state import write_report
from recsvc.session import Claim, Claimed, Exhausted, Moved, idempotency_field
from recsvc.tracks import pack_tracks

__all__ = ["ClaimWriter", "outcome"]

_LIMITS, _SCALARS, _POOL = 4, 9, 2
_KEYS, _KEYS_WITH_IDEMPOTENCY = 3, 5
_NUMBERS = struct.Struct("<??qqq").pack  # known, late, expires, now, reported
_DRAW = struct.Struct("<Biid").pack
_MOST_FORMS = 1024
_MEMORYLESS = -1.0  # the spare of a pool that keeps heard tracks
_SAMPLE = -2.0  # the spare of a sample
_ONLY_NAMED = -2, 0, 0.0  # the draw of a personal list that is not sent
_CALL = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%d\r\n"
# what ends the evidence, then numbers, report, fresh, event
_USUAL = b"\r\n$26\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_SPENT, _NOTHING = words(PERSONAL, b""), words(b"")


class ClaimWriter:
    """Writes calls of the script that has this `digest`. Times to live are in seconds."""

    def __init__(
        self, digest: str, keys: Keys, *, session_ttl: int, idempotency_ttl: int, events_max: int
    ) -> None:
        self._digest = digest.encode()
        self._keys = keys
        limits = session_ttl * 1000, events_max, idempotency_ttl * 2000
        self._limits = {each: words(*limits, each) for each in (_KEYS, _KEYS_WITH_IDEMPOTENCY)}
        self._forms: dict[tuple[int, int, int | None], bytes] = {}

    def write(
        self,
        claims: Sequence[Claim],
        sent: Sequence[tuple[int, ...]],
        window: int | None,
        ahead_ms: int,
    ) -> bytes:
        """Write claims of different listeners of one partition.

        `sent` are of each claim the pools of its plan to send, `~number` for one to be named only;
        `window` is that of idempotency keys, None where no claim has one; `ahead_ms` what the
        server's clock is ahead of ours.
        """
        each = _KEYS if window is None else _KEYS_WITH_IDEMPOTENCY
        pieces, pools = [b""], 0
        for claim in claims:
            pieces.append(self._key_words(claim.report.user, window))
        pieces.append(self._limits[each])
        for claim, numbers in zip(claims, sent, strict=True):
            _write_claim(claim, numbers, ahead_ms, pieces)
            pools += len(numbers)
        count = _LIMITS + (each + _SCALARS) * len(claims) + _POOL * pools
        pieces[0] = _call(self._digest, each * len(claims), count)
        return b"".join(pieces)

    def _key_words(self, user: int, window: int | None) -> bytes:
        """Write a listener's keys; those for idempotency too if there is a window.

        They only differ in the listener's id, and in their length by the number of its digits.
        """
        kind = (user % self._keys.partitions, len(str(user)), window)
        form = self._forms.get(kind)
        if form is None:
            if len(self._forms) > _MOST_FORMS:  # windows pass
                self._forms.clear()
            keys = self._keys.of_session(user, window or 0)
            written = map(word, keys[: _KEYS if window is None else _KEYS_WITH_IDEMPOTENCY])
            form = b"".join([key.replace(b":%d" % user, b":%d", 1) for key in written])
            self._forms[kind] = form
        return form % ((user, user) if window is None else (user, user, user, user))


@lru_cache(maxsize=1024)
def _call(digest: bytes, keys: int, count: int) -> bytes:
    """Write what comes before so many words, of which the first are keys."""
    return _CALL % (3 + count, digest, len(str(keys)), keys)


def _write_claim(claim: Claim, sent: tuple[int, ...], ahead_ms: int, to: list[bytes]) -> None:
    """Add a claim's words to `to`, in the order of `claim.lua`."""
    report, plan = claim.report, claim.plan
    expires = claim.expires_ms and claim.expires_ms + ahead_ms
    text = write_report(report.track, report.time, claim.at_ms, claim.policy, claim.table_version)
    fresh = claim.id.encode()
    event = orjson.dumps(claim.event)[:-1]
    usual = _USUAL % (
        _NUMBERS(claim.known, plan.fallback, expires, claim.at_ms, report.track),
        len(text),
        text,
        len(fresh),
        fresh,
        len(event),
        event,
    )
    first, draws = len(to), b""
    to += (
        b"",  # the draws
        _shared_words(claim.table_version, plan.routes),
        b"%b$%d\r\n" % (_rare_word(claim), len(claim.evidence)),
        claim.evidence,
        usual,
    )
    for number in sent:
        if number < 0:
            draws += _DRAW(~number, *_ONLY_NAMED)
            to.append(_SPENT)
            continue
        pool = plan.pools[number]
        if isinstance(pool, Pool):
            candidates = pool.candidates
            spare = pool.draw.spare if pool.memory else _MEMORYLESS
            draws += _DRAW(number, candidates.pick(pool.draw.chance), len(candidates), spare)
            to += _pool_words(pool.recommender, len(candidates.packed)), candidates.packed, b"\r\n"
        else:
            draws += _DRAW(number, pool.size, 0, _SAMPLE)
            to.append(words(pool.recommender, pack_tracks(pool.proposals)))
    to[first] = word(draws)


@lru_cache(maxsize=64)
def _shared_words(table_version: str, routes: Routes) -> bytes:
    """Write what many claims have in common."""
    contextual, personal, otherwise = (routes.after(last) for last in (CONTEXTUAL, PERSONAL, None))
    lengths = len(contextual), len(personal)
    return words(table_version, bytes([*lengths, *contextual, *personal, *otherwise]))


@lru_cache(maxsize=1024)
def _pool_words(recommender: str, size: int) -> bytes:
    """Write what comes before so many bytes of candidates."""
    return b"%b$%d\r\n" % (word(recommender), size)


def _rare_word(claim: Claim) -> bytes:
    """Write what most claims are without."""
    report = claim.report
    if claim.position is None and claim.recount is None and report.key is None:
        return _NOTHING
    position = "" if claim.position is None else claim.position
    recount = "" if claim.recount is None else claim.recount
    if report.key is None:
        return word(f"{position} {recount}  ")
    field = idempotency_field("next", report)
    answer = f"{claim.policy} {claim.table_version} {report.request_id}"
    return word(f"{position} {recount} {field} {answer}")


def outcome(reply: list[Any], claim: Claim) -> Claimed | Exhausted | Moved:
    """Read a reply of the script."""
    if reply[0] == b"claimed":
        _, track, recommender, propensity, position, session, fallback, entry, spent = reply
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
            False,
            spent == 1,
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
