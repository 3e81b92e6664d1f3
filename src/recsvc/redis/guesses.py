"""Which pools of a plan are worth sending, by a guess at who answered the listener last.

A wrong guess costs a round trip, so after one none are made for some claims: twice as many after
each, and one less after each right one. So a worker that shares its listeners with workers on
other machines, and is often wrong, hardly guesses.
"""

from recsvc.policy import PERSONAL, Plan, Pool
from recsvc.session import UNSURE, Last

__all__ = ["Guesses", "likely_pools"]

_LEAST, _MOST = 100, 10_000


def likely_pools(plan: Plan, last: Last) -> tuple[int, ...]:
    """Return the pools of a plan that are worth sending when `last` is thought to have been last.

    That is as a rule the one that is asked first: to make a list of candidates and to send it
    costs a tenth of an answer. One that is empty is sent with the next in turn, and so is a
    personal one that is thought to be spent, of which only the name is: `~number` stands for it.
    """
    if last is UNSURE:
        return plan.routes.first
    route = plan.routes.after(last.recommender)
    if last.spent:
        route = tuple([~n if plan.pools[n].recommender == PERSONAL else n for n in route])
    for count, number in enumerate(route, 1):
        if number >= 0:
            pool = plan.pools[number]
            if not isinstance(pool, Pool) or len(pool.candidates):
                return route[:count]
    return route


class Guesses:
    """Makes guesses, and learns how they went."""

    def __init__(self) -> None:
        self._doubt = 0  # claims that are yet to be made without a guess
        self._next = _LEAST

    def pools(self, plan: Plan, last: Last) -> tuple[int, ...]:
        """Return the pools to send for the next claim."""
        if self._doubt:
            self._doubt -= 1
            last = UNSURE
        return likely_pools(plan, last)

    def wrong(self) -> None:
        """Hear that other pools were asked for."""
        self._doubt, self._next = self._next, min(2 * self._next, _MOST)

    def right(self, count: int) -> None:
        """Hear that so many claims had what they needed."""
        if not self._doubt:
            self._next = max(self._next - count, _LEAST)
