"""Typed settings: read once from the environment, then passed down as an argument.

Every field is a variable `RECSVC_<NAME>`; `.env.example` lists them all and a test
holds the two equal.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsvc.errors import RecsvcError

__all__ = ["EMBEDDED", "MOST_PORT", "MOST_WORKERS", "Settings", "read_settings"]

EMBEDDED = "embedded"
MOST_PORT = 65_535
MOST_WORKERS = 256


class Settings(BaseSettings):
    """Everything about the service that can be set from outside."""

    model_config = SettingsConfigDict(
        env_prefix="RECSVC_", env_file=".env", extra="ignore", frozen=True
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=MOST_PORT)] = 8000
    """Port to listen on; 0 is any free one."""
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 1
    """Worker processes. They share the memory of the table."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe log line to write."""
    data_dir: Path = Path("data")
    """Directory of the embedded server's data and of the cached tables."""

    redis_url: SecretStr = SecretStr(EMBEDDED)
    """`embedded`, or redis://, rediss://, unix://, redis+sentinel://, redis+cluster://."""
    redis_fsync: Literal["everysec", "always"] = "everysec"
    """How often the embedded server syncs its file: `always` also survives a power cut."""
    redis_timeout: Annotated[float, Field(gt=0, le=60)] = 0.2
    """Seconds to wait for one reply, and for one connection, of Redis."""
    redis_connections: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Most connections of one worker. A request waits for a free one."""
    key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "recsvc"
    """What all keys in Redis begin with."""
    partitions: Annotated[int, Field(ge=1, le=16_384)] = 1
    """Slots that listeners are spread over in a Cluster. Never change it on live data."""

    deadline: Annotated[float, Field(gt=0, le=60)] = 0.25
    """Seconds within which a request is answered, if need be from the tables alone."""
    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = 3
    """Failed calls in a row after which Redis is probed and not asked."""
    spool_max: Annotated[int, Field(ge=1 << 12, le=1 << 34)] = 67_108_864
    """Bytes of events that one worker keeps on disk while Redis is away."""
    memory_listeners: Annotated[int, Field(ge=4, le=1 << 24)] = 65_536
    """Listeners whose heard tracks are remembered for when Redis is away; 280 bytes each."""
    session_ttl: Annotated[int, Field(ge=1, le=2_592_000)] = 1800
    """Seconds of idleness that end a session."""
    idempotency_ttl: Annotated[int, Field(ge=1, le=86_400)] = 600
    """Seconds for which an Idempotency-Key is remembered, at least."""
    events_max: Annotated[int, Field(ge=1, le=(1 << 63) - 1)] = 1_000_000
    """Events kept in a stream, about; the oldest go first."""
    body_max: Annotated[int, Field(ge=64, le=1 << 26)] = 262_144
    """Bytes of a request body that are accepted."""
    requests_max: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Requests in progress in one worker, three items of a batch being one; beyond that, 503."""
    receive_timeout: Annotated[float, Field(gt=0, le=600)] = 8.0
    """Seconds for a request to arrive whole, and for its response to be taken."""
    keep_alive: Annotated[float, Field(gt=0, le=3600)] = 75.0
    """Seconds that a connection may be idle between requests."""
    batch_max: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Items of one POST /next."""

    policy: Literal[
        "ensemble",
        "session",
        "random",
        "popular",
        "sticky_artist",
        "personal",
        "contextual",
        "weighted",
        "filtered",
        "remembering",
        "switching",
    ] = "ensemble"
    """The policy that answers where no experiment names another."""
    experiments: Path | None = None
    """A TOML file that declares experiments; see docs/experiments.md."""
    switch_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The time from which on the recommender is kept."""
    exploration: Annotated[float, Field(ge=0, le=1)] = 0.02
    """The share of answers with which `session` tries another of its best candidates."""
    candidates: Annotated[int, Field(ge=1, le=1000)] = 32
    """How many best candidates `session` offers."""
    seed: int | None = None
    """Seed of the draws, for experiments with one worker; unset, every worker draws its own."""

    table_poll: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """Seconds between looks at which table is live."""
    admin_key: SecretStr | None = None
    """Key for POST /table/...; without it or an admin key below, those calls are refused."""
    api_keys: SecretStr | None = None
    """Who may call: entries of `recsvc key`, or a file with them; unset, everybody may."""
    docs_open: bool = True
    """Whether /docs and /openapi.json are there."""
    metrics_open: bool = True
    """Whether /metrics answers without a key; if not, it needs one for `read`."""

    @field_validator("admin_key", "api_keys", "experiments", "seed", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("data_dir")
    @classmethod
    def _may_be_a_directory(cls, value: Path) -> Path:
        in_the_way = [path for path in (value, *value.parents) if path.exists()]
        if in_the_way and not in_the_way[0].is_dir():
            raise ValueError(f"{in_the_way[0]} is no directory")
        return value

    @property
    def embedded(self) -> bool:
        """Whether the service runs its own server."""
        return self.redis_url.get_secret_value() == EMBEDDED


def read_settings() -> Settings:
    """Read the settings; raises `RecsvcError` with all that is wrong in one line."""
    try:
        return Settings()
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        faults = "; ".join(
            f"RECSVC_{e['loc'][0]!s}".upper() + f": {e['msg'].removeprefix('Value error, ')}"
            for e in found
        )
        raise RecsvcError(faults) from error
    except UnicodeDecodeError:  # it holds all of the file
        raise RecsvcError("the file .env is not UTF-8") from None
