"""Answers many reports at once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from recsvc.api.context import Context
from recsvc.api.problems import ProblemError, describe
from recsvc.api.reports import read_item
from recsvc.session import Report

__all__ = ["answer_all"]


async def answer_all(
    items: Sequence[Any], call_id: str, key: str | None, ctx: Context
) -> list[Any]:
    """Answer reports in order; a bad one gets a problem in its place.

    Those of different listeners are answered side by side, those of one in order. `key` is the
    Idempotency-Key of the whole call.
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
    if key is not None:
        reports = _keyed(reports, key)
    for place, answer in zip(places, await ctx.service.next_all(reports), strict=True):
        answers[place] = answer  # orjson writes dataclasses
    return answers


def _keyed(reports: Sequence[Report], key: str) -> list[Report]:
    """Give each report the key of the call, and a listener's further ones their number with it."""
    before = Counter[int]()
    keyed = []
    for report in reports:
        nth = before[report.user]
        before[report.user] += 1
        # No key that a caller may send has a line end in it.
        keyed.append(replace(report, key=f"{key}\n{nth}" if nth else key))
    return keyed
