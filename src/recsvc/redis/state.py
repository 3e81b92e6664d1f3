"""A session as `state.lua` writes it."""

from typing import TypedDict

__all__ = ["State", "read_state"]


class State(TypedDict):
    """What a session is, but for what it has heard."""

    id: str
    recommender: str
    position: int
    outside: int
    started: int
    track: int
    time: float
    served: int
    at: int
    policy: str
    table: str


def read_state(written: bytes | None) -> State | None:
    """Return the session, None where there is none that can be read."""
    try:
        told = dict(word.split("=", 1) for word in (written or b"").decode().split(" "))
        return State(
            id=told["id"],
            recommender=told["recommender"],
            position=int(told["position"]),
            outside=int(told["outside"]),
            started=int(told["started"]),
            track=int(told["track"]),
            time=float(told["time"]),
            served=int(told["served"]),
            at=int(told["at"]),
            policy=told["policy"],
            table=told["table"],
        )
    except (ValueError, KeyError):
        return None
