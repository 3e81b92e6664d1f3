"""What a player gets."""

from dataclasses import dataclass

__all__ = ["Answer"]


@dataclass(unsafe_hash=True)  # without slots: so orjson writes it in a quarter of the time
class Answer:
    """The next track, and where it came from. A degraded one was made without the store."""

    user: int
    track: int
    recommender: str
    propensity: float
    policy: str
    table_version: str
    request_id: str
    session: str | None
    position: int | None
    fallback: bool
    experiments: dict[str, str]
    degraded: bool = False
