"""What is sent of a plan when it is thought to be known who answered last."""

from itertools import pairwise

import pytest

from recsvc.policy import CONTEXTUAL, PERSONAL, POPULAR, Plan
from recsvc.redis.guesses import Guesses, likely_pools
from recsvc.session import UNSURE, Last
from tests.support import pool, three_pools


@pytest.mark.parametrize(
    ("last", "sent"),
    [
        (UNSURE, (0, 1)),
        (Last(None), (0,)),
        (Last(CONTEXTUAL), (0,)),
        (Last(PERSONAL), (1,)),
        (Last(POPULAR), (0,)),
        (Last(CONTEXTUAL, spent=True), (0,)),
        (Last(PERSONAL, spent=True), (~1, 0)),
    ],
)
def test_the_one_that_is_asked_first_is_sent(last: Last, sent: tuple[int, ...]) -> None:
    assert likely_pools(three_pools(), last) == sent


def test_where_it_has_nothing_the_next_goes_along() -> None:
    plan = three_pools()
    empty = Plan((pool(CONTEXTUAL, {}), *plan.pools[1:]), plan.routes)
    assert likely_pools(empty, Last(None)) == (0, 1)
    assert likely_pools(empty, Last(PERSONAL)) == (1,)
    assert likely_pools(empty, Last(None, spent=True)) == (0, ~1, 2)


def test_who_is_wrong_again_and_again_guesses_ever_less() -> None:
    guesses, wrong = Guesses(), list[int]()
    for claim in range(100_000):
        if guesses.pools(three_pools(), Last(PERSONAL)) == (1,):
            wrong.append(claim)
            guesses.wrong()
    apart = [later - before for before, later in pairwise(wrong)]
    assert apart == [101, 201, 401, 801, 1601, 3201, 6401, *[10_001] * (len(apart) - 7)]


def test_who_is_right_for_a_while_trusts_itself_again() -> None:
    guesses = Guesses()
    for _ in range(5):
        guesses.wrong()
    for _ in range(3200 + 3200):
        guesses.pools(three_pools(), Last(PERSONAL))
        guesses.right(1)
    guesses.wrong()
    sent = [guesses.pools(three_pools(), Last(PERSONAL)) for _ in range(101)]
    assert sent == [*[(0, 1)] * 100, (1,)]
