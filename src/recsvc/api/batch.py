"""Answers many reports at once."""

from collections.abc import Sequence
from typing import Any

from recsvc.api.context import Context
from recsvc.api.problems import ProblemError, describe
from recsvc.api.reports import read_item

__all__ = ["answer_all"]


async def answer_all(items: Sequence[Any], call_id: str, ctx: Context) -> list[Any]:
    """Answer reports in order; a bad one gets a problem in its place.

    Those of different listeners are answered side by side, those of one in order.
    """
    answers: list[Any] = [None] * len(items)
    places, reports = [], []
    for place, item in enumerate(items):
        try:
            reports.append(read_item(item, f"{call_id}:{place}"))
        except ProblemError as error:
            answers[place] = describe(error.fault)
        else:
            places.append(place)
    for place, answer in zip(places, await ctx.service.next_all(reports), strict=True):
        answers[place] = answer  # orjson writes dataclasses
    return answers
