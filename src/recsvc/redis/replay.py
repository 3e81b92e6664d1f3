"""Brings the server what was answered without it, and what it has lost."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import orjson

from recsvc.errors import RefusedError, StoreUnavailableError
from recsvc.outage.record import Numbered, Record
from recsvc.redis.caller import Caller
from recsvc.redis.keys import Keys
from recsvc.redis.resp import command
from recsvc.redis.script import Script
from recsvc.redis.state import write_report
from recsvc.tracks import pack_tracks

__all__ = ["RedisReplay"]

_AT_ONCE = 100  # records in one call of the script, which nothing else can interrupt
_PAGE = 1000  # events that the server looks at in one go
_MARGIN_MS = 1000  # how long a call may take, and how wrong we may be about the server's clock


class RedisReplay:
    """The `Replay` port on Redis. Times to live are in seconds.

    `ahead_ms` tells by how much the server's clock is ahead of ours.
    """

    def __init__(
        self,
        caller: Caller,
        keys: Keys,
        *,
        session_ttl: int,
        idempotency_ttl: int,
        events_max: int,
        ahead_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self.caller = caller
        self.keys = keys
        self.session_ttl = session_ttl
        self.idempotency_ttl = idempotency_ttl
        self.events_max = events_max
        self.ahead_ms = ahead_ms
        self._replay = Script("heard.lua", "state.lua", "replay.lua")
        self._missing = Script("missing.lua")
        self._calls = Script("calls.lua")

    async def lost(self, records: Sequence[Numbered]) -> list[Numbered]:
        """Return those records whose entries are not there."""
        lost: list[Numbered] = []
        for partition, numbered in _by_partition(records, self.keys.partitions):
            stream, entries = self.keys.events(partition), [one.record.entry for one in numbered]
            missing = await self._missing.run(self.caller, [stream], entries)
            lost += [numbered[place] for place in missing]
        return sorted(lost, key=lambda one: one.number)

    async def write(self, records: Sequence[Numbered]) -> int:
        """Record what the server lacks; returns how many events were written.

        What one partition cannot take does not hold up the others: in a Cluster one server may
        be away.
        """
        written, failures = 0, list[StoreUnavailableError]()
        for partition, numbered in _by_partition(records, self.keys.partitions):
            try:
                written += await self._write_all(partition, numbered)
            except StoreUnavailableError as error:
                failures.append(error)
        if failures:  # what was not refused may be written yet
            raise min(failures, key=lambda error: isinstance(error, RefusedError))
        return written

    async def forget(self, *sources: str) -> None:
        """Forget how far these sources were written: there is nothing left of them."""
        for partition in range(self.keys.partitions):
            await self.caller.call(command("HDEL", self.keys.replayed(partition), *sources))

    async def _write_all(self, partition: int, records: Sequence[Numbered]) -> int:
        unsure = [one.record for one in records if one.record.unsure]
        orphans = await self._orphans(partition, unsure)
        written = 0
        for start in range(0, len(records), _AT_ONCE):
            part = records[start : start + _AT_ONCE]
            written += await self._write(partition, part, orphans)
        return written

    async def _write(
        self, partition: int, records: Sequence[Numbered], orphans: dict[str, str]
    ) -> int:
        keys = [
            self.keys.events(partition),
            self.keys.replayed(partition),
            self.keys.forgotten(partition),
        ]
        arguments: list[Any] = [
            self.session_ttl * 1000,
            self.events_max,
            self.idempotency_ttl * 2000,
        ]
        for source, number, record in records:
            keys += self._own_keys(record.event["user"])
            orphan = orphans.get(record.event["id"], "")
            arguments += [source, number, record.event["message"], record.entry, orphan]
            arguments += _arguments(record)
        written: int = await self._replay.run(self.caller, keys, arguments)
        return written

    async def _orphans(self, partition: int, unsure: Sequence[Record]) -> dict[str, str]:
        """Find the events of calls that the server answered although nobody heard it.

        It numbers entries by its clock and answers no call after its expiry, so it is
        enough to look around the time of each call.
        """
        found: dict[str, str] = {}
        stream, ahead = self.keys.events(partition), self.ahead_ms()
        for start, end in _spans(record.event["timestamp"] + ahead for record in unsure):
            names = [
                record.event["id"]
                for record in unsure
                if start < record.event["timestamp"] + ahead < end
            ]
            at = str(start)
            while at:
                last, *pairs = await self._calls.run(
                    self.caller, [stream], [at, end, _PAGE, *names]
                )
                texts = [text.decode() for text in pairs]
                found.update(zip(texts[::2], texts[1::2], strict=True))
                at = f"({last.decode()}" if last else ""
        return found

    def _own_keys(self, user: int) -> list[str]:
        window = int(time.time()) // self.idempotency_ttl
        return [
            self.keys.session(user),
            self.keys.bitmap(user),
            self.keys.idempotency(user, window),
            self.keys.idempotency(user, window - 1),
            self.keys.oldest(user),
            self.keys.idempotency(user, window - 2),
            self.keys.ended(user),
        ]


def _arguments(record: Record) -> list[Any]:
    """Return what the script is told of a record; see there."""
    event = record.event
    return [
        pack_tracks([event["track"]]),
        write_report(
            event["track"],
            event["time"],
            event["timestamp"],
            event["policy"],
            event["table_version"],
        ),
        int(record.known),
        event["timestamp"],
        event["id"],
        record.session or "",
        "" if record.position is None else record.position,
        record.began,
        b"" if record.track is None else pack_tracks([record.track]),
        record.recommender,
        repr(record.propensity),
        int(record.fallback),
        event["table_version"],
        record.field,
        f"{event['policy']} {event['table_version']} {event['request_id']}",
        orjson.dumps(event)[:-1],
    ]


def _by_partition(
    records: Sequence[Numbered], partitions: int
) -> Iterator[tuple[int, list[Numbered]]]:
    def partition(numbered: Numbered) -> int:
        user: int = numbered.record.event["user"]
        return user % partitions

    for key, group in groupby(sorted(records, key=partition), key=partition):  # a stable sort
        yield key, list(group)


def _spans(times: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Join the surroundings of some times (ms) into spans that do not overlap."""
    start = end = None
    for at in sorted(times):
        if start is None or end is None or at - _MARGIN_MS > end:
            if start is not None and end is not None:
                yield start, end
            start = max(at - _MARGIN_MS, 0)
        end = at + _MARGIN_MS
    if start is not None and end is not None:
        yield start, end
