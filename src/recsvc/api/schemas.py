"""What goes in and comes out over HTTP: pydantic models, each with an example."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from recsvc.table import MAX_ID

__all__ = [
    "Answer",
    "BatchItem",
    "Ended",
    "Erased",
    "Health",
    "Neighbour",
    "Neighbours",
    "PathId",
    "Report",
    "SessionView",
    "TableView",
    "Track",
    "example",
]


def example(**values: Any) -> ConfigDict:
    """Give a model an example, for the documentation."""
    return ConfigDict(json_schema_extra={"example": values})


def _canonical(value: object) -> object:
    """Let only plain digits be an id in a path: no sign, space, underscore, leading zero."""
    if isinstance(value, str) and not (
        value.isascii() and value.isdigit() and str(int(value[:20])) == value
    ):
        raise PydanticCustomError("id", "an id is a whole number from 0 to 9223372036854775807")
    return value


PathId = Annotated[
    int,
    Field(ge=0, le=MAX_ID),
    BeforeValidator(_canonical),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_ID, "examples": [17]}),
]
Id = Annotated[int, Field(strict=True, ge=0, le=MAX_ID)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]


class Report(BaseModel):
    """The track just heard, and the fraction of it that was played."""

    model_config = example(track=10, time=0.3)

    track: Id
    time: Fraction


class BatchItem(Report):
    """A report that names its listener."""

    model_config = example(user=17, track=10, time=0.3)

    user: Id


class Answer(BaseModel):
    """The track to play next, and where it came from."""

    model_config = example(
        user=17,
        track=3204,
        recommender="contextual",
        propensity=0.0172,
        policy="ensemble",
        table_version="3f9c2a71b04e",
        request_id="8c5e1f0a9b7d4e21",
        session="5d1f8a3be07c9624",
        position=0,
        fallback=False,
        experiments={},
        degraded=False,
    )

    user: int
    track: int
    recommender: str = Field(description="Who chose: contextual, personal, popular, catalogue, ...")
    propensity: float = Field(description="The probability with which this track was drawn.")
    policy: str
    table_version: str
    request_id: str
    session: str | None
    position: int | None = Field(description="How many answers came before in this session.")
    fallback: bool = Field(description="Whether the recommender first in line had nothing left.")
    experiments: dict[str, str] = Field(description="The listener's treatments by experiment.")
    degraded: bool = Field(description="Whether it was made without the session store.")


class Ended(BaseModel):
    """The session has ended."""

    model_config = example(user=17)

    user: int


class Track(BaseModel):
    """A track of the catalogue."""

    model_config = example(track=10, artist="The Lanterns", title="Slow Harbour")

    track: int
    artist: str
    title: str


class Neighbour(Track):
    """A track that may follow another, and how heavily it weighs."""

    model_config = example(
        track=4001, artist="Jory Alison", title="After the Letter", weight=0.0152, share=0.0152
    )

    weight: float
    share: float = Field(description="Its weight divided by the sum of all.")


class Neighbours(Track):
    """A track's weighted neighbours, the heaviest first."""

    model_config = example(
        track=10,
        artist="The Lanterns",
        title="Slow Harbour",
        table_version="3f9c2a71b04e",
        neighbours=[
            {
                "track": 4001,
                "artist": "Jory Alison",
                "title": "After the Letter",
                "weight": 0.0152,
                "share": 0.0152,
            }
        ],
    )

    table_version: str
    neighbours: list[Neighbour]


class SessionView(BaseModel):
    """A session as stored. Times of day are Unix milliseconds."""

    model_config = example(
        user=17,
        id="5d1f8a3be07c9624",
        recommender="contextual",
        position=3,
        track=10,
        time=0.3,
        served=3204,
        started=1790000000000,
        at=1790000012345,
        policy="ensemble",
        table_version="3f9c2a71b04e",
        listened=6,
        expires_in=1799.5,
        outside=0,
        counted="3f9c2a71b04e",
    )

    user: int
    id: str
    recommender: str
    position: int
    track: int
    time: float
    served: int
    started: int
    at: int
    policy: str
    table_version: str
    listened: int = Field(description="How many tracks this session has heard or been served.")
    expires_in: float = Field(description="Seconds of idleness until it ends by itself.")
    outside: int = Field(description="How many of those the catalogue did not have.")
    counted: str = Field(
        description="The table of that catalogue; empty when another one has answered since."
    )


class Erased(BaseModel):
    """The receipt of an erasure: what there was, and is no more."""

    model_config = example(
        user=17, found=True, session=True, listened=6, personal=True, at=1790000012345
    )

    user: int
    found: bool = Field(description="Whether there was anything.")
    session: bool
    listened: int = Field(description="How many tracks the session had heard.")
    personal: bool = Field(
        description="Whether the table in service has a personal list, which is not used any more."
    )
    at: int = Field(description="When, in Unix milliseconds; logs drop the events up to then.")


class TableView(BaseModel):
    """The table in service."""

    model_config = example(
        version="3f9c2a71b04e",
        previous="0185a1e7e9ad",
        created_at="2026-11-24T07:15:09+00:00",
        age_seconds=3600.0,
        loaded_seconds=3590.0,
        counts={
            "tracks": 5000,
            "artists": 489,
            "neighbours": 350000,
            "popular": 200,
            "listeners": 2000,
        },
        metrics={"contextual_mse": 0.122, "contextual_mse_constant": 0.156},
    )

    version: str
    previous: str | None
    created_at: str | None
    age_seconds: float | None = Field(description="Seconds since it was trained.")
    loaded_seconds: float = Field(description="Seconds since it was put into service.")
    counts: dict[str, int]
    metrics: dict[str, float]


class Health(BaseModel):
    """Whether the service can do its work; `checks` says what is amiss."""

    model_config = example(status="ready", checks={"redis": "ok", "table": "ok"})

    status: str
    checks: dict[str, str]
