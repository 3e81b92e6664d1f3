"""Figures, ratios, and what counts as moved."""

from typing import Any

import pytest

from tests.load.figures import Key, Results, compare, spread

FAST = Key("closed", "ensemble", "32 connections", "rate")
BASE = Key("closed", "ceiling", "32 connections", "rate")


def results(*pairs: tuple[float, float]) -> Results:
    found = Results()
    for value, base in pairs:
        found.add(FAST, "answers/s", value)
        found.add(BASE, "answers/s", base)
    found.ratio("share", FAST, BASE, more=True)
    return found


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was half as fast in the second round; the share is the same.
    found = results((400, 1000), (200, 500), (450, 1000))
    assert found.ratios["share"].rounds == [0.4, 0.4, 0.45]
    assert found.ratios["share"].median == 0.4
    assert found.figures[FAST].median == 400


def test_the_spread_is_half_the_range() -> None:
    assert spread([90.0, 100.0, 110.0]) == pytest.approx(0.1)
    assert spread([5.0]) == 0.0


@pytest.mark.parametrize(
    ("share", "more", "verdict"),
    [
        (0.40, True, "same"),
        (0.43, True, "same"),  # under a tenth
        (0.46, True, "better"),
        (0.34, True, "worse"),
        (0.46, False, "worse"),
        (0.34, False, "better"),
    ],
)
def test_what_moved_by_over_a_tenth_is_shown(share: float, more: bool, verdict: str) -> None:
    before = results((400, 1000)).document()
    now = Results()
    now.add(FAST, "answers/s", share * 1000)
    now.add(BASE, "answers/s", 1000)
    now.ratio("share", FAST, BASE, more=more)
    (shift,) = compare(now, before)
    assert (shift.before, shift.verdict) == (0.4, verdict)


def test_what_was_unsteady_must_move_further() -> None:
    before = results((300, 1000), (400, 1000), (500, 1000)).document()
    (shift,) = compare(results((480, 1000)), before)
    assert shift.threshold == pytest.approx(0.25)
    assert shift.verdict == "same"


def test_only_what_both_have_is_compared() -> None:
    nothing: dict[str, Any] = {"ratios": []}
    assert compare(results((1, 2)), nothing) == []
