"""What is to be recorded in the session store, written down for later."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from recsvc.errors import RecordError
from recsvc.session import Claim, Claimed, Receipt, idempotency_field
from recsvc.values import value

__all__ = ["Numbered", "Record", "Replay", "forgetting", "pack", "record_of", "unpack"]

_LAYOUT = 1


@value
class Record:
    """An answer, or the end of a session (`track` is then None), with all of its event.

    `event` holds what was known before the answer, `known` tells whether the catalogue has
    the reported track, `field` names the idempotency key. An answer that the store has
    recorded has its `entry` in the stream, its `session` and `position`. Of one made
    without the store, `unsure` tells that the store may all the same have recorded another
    answer to the same call, and `began` (Unix ms, 0 if unknown) when the session did: what the
    store has may be one that ended before, in a record of another worker.
    """

    event: Mapping[str, Any]
    known: bool
    field: str
    track: int | None
    recommender: str = ""
    propensity: float = 0.0
    fallback: bool = False
    unsure: bool = False
    entry: str = ""
    session: str | None = None
    position: int | None = None
    began: int = 0


class Numbered(NamedTuple):
    """A record, the name of the file that it comes from, and its number there."""

    source: str
    number: int
    record: Record


class Replay(Protocol):
    """The port to the store that records are for. All may raise `StoreUnavailableError`;
    `RefusedError` says that the store works, and will never take it.
    """

    async def lost(self, records: Sequence[Numbered]) -> list[Numbered]:
        """Return, of some hundred records that have an `entry`, those that the store lost."""

    async def write(self, records: Sequence[Numbered]) -> int:
        """Record what the store lacks, each record once however often it is asked.

        Records of one source come with numbers that grow. Returns how many were written.
        """

    async def forget(self, *sources: str) -> None:
        """Forget how far these sources were written: there is nothing left of them."""


def pack(record: Record) -> bytes:
    """Return a record as bytes."""
    return orjson.dumps(
        (
            _LAYOUT,
            record.event,
            record.known,
            record.field,
            record.track,
            record.recommender,
            record.propensity,
            record.fallback,
            record.unsure,
            record.entry,
            record.session,
            record.position,
            record.began,
        )
    )


def unpack(data: bytes) -> Record:
    """Return the record that `pack` made bytes of; raises `RecordError`."""
    try:
        layout, *fields = orjson.loads(data)
        record = Record(*fields)
        numbers = [record.event["user"], record.event["track"], record.event["timestamp"]]
    except (orjson.JSONDecodeError, TypeError, ValueError, LookupError) as error:
        raise RecordError(f"not a record: {error}") from error
    if layout != _LAYOUT or not all(isinstance(number, int) for number in numbers):
        raise RecordError("not a record of this version")
    return record


def forgetting(user: int, receipt: Receipt) -> Record:
    """Note an erasure: a store that loses it must not remember the listener."""
    event = {"id": "", "message": "forget", "timestamp": receipt.at, "user": user, "track": 0}
    nothing = {"time": 0.0, "policy": "", "table_version": "", "request_id": ""}
    return Record(event | nothing, known=True, field="", track=None, entry=receipt.entry)


def record_of(claim: Claim, claimed: Claimed) -> Record:
    """Note an answer that the store has acknowledged."""
    return Record(
        claim.event,
        claim.known,
        idempotency_field("next", claim.report),
        claimed.track,
        claimed.recommender,
        claimed.propensity,
        claimed.fallback,
        unsure=False,
        entry=claimed.entry,
        session=claimed.session,
        position=claimed.position,
    )
