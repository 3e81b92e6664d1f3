"""What /explain says of one pool."""

from recsvc.explanation import explain_pool
from recsvc.policy import CATALOGUE, POPULAR, Sample
from tests.support import pool


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
