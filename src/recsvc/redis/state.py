"""A session as `state.lua` writes it, and the part of it that is written here."""

import re
from typing import TypedDict

__all__ = ["State", "read_state", "write_report"]


class State(TypedDict):
    """What a session is, but for what it has heard."""

    id: str
    recommender: str
    position: int
    outside: int
    counted: str
    started: int
    track: int
    time: float
    served: int
    at: int
    policy: str
    table: str


_STATE = re.compile(
    rb"id=(?P<id>\S+) recommender=(?P<recommender>\S+) position=(?P<position>\d+)"
    rb" outside=(?P<outside>\d+) counted=(?P<counted>\S*) started=(?P<started>\d+)"
    rb" served=(?P<served>\d+)"
    rb" track=(?P<track>\d+) time=(?P<time>\S+) at=(?P<at>\d+) policy=(?P<policy>\S+)"
    rb" table=(?P<table>\S*)"
)


def write_report(track: int, time: float, at_ms: int, policy: str, table_version: str) -> bytes:
    """Write the end of a session's text: what is known of an answer before it is chosen."""
    text = f" track={track} time={time!r} at={at_ms} policy={policy} table={table_version}"
    return text.encode()


def read_state(written: bytes | None) -> State | None:
    """Return the session, None where there is none that can be read."""
    found = _STATE.fullmatch(written or b"")
    if found is None:
        return None
    try:
        return State(
            id=found["id"].decode(),
            recommender=found["recommender"].decode(),
            position=int(found["position"]),
            outside=int(found["outside"]),
            counted=found["counted"].decode(),
            started=int(found["started"]),
            track=int(found["track"]),
            time=float(found["time"]),
            served=int(found["served"]),
            at=int(found["at"]),
            policy=found["policy"].decode(),
            table=found["table"].decode(),
        )
    except ValueError:
        return None
