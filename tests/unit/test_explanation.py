"""What /explain says of one pool, and of why it is asked."""

import pytest

from recsvc.api.explained import render
from recsvc.explanation import Explanation, explain_pool
from recsvc.policy import CATALOGUE, CONTEXTUAL, PERSONAL, POPULAR, Sample
from recsvc.recommenders.source import Source
from recsvc.session import Report
from tests.support import pool, small_table


def test_chances_are_shares_of_the_unheard_weight() -> None:
    explained = explain_pool(
        pool(POPULAR, {1: 1.0, 2: 2.0, 3: 3.0}), [False, True, False], 0, answers=True
    )
    assert (explained.recommender, explained.answers, explained.population) == (POPULAR, True, 3)
    assert explained.rows == [(1, 1.0, False, 0.25), (2, 2.0, True, 0.0), (3, 3.0, False, 0.75)]


def test_a_pool_heard_in_full_gives_no_chances() -> None:
    explained = explain_pool(pool(POPULAR, {1: 1.0, 2: 2.0}), [True, True], 0, answers=False)
    assert [chance for *_, chance in explained.rows] == [0.0, 0.0]


def test_an_empty_pool() -> None:
    assert explain_pool(pool(POPULAR, {}, pick=-1), [], 0, answers=False).rows == []


def test_a_sample_lists_its_proposals_and_its_population() -> None:
    explained = explain_pool(Sample(CATALOGUE, [5, 6], 100), [True, False], 4, answers=True)
    assert explained.population == 100
    assert explained.rows == [(5, 1.0, True, 0.0), (6, 1.0, False, 1 / 96)]


@pytest.mark.parametrize(
    ("policy", "last", "first", "switches", "why"),
    [
        ("ensemble", None, CONTEXTUAL, True, "a new session begins with contextual"),
        (
            "ensemble",
            CONTEXTUAL,
            PERSONAL,
            True,
            "contextual answered last and was heard for 0.5, below 0.7, "
            "so personal is first in line",
        ),
        (
            "ensemble",
            POPULAR,
            CONTEXTUAL,
            True,
            "popular answered last, so contextual is first in line",
        ),
        ("personal", PERSONAL, PERSONAL, False, "the policy personal always asks personal first"),
        ("random", None, CATALOGUE, False, "the policy random always asks catalogue first"),
    ],
)
def test_why_speaks_of_a_switch_only_where_there_is_one(
    policy: str, last: str | None, first: str, switches: bool, why: str
) -> None:
    explained = Explanation(policy, "v1", last, first, first, [], switches=switches)
    said = render(explained, Report(1, 3, 0.5, "request"), Source(small_table(5), "v1"), 0.7)
    assert said["why"] == why
