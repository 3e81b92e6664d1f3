"""Answers many reports at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

from recsvc.answer import Answer
from recsvc.api.context import Context
from recsvc.api.problems import ProblemError, describe
from recsvc.api.reports import read_item
from recsvc.session import Report

__all__ = ["answer_all"]

_AT_ONCE = 100  # listeners of one batch; their claims go out together and share a round trip


async def answer_all(items: Sequence[Any], call_id: str, ctx: Context) -> list[Any]:
    """Answer reports in order; a bad one gets a problem in its place.

    Those of different listeners are answered side by side, those of one in order.
    """
    answers: list[Answer | dict[str, Any] | None] = [None] * len(items)
    by_user: dict[int, list[tuple[int, Report]]] = {}
    for position, item in enumerate(items):
        try:
            report = read_item(item, f"{call_id}:{position}")
        except ProblemError as error:
            answers[position] = describe(error.fault)
        else:
            by_user.setdefault(report.user, []).append((position, report))

    async def answer(reports: list[tuple[int, Report]]) -> None:
        for position, report in reports:
            answers[position] = await ctx.service.next(report)  # orjson writes dataclasses

    listeners = list(by_user.values())
    for start in range(0, len(listeners), _AT_ONCE):
        await asyncio.gather(*map(answer, listeners[start : start + _AT_ONCE]))
    return answers
