"""What must hold of everything that players were told, whatever was done to the service."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from recsvc.redis.connection import connect
from recsvc.redis.events import read_events
from recsvc.redis.keys import Keys
from tests.torture.players import Call, Log

__all__ = ["Verdict", "judge", "stored_events"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    `lost` acknowledged calls have no event, `twice` have more than one, `wrong` have one
    that tells something else. `unasked` events are of calls that were never answered.
    """

    answers: int
    degraded: int
    errors: int
    unanswered: int
    repeats: int
    strangers: int
    lost: int
    twice: int
    wrong: int
    unasked: int

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.errors or self.broken)

    @property
    def broken(self) -> int:
        """How many promises about answers and events were not kept."""
        return self.repeats + self.strangers + self.lost + self.twice + self.wrong

    def __str__(self) -> str:
        return (
            f"{self.answers:,} answers ({self.degraded:,} degraded), {self.errors} errors, "
            f"{self.repeats} repeats, {self.strangers} for another listener, "
            f"{self.lost} events lost, {self.twice} twice, {self.wrong} wrong"
        )


async def stored_events(url: str) -> list[dict[str, Any]]:
    """Read all events that are in the store."""
    async with connect(url, reply_within=10, connections=1) as client:
        return [orjson.loads(line) async for line in read_events(client, Keys())]


def judge(log: Log, events: Sequence[dict[str, Any]]) -> Verdict:
    """Compare what players were told with what is recorded."""
    recorded: dict[str, list[dict[str, Any]]] = defaultdict(list)
    listeners = {call.user for call in log.calls}
    for event in events:
        if event["user"] in listeners:  # the others are of earlier tests
            recorded[event["request_id"]].append(event)
    good = [c for c in log.calls if c.status == 200]
    counts = Counter(len(recorded[c.request_id]) for c in good)
    told = {c.request_id for c in good}
    return Verdict(
        answers=sum(c.message == "next" for c in good),
        degraded=len(log.degraded),
        errors=sum(c.status != 200 for c in log.calls),
        unanswered=log.unanswered,
        repeats=_repeats(log),
        strangers=sum(c.answer["user"] != c.user for c in good),
        lost=counts[0],
        twice=sum(n for times, n in counts.items() if times > 1),
        wrong=sum(not _agrees(c, e) for c in good for e in recorded[c.request_id][:1]),
        unasked=sum(len(found) for name, found in recorded.items() if name not in told),
    )


def _agrees(call: Call, event: dict[str, Any]) -> bool:
    asked = (call.user, call.track, call.time, call.message)
    if asked != (event["user"], event["track"], event["time"], event["message"]):
        return False
    if call.message == "last":
        return True
    answer = call.answer
    return bool(
        answer["track"] == event["recommendation"]
        and answer["recommender"] == event["recommender"]
        and abs(answer["propensity"] - event["propensity"]) < 1e-12
        and answer["request_id"] == call.request_id
        and answer["degraded"] == event.get("degraded", False)
        and answer["table_version"] == event["table_version"]
    )


def _repeats(log: Log) -> int:
    """Count tracks that came again in one session, by the order in which players heard them."""
    heard: dict[int, set[int]] = defaultdict(set)
    repeats = 0
    answered = [(c.at, c.user, c.message, c) for c in log.calls if c.status == 200]
    # The end of a session may have been recorded although nobody was told.
    broken = [(at, user, message, None) for at, user, message in log.broken if message == "last"]
    for _, user, message, call in sorted([*answered, *broken], key=lambda one: one[0]):
        if message == "last" or call is None:
            heard[user] = set()
            continue
        tracks = heard[user]
        tracks.add(call.track)
        repeats += call.answer["track"] in tracks
        tracks.add(call.answer["track"])
    return repeats
