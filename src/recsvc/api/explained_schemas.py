"""The shapes of an explanation."""

from pydantic import BaseModel, Field

from recsvc.api.schemas import example

__all__ = ["Explained"]


class CandidateRow(BaseModel):
    """One candidate: its weight, whether it is excluded, its chance to be served."""

    track: int
    artist: str
    title: str
    weight: float
    heard: bool
    probability: float


class ExplainedPool(BaseModel):
    """One recommender's candidates, in the order of the table."""

    recommender: str
    answers: bool = Field(description="Whether this is the one that would answer.")
    population: int
    heard: int
    candidates: list[CandidateRow]


class HeardRow(BaseModel):
    """A track heard in the session, and how it moved what is expected of the answer."""

    track: int
    artist: str
    title: str
    time: float
    expected: float | None = Field(description="What was expected; null of the first track.")
    change: float = Field(description="By how much more of the answer is expected since.")


class ExpectedRow(BaseModel):
    """What is expected of a candidate; in 9 of 10 cases it lies between low and high."""

    track: int
    artist: str
    title: str
    expected: float
    low: float
    high: float
    discount: float = Field(description="The factor for earlier plays of its artist.")


class Reasons(BaseModel):
    """What the policy `session` has inferred of the session."""

    summary: str
    typical: float = Field(description="What is expected of a track of no particular appeal.")
    heard: list[HeardRow]
    candidates: list[ExpectedRow]


class Explained(BaseModel):
    """What /next would do, and why. Nothing was changed."""

    model_config = example(
        user=17,
        track=10,
        time=0.3,
        policy="ensemble",
        table_version="3f9c2a71b04e",
        last_recommender="contextual",
        why="contextual answered last and was heard for 0.3, below 0.7, so personal is first",
        answered_by="personal",
        pools=[
            {
                "recommender": "personal",
                "answers": True,
                "population": 100,
                "heard": 1,
                "candidates": [
                    {
                        "track": 3204,
                        "artist": "Tove Corlund",
                        "title": "Open Summer",
                        "weight": 0.0111,
                        "heard": False,
                        "probability": 0.0112,
                    }
                ],
            }
        ],
    )

    user: int
    track: int
    time: float
    policy: str
    table_version: str
    last_recommender: str | None
    why: str
    answered_by: str
    pools: list[ExplainedPool]
    reasons: Reasons | None = Field(
        default=None, description="Of the policy `session` only: what was inferred."
    )
